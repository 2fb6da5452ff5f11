"""What an estimator keeps of held-out rows to say how unusual a new one is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from hybridflow.calibration import Fold
from hybridflow.config import Config
from hybridflow.errors import ConfigError, closest
from hybridflow.novelty.pvalues import conformal_pvalue, harmonic_mean, log_tail
from hybridflow.novelty.scores import COMBINED, SCORES, Fit, Reading

Floats = NDArray[np.float64]
Source = Literal["calibration", "folds", "training"]

TIES = 1e-6
"""Largest relative change of a p-value by which rows of equal rank are ordered."""

_ALL = "combined"


class Novelty(Config):
    """Scores of held-out rows, and p-values of new ones.

    Parameters
    ----------
    source : {"calibration", "folds", "training"}
        What p-values rank new rows among: rows that no member has seen; the rows
        that each member was stopped early on, each member by itself; or, in tables
        that held out none, the training rows, which makes them too small.
    fits : tuple of Fit
        For each member.
    references : dict of str to tuple of Fold
        For each score and each member, the rows that it has not been trained on.
    final : dict of str to Fold
        With calibration rows, for each score, their conformity by all members.

    Notes
    -----
    With ``"calibration"``, what members say is combined first and its rank among
    the calibration rows is the p-value: exact, :math:`P(p \\le \\alpha) \\le
    \\alpha`. With ``"folds"``, each member gives a p-value by its own rows, and their
    harmonic mean is taken; see `harmonic_mean`.

    Examples
    --------
    See `hybridflow.FlowDensity.novelty_pvalue`.
    """

    source: Source
    fits: tuple[Fit, ...]
    references: dict[str, tuple[Fold, ...]]
    final: dict[str, Fold] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for name, folds in self.references.items():
            if len(folds) != len(self.fits):
                raise ValueError(f"{len(folds)} references of {name!r} for {len(self.fits)} fits")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The scores at hand, ``"combined"`` first."""
        known = [*self.references, *self.final]
        return (_ALL, *(name for name in SCORES if name in known))

    @property
    def rows(self) -> float:
        """Rows that p-values rest on, by weight: of several members the fewest."""
        first = next(iter(self.references.values()))
        folds = [self.final[_ALL]] if self.source == "calibration" else first
        return float(min(fold.counts.sum() for fold in folds))

    def check_name(self, name: str) -> str:
        """Return the name of a score.

        Raises
        ------
        ConfigError
            If there is no such score, or none for this model.
        """
        if name in self.names:
            return name
        if name in SCORES:
            raise ConfigError(
                f"score {name!r} needs members=2 or more and calibration rows that none of them "
                "has seen: members=3, calibration=0.1"
            )
        raise ConfigError(
            f"score must be one of {', '.join(self.names)}, got {name!r}"
            f"{closest(str(name), self.names)}"
        )

    def scores(self, readings: Sequence[Reading]) -> dict[str, Floats]:
        """Return every score of rows by all members, higher for the more unusual."""
        names = [name for name in self.names if name != _ALL]
        return {name: SCORES[name](readings, self.fits) for name in names}

    def log_evidence(self, readings: Sequence[Reading], name: str = _ALL) -> Floats:
        """Return a smooth score of rows by all members, shape (n,): the lower, the stranger.

        The harmonic mean of what `log_tail` makes of the score of each member.
        ``"combined"`` takes several scores of each.
        """
        if name != _ALL and name not in self.references:
            return -SCORES[name](readings, self.fits)
        return harmonic_mean(
            [log_tail(fold, conformity) for fold, conformity in self._each(readings, _parts(name))]
        )

    def log_evidence_by(self, member: int, reading: Reading) -> Floats:
        """Return `log_evidence` by one member alone."""
        return harmonic_mean(
            [
                log_tail(
                    self.references[name][member], -SCORES[name]([reading], [self.fits[member]])
                )
                for name in COMBINED
            ]
        )

    def pvalue(
        self, readings: Sequence[Reading], name: str = _ALL, evidence: Floats | None = None
    ) -> Floats:
        """Return the p-value of rows by one score, shape (n,).

        Rows of equal rank are ordered by `log_evidence`, which lowers p-values by
        a share of `TIES` at most; it can be passed where it is known.
        """
        evidence = self.log_evidence(readings, name) if evidence is None else evidence
        if self.source == "calibration":
            p = conformal_pvalue(self.final[name], evidence)
        else:
            each = self._each(readings, _parts(name))
            p = np.exp(harmonic_mean([np.log(conformal_pvalue(*pair)) for pair in each]))
        return ordered(p, evidence)

    def threshold(self, alpha: float) -> float:
        """Return below which `log_evidence` a row is called unusual at this level.

        With calibration rows, exactly where the p-value is `alpha` or less; else the
        logarithm of `alpha`, since the evidence is itself a smooth p-value.
        """
        if self.source != "calibration":
            return math.log(alpha)
        fold = self.final[_ALL]
        known = np.asarray(fold.scores)
        usual = conformal_pvalue(fold, known) > alpha * (1 + 1e-12)
        if usual.all():
            return math.log(alpha)  # too few rows for this level
        first = float(known[usual.argmax()])
        return first - 1e-9 * (1 + abs(first))

    def _each(self, readings: Sequence[Reading], names: Sequence[str]) -> list[tuple[Fold, Floats]]:
        """Return, for each score and member, its reference rows and the conformity of rows."""
        return [
            (fold, -SCORES[name]([reading], [fit]))
            for name in names
            for fold, reading, fit in zip(self.references[name], readings, self.fits, strict=True)
        ]


