"""The report on some rows: scores, p-values, the columns at fault, and what to doubt."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hybridflow.novelty.scores import SCORES

if TYPE_CHECKING:
    import polars as pl

Floats = NDArray[np.float64]

_ROWS = 20
_COLUMNS = 3
_ON = {
    "calibration": "{rows:g} rows that no member has seen; a usual row has p <= alpha with a "
    "probability of alpha at most",
    "folds": "the rows that each member was stopped early on, {rows:g} or more, by the harmonic "
    "mean over members; a usual row has p <= alpha with a probability of about alpha",
    "training": "the training rows, since none were held out; p-values are too small",
}


@dataclass(frozen=True)
class NoveltyReport:
    """How unusual rows are by each score, and which columns make them so.

    Parameters
    ----------
    columns : tuple of str
        The D columns that carry a density.
    scores : dict of str to ndarray of shape (n,)
        By name; higher is more unusual.
    pvalues : dict of str to ndarray of shape (n,)
        By name, with ``"combined"``.
    contributions : ndarray of shape (n, D), or None
        In nats: how much of -log p(x) goes away if the cell of this column alone is
        replaced by the most usual of some values drawn from the model; near 0 for a cell that
        could hardly be more usual. None if the flow cannot sample.
    source : {"calibration", "folds", "training"}
        What p-values rest on.
    rows : float
        How many.

    Notes
    -----
    Contributions are of one cell changed at a time, by the model's own beliefs. They are no
    causes, and do not sum to the score. Where two columns are strange only together both are
    named, since changing either mends the row; where either one alone would still be strange,
    neither change helps much, and all contributions are small beside the score.

    Examples
    --------
    See `hybridflow.FlowDensity.novelty_report`.
    """

    columns: tuple[str, ...]
    scores: dict[str, Floats]
    pvalues: dict[str, Floats]
    contributions: Floats | None
    source: str
    rows: float

    def __len__(self) -> int:
        return len(self.pvalues["combined"])

    @property
    def basis(self) -> str:
        """What the p-values rest on, in words."""
        return _ON[self.source].format(rows=self.rows)

    def strangest(self, row: int, count: int = _COLUMNS) -> list[tuple[str, float]]:
        """Return the columns that contribute most to the score of a row, with their nats."""
        if self.contributions is None:
            return []
        order = np.argsort(-self.contributions[row], kind="stable")[:count]
        return [(self.columns[j], float(self.contributions[row, j])) for j in order]

    def to_frame(self) -> pl.DataFrame:
        """Return one row per row: scores, p-values, and the contribution of each column.

        Returns
        -------
        polars.DataFrame
            Columns ``score_*``, ``p_*`` and ``nats_*``.
        """
        import polars as pl

        table = {f"score_{name}": values for name, values in self.scores.items()}
        table |= {f"p_{name}": values for name, values in self.pvalues.items()}
        if self.contributions is not None:
            table |= {
                f"nats_{name}": self.contributions[:, j] for j, name in enumerate(self.columns)
            }
        return pl.DataFrame(table)

    def _lines(self) -> tuple[list[str], list[list[str]]]:
        names = list(self.pvalues)
        head = ["row", *(f"p {name}" for name in names), "unusual columns (nats)"]
        body = []
        for row in range(min(len(self), _ROWS)):
            cells = [f"{self.pvalues[name][row]:.3g}" for name in names]
            blamed = [f"{name} ({nats:.1f})" for name, nats in self.strangest(row) if nats > 1]
            body.append([str(row), *cells, ", ".join(blamed) or "-"])
        return head, body

    def _caveats(self) -> list[str]:
        return [f"{name} = {SCORES[name].formula}: {SCORES[name].fails}." for name in self.scores]

    def __str__(self) -> str:
        head, body = self._lines()
        widths = [max(map(len, cells)) for cells in zip(head, *body, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in (head, *body)
        ]
        if len(self) > _ROWS:
            lines.append(f"... {len(self) - _ROWS} more rows in to_frame()")
        return "\n".join(
            [
                *lines,
                "",
                f"p-values rest on {self.basis}.",
                "Nats: what replacing this one cell takes off -log p(x); not a cause.",
                "Where each score is known to fail:",
                *(f"- {caveat}" for caveat in self._caveats()),
            ]
        )

    def _repr_html_(self) -> str:
        head, body = self._lines()
        rows = [f"<tr>{''.join(f'<th>{html.escape(cell)}</th>' for cell in head)}</tr>"]
        rows += [
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
            for cells in body
        ]
        caveats = "".join(f"<li>{html.escape(caveat)}</li>" for caveat in self._caveats())
        more = f"<p>{len(self) - _ROWS} more rows in to_frame()</p>" if len(self) > _ROWS else ""
        return (
            f"<table>{''.join(rows)}</table>{more}"
            f"<p>p-values rest on {html.escape(self.basis)}.</p>"
            f"<details><summary>Where each score is known to fail</summary><ul>{caveats}</ul>"
            "</details>"
        )
