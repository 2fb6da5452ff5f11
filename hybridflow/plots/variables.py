"""Columns of two tables, data and samples, made ready to be drawn beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from hybridflow.errors import InputError

Floats = NDArray[np.float64]
MOST_LEVELS = 8
OTHER, MISSING = "other", "missing"
_MOST_STEPS = 15


@dataclass(frozen=True)
class Variable:
    """One column of the data and of the samples, on one scale.

    Parameters
    ----------
    name : str
    data, samples : ndarray of shape (n,)
        Numbers, NaN where a cell is missing; of a category, the position of its level.
    levels : tuple of str
        The levels of a category, the most frequent of the data first; none for numbers.
    """

    name: str
    data: Floats
    samples: Floats
    levels: tuple[str, ...] = ()

    @property
    def limits(self) -> tuple[float, float]:
        """Where to draw: the range of the data and of all but 1 % of the samples."""
        if self.levels:
            return -0.5, len(self.levels) - 0.5
        parts = [values[np.isfinite(values)] for values in (self.data, self.samples)]
        ends = [np.quantile(parts[1], [0.005, 0.995])] if len(parts[1]) else []
        ends += [np.array([parts[0].min(), parts[0].max()])] if len(parts[0]) else []
        if not ends:
            return 0.0, 1.0
        low, high = float(np.min(ends)), float(np.max(ends))
        margin = 0.04 * (high - low) or 0.5
        return low - margin, high + margin

    @property
    def in_steps(self) -> bool:
        """Whether it is a category, or whole numbers in a narrow range."""
        finite = self.data[np.isfinite(self.data)]
        low, high = self.limits
        whole = len(finite) > 0 and bool(np.all(finite == np.floor(finite)))
        return bool(self.levels) or (whole and high - low < _MOST_STEPS)

    @property
    def edges(self) -> Floats:
        """Bounds of the bins of a histogram, a bin for each whole number where they are few."""
        low, high = self.limits
        if self.in_steps:
            return np.arange(np.floor(low + 0.5) - 0.5, np.ceil(high - 0.5) + 1.5)
        inside = self.data[(self.data >= low) & (self.data <= high)]
        bins = np.histogram_bin_edges(inside, "auto", (low, high)) if len(inside) else np.array([])
        return np.linspace(low, high, int(np.clip(len(bins), 10, 30)) + 1)


def read_variables(data: Any, samples: Any, columns: Sequence[str | int]) -> list[Variable]:
    """Return columns of both tables.

    Parameters
    ----------
    data, samples : array-like of shape (n, d)
        Arrays, or pandas or polars frames.
    columns : sequence of str or int
        Names, or positions.

    Returns
    -------
    list of Variable

    Raises
    ------
    InputError
        If a column is not there, or holds neither numbers nor categories.
    """
    first, second = _columns(data, "X"), _columns(samples, "samples")
    names = list(first)
    if set(names) != set(second):
        raise InputError(f"samples have the columns {list(second)}, X has {names}")
    found = []
    for column in columns:
        if isinstance(column, int | np.integer) and -len(names) <= column < len(names):
            name = names[column]
        elif column in first:
            name = str(column)
        else:
            raise InputError(f"columns: there is no column {column!r}; there are {names}")
        found.append(_variable(name, first[name], second[name]))
    return found


def _columns(table: Any, what: str) -> dict[str, NDArray[Any]]:
    """Return the columns of a table by name: float64, or objects where they are categories."""
    if nw.dependencies.is_into_dataframe(table):
        frame = nw.from_native(table, eager_only=True)
        return {str(name): _cells_of_series(frame[name]) for name in frame.columns}
    array = np.asarray(table)
    if array.ndim != 2:
        raise InputError(f"{what} must be a table of two dimensions, got shape {array.shape}")
    return {f"x{i}": _cells(array[:, i]) for i in range(array.shape[1])}


def _cells_of_series(series: nw.Series[Any]) -> NDArray[Any]:
    if series.dtype.is_numeric():
        return np.asarray(series.cast(nw.Float64).fill_null(np.nan).to_numpy(), dtype=np.float64)
    if series.dtype.is_temporal():
        raise InputError(
            f"column {series.name!r} holds {series.dtype}, which this display does not draw; "
            "choose others with columns="
        )
    return _cells(np.array(series.to_list(), dtype=object))


def _cells(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers as float64 with NaN for None, anything else as text with None kept."""
    if values.dtype.kind not in "bOUST":
        return values.astype(np.float64)
    cells = values.tolist()
    numbers = all(
        cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool))
        for cell in cells
    )
    if numbers and any(cell is not None for cell in cells):
        return values.astype(np.float64)
    missing = [cell is None or cell != cell for cell in cells]
    text = [None if gone else str(cell) for cell, gone in zip(cells, missing, strict=True)]
    return np.array(text, dtype=object)


def _variable(name: str, data: NDArray[Any], samples: NDArray[Any]) -> Variable:
    if data.dtype.kind == samples.dtype.kind == "f":
        return Variable(name, data, samples)
    texts = [_texts(values) for values in (data, samples)]
    known, counts = np.unique(texts[0], return_counts=True)
    frequent = known[np.argsort(-counts, kind="stable")].tolist()
    extra = sorted(set(texts[1]) - set(frequent))
    levels = frequent + extra
    if len(levels) > MOST_LEVELS:
        levels = [*levels[: MOST_LEVELS - 1], OTHER]
    place = {level: float(i) for i, level in enumerate(levels)}
    rest = place.get(OTHER, np.nan)
    codes = [np.array([place.get(text, rest) for text in column]) for column in texts]
    return Variable(name, codes[0], codes[1], tuple(levels))


def _texts(values: NDArray[Any]) -> list[str]:
    """Return each cell of a category as text, missing ones by a name of their own."""
    if values.dtype.kind == "f":
        return [MISSING if np.isnan(value) else f"{value:g}" for value in values.tolist()]
    return [MISSING if value is None else value for value in values.tolist()]