def calibrate(
    source: Source,
    fits: Sequence[Fit],
    references: Sequence[tuple[Reading, Floats]],
    unseen: tuple[Sequence[Reading], Floats] | None,
) -> Novelty:
    """Return what is kept of held-out rows.

    Parameters
    ----------
    source : {"calibration", "folds", "training"}
    fits : sequence of Fit
        For each member.
    references : sequence of (Reading, ndarray of shape (n,))
        For each member, rows that it says something about, and their weights.
    unseen : (sequence of Reading, ndarray of shape (n,)) or None
        With ``"calibration"``: the rows that no member has seen, as each member
        reads them, and their weights.

    Returns
    -------
    Novelty
    """
    alone = [name for name, score in SCORES.items() if score.fewest_members == 1]
    found = Novelty(
        source=source,
        fits=tuple(fits),
        references={
            name: tuple(
                fold_of(member, -SCORES[name]([reading], [fits[member]]), weight)
                for member, (reading, weight) in enumerate(references)
            )
            for name in alone
        },
    )
    if unseen is None:
        return found
    readings, weight = unseen
    names = [_ALL, *(n for n, score in SCORES.items() if len(fits) >= score.fewest_members)]
    final: Mapping[str, Fold] = {
        name: fold_of(0, found.log_evidence(readings, name), weight) for name in names
    }
    return found.replace(final=dict(final))


def fold_of(member: int, conformity: Floats, weight: Floats) -> Fold:
    """Return reference rows; a file holds no infinite numbers."""
    return Fold.of((member,), np.clip(conformity, -1e300, 1e300), weight)


def ordered(p: Floats, evidence: Floats) -> Floats:
    """Return p-values lowered by a share of up to `TIES`, more for the stranger rows."""
    with np.errstate(over="ignore"):
        strangeness = np.log1p(np.maximum(-evidence, 0.0))
    share = np.where(np.isinf(strangeness), 1.0, strangeness / (1 + np.minimum(strangeness, 1e300)))
    return np.asarray(p * (1 - TIES * share))


def _parts(name: str) -> tuple[str, ...]:
    return COMBINED if name == _ALL else (name,)
