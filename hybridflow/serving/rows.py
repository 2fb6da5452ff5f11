"""From the columns of a request to the table that the model reads, checking every cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from hybridflow.cells import Factor
from hybridflow.column import Column
from hybridflow.errors import closest
from hybridflow.estimators.base import FlowEstimator
from hybridflow.serving.payload import ABSENT, Payload
from hybridflow.serving.refusal import RefusedError
from hybridflow.table import Table

_TRUTH = {"true": True, "True": True, "false": False, "False": False}
_LEFT_OUT = ("constant", "empty")


class Rows:
    """Reads the rows of requests for one model.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
        Fitted.
    ignore_extra : bool
        Whether unknown columns are left out.
    """

    def __init__(self, estimator: FlowEstimator, *, ignore_extra: bool) -> None:
        self.columns = estimator.schema_.columns
        self.named = estimator.schema_.named
        self.ignore_extra = ignore_extra

    def read(self, payload: Payload) -> tuple[Table, list[str]]:
        """Return the table of a request, and what there is to warn of.

        Raises
        ------
        RefusedError
            400, naming column and row.
        """
        given, notes = self._by_name(payload) if self.named else self._by_position(payload)
        values = np.full((payload.rows, len(self.columns)), np.nan)
        factors: dict[int, Factor] = {}
        for j, (column, mine) in enumerate(zip(self.columns, given, strict=True)):
            if mine is None or column.kind in _LEFT_OUT:
                continue
            cells = _read_column(column, mine, payload.text)
            if _kind(column) == "text":
                factors[j] = _factor(cells)
                values[:, j] = np.where(factors[j].codes < 0, np.nan, factors[j].codes)
            else:
                values[:, j] = np.array(cells, dtype=np.float64)  # None is NaN
        return Table(values, [column.dtype for column in self.columns], factors), notes

    def _by_name(self, payload: Payload) -> tuple[list[list[Any] | None], list[str]]:
        known = [column.name for column in self.columns]
        if payload.names is None:
            raise RefusedError(
                400, f"the model knows its columns by name: send them, {_listed(known)}"
            )
        given = dict(zip(payload.names, payload.columns, strict=True))
        extra = [name for name in given if name not in set(known)]
        missing = [
            column.name
            for column in self.columns
            if column.name not in given and not _may_miss(column)
        ]
        if missing:
            named = [f"{name!r}{closest(name, extra)}" for name in missing[:5]]
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise RefusedError(400, f"columns are missing: {', '.join(named)}{more}")
        if extra and not self.ignore_extra:
            raise RefusedError(
                400, f"columns that the model does not know: {_listed(extra)}; leave them out"
            )
        notes = [f"columns that the model does not know: {_listed(extra)}"] if extra else []
        return [given.get(name) for name in known], notes

    def _by_position(self, payload: Payload) -> tuple[list[list[Any] | None], list[str]]:
        if len(payload.columns) != len(self.columns):
            raise RefusedError(
                400,
                f"the rows have {len(payload.columns)} columns, the model was fitted on "
                f"{len(self.columns)}",
            )
        return list(payload.columns), []


def _kind(column: Column) -> Literal["truth", "text", "number"]:
    """Return what the cells of a column are."""
    if column.levels and all(isinstance(level, bool) for level in column.levels):
        return "truth"
    return "text" if any(isinstance(level, str) for level in column.levels) else "number"


def _factor(cells: list[Any]) -> Factor:
    levels = sorted({cell for cell in cells if cell is not None})
    place: dict[str | None, int] = {level: code for code, level in enumerate(levels)}
    place[None] = -1
    codes = np.array([place[cell] for cell in cells], dtype=np.int64)
    return Factor(codes, tuple(levels))


def _may_miss(column: Column) -> bool:
    """Return whether a cell may be null: such cells were missing in training, or are not used."""
    return column.missing > 0 or column.kind in _LEFT_OUT


def _read_column(column: Column, cells: list[Any], text: bool) -> list[Any]:
    """Return the cells of a column in its type, None where they are missing."""
    read = _READERS[_kind(column), text]
    found: list[Any] = []
    for row, cell in enumerate(cells):
        if cell is None or cell is ABSENT:
            if not _may_miss(column):
                what = "missing" if cell is ABSENT else "null"
                raise RefusedError(
                    400,
                    f"column {column.name!r} is {what} at row {row}, and no cell of it was "
                    "missing in training",
                )
            found.append(None)
            continue
        try:
            found.append(read(cell))
        except (TypeError, ValueError, OverflowError) as error:
            raise RefusedError(400, f"column {column.name!r}, row {row}: {error}") from None
    return found


def _number(cell: Any) -> float:
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        raise TypeError(f"expected a number, got {cell!r:.80}")
    try:
        number = float(cell)
    except OverflowError:
        raise OverflowError("the number is too large") from None
    if not math.isfinite(number):
        raise ValueError("the number is too large")
    return number


def _number_of_text(cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"expected a number, got {cell!r:.80}") from None
    if not math.isfinite(number):
        raise ValueError(f"{cell!r:.80} is not finite; leave the cell empty if it is missing")
    return number


def _truth(cell: Any) -> bool:
    if not isinstance(cell, bool):
        raise TypeError(f"expected true or false, got {cell!r:.80}")
    return cell


def _truth_of_text(cell: str) -> bool:
    if cell not in _TRUTH:
        raise ValueError(f"expected true or false, got {cell!r:.80}")
    return _TRUTH[cell]


def _text(cell: Any) -> str:
    if not isinstance(cell, str):
        raise TypeError(f"expected text, got {cell!r:.80}")
    return cell


_READERS: dict[tuple[str, bool], Callable[[Any], Any]] = {
    ("number", False): _number,
    ("number", True): _number_of_text,
    ("truth", False): _truth,
    ("truth", True): _truth_of_text,
    ("text", False): _text,
    ("text", True): _text,
}
"""How a cell is read, of JSON and of CSV, where all cells are text."""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{', '.join(f'{name!r:.80}' for name in names[:5])}{more}"
