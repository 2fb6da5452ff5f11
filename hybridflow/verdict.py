"""What the audit of a fitted model found, as plain data that a file can keep."""

from __future__ import annotations

import sys

from hybridflow.config import Config
from hybridflow.errors import InexactModelError

INFINITE = sys.float_info.max
"""Stands for infinity, which JSON does not have."""

REMEDY = (
    "Fit with another flow, fewer layers or a lower training__learning_rate; "
    "estimator.audit(X) measures it again"
)
"""What to do about a bad audit."""


class Finding(Config):
    """One thing that was measured.

    Parameters
    ----------
    name : str
    value : float or None
        None if it could not be measured or is not claimed; `note` says why.
    unit : str
        ``"relative"``: to the larger of one and the largest entry of a row, in
        standard deviations. ``"share"``: of rows. ``"nats"``.
    limit : float or None
        The largest value that is good; None if it is only reported.
    ok : bool
    note : str

    Examples
    --------
    >>> from hybridflow.verdict import Finding
    >>> Finding(name="not finite", value=0.0, unit="share", limit=0.0, ok=True).ok
    True
    """

    name: str
    value: float | None
    unit: str
    limit: float | None
    ok: bool
    note: str = ""

    @property
    def shown(self) -> str:
        """The value as text, without its unit."""
        if self.value is None:
            return "not measured"
        return "infinite" if abs(self.value) == INFINITE else f"{self.value:.2g}"

    def __str__(self) -> str:
        """Return the finding in one line."""
        unit = f" {self.unit}" if self.unit else ""
        limit = "" if self.limit is None else f", at most {self.limit:.2g} is good"
        return f"{self.name}: {self.shown}{unit}{limit}{f' ({self.note})' if self.note else ''}"


class Audit(Config):
    """What an audit of a model found.

    Parameters
    ----------
    rows : int
        How many it was audited on.
    findings : tuple of Finding
        Of several members, the worst of each kind.

    Examples
    --------
    >>> from hybridflow.verdict import Audit, Finding
    >>> lost = Finding(name="not finite", value=0.5, unit="share", limit=0.0, ok=False)
    >>> audit = Audit(rows=2, findings=(lost,))
    >>> audit.ok, audit["not finite"].value
    (False, 0.5)
    """

    rows: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing bad was found."""
        return not self.bad

    @property
    def bad(self) -> tuple[Finding, ...]:
        """What is not as it must be."""
        return tuple(finding for finding in self.findings if not finding.ok)

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of this name."""
        return next(finding for finding in self.findings if finding.name == name)

    def check(self) -> None:
        """Refuse a model that is not what it says it is.

        Raises
        ------
        InexactModelError
            Naming all that is bad.
        """
        if not self.ok:
            raise InexactModelError(
                f"the audit of {self.rows} rows found the model inexact: "
                f"{'; '.join(map(str, self.bad))}. {REMEDY}"
            )
