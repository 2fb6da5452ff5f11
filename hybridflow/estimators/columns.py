"""What the caller declares of the columns: where their values may lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridflow.audit import lattice_step
from hybridflow.column import Column, described
from hybridflow.errors import ConfigError, InputError, closest
from hybridflow.specs import Categorical, Circle, Interval, Positive, Real
from hybridflow.table import Matrix, column_names

Declared = Real | Positive | Interval | Circle | Categorical

_KINDS: dict[str, type[Declared]] = {
    "real": Real,
    "positive": Positive,
    "interval": Interval,
    "circle": Circle,
    "categorical": Categorical,
}
_EXPECTED = "Positive(), Interval(low=0, high=1), Circle(period=24), Categorical() or Real()"


def read_columns(columns: Any, X: Any, width: int) -> dict[int, Declared]:
    """Return the declared supports by the position of their column.

    Parameters
    ----------
    columns : mapping or None
        From names of columns, or positions where they have none, to supports.
    X : table
        That the columns belong to.
    width : int
        Its number of columns.

    Raises
    ------
    ConfigError
        If `columns` is no mapping, a key is no column of X, or a value no
        support.

    Examples
    --------
    >>> from hybridflow import Positive
    >>> from hybridflow.estimators.columns import read_columns
    >>> read_columns({1: Positive()}, [[1.0, 2.0]], 2)
    {1: Positive(kind='positive')}
    """
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise ConfigError(
            f"columns: expected a dict from columns to what they hold, got {columns!r:.80}; "
            'write {"price": Positive()}'
        )
    names = column_names(X)
    known = list(range(width)) if names is None else names
    declared: dict[int, Declared] = {}
    for key, support in columns.items():
        if isinstance(key, bool) or key not in known:
            raise ConfigError(f"columns: {_unknown(key, names, width)}")
        if not isinstance(support, Declared):
            hint = f": write {support.__name__}(...)" if isinstance(support, type) else ""
            raise ConfigError(
                f"columns: expected {_EXPECTED} for {key!r}, got {support!r:.80}{hint}"
            )
        declared[known.index(key)] = support
    return declared


def _unknown(key: Any, names: list[Any] | None, width: int) -> str:
    if names is None:
        return (
            f"{key!r} is no column of an array of {width} columns; name them by their positions, "
            f"0 to {width - 1}"
        )
    texts = [str(name) for name in names]
    shown = ", ".join(texts[:10]) + (", ..." if len(texts) > 10 else "")
    return f"{key!r} is no column of X, which has {shown}{closest(str(key), texts)}"


def on_circles(values: Matrix, declared: Mapping[int, Declared]) -> Matrix:
    """Return the table with circles wrapped to their first period, from 0 on.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow import Circle
    >>> from hybridflow.estimators.columns import on_circles
    >>> on_circles(np.array([[-1.0], [24.0]]), {0: Circle(period=24)}).ravel().tolist()
    [23.0, 0.0]
    """
    circles = {j: s.period for j, s in declared.items() if isinstance(s, Circle)}
    if not circles:
        return values
    values = values.copy()
    for j, period in circles.items():
        wrapped = np.mod(values[:, j], period)
        values[:, j] = np.where(wrapped == period, 0.0, wrapped)  # by rounding; NaN stays
    return values


def declare(
    columns: tuple[Column, ...], values: Matrix, declared: Mapping[int, Declared]
) -> tuple[Column, ...]:
    """Return the audited columns with their supports.

    A lattice on a circle has to close: its step is made to divide the period,
    and where it cannot be, the column counts as smoothed.

    Parameters
    ----------
    columns : tuple of Column
        From `hybridflow.audit.audit`.
    values : ndarray of shape (n, d)
        The rows that were audited, with circles wrapped.
    declared : mapping of int to support
    """
    placed = list(columns)
    for j, support in declared.items():
        if isinstance(support, Categorical) or placed[j].kind == "empty":
            continue
        if placed[j].levels and placed[j].dtype.lower() != "float64":
            raise ConfigError(
                f"columns: {placed[j].name!r} holds levels, such as {placed[j].levels[0]!r}, and "
                f"{described(support)} is for numbers; leave it out of columns="
            )
        column = placed[j].replace(support=support)
        if isinstance(support, Circle) and column.lattice:
            known = values[~np.isnan(values[:, j]), j]
            step = lattice_step(np.append(known, column.origin + support.period))
            closes = step > 0 and support.period < 2 * step * len(known)
            column = column.replace(step=step) if closes else column.replace(lattice=False)
        placed[j] = column
    return tuple(placed)


def check_bounds(values: Matrix, rows: NDArray[np.intp], columns: tuple[Column, ...]) -> None:
    """Refuse values outside the support of their column, and continuous ones on a bound.

    Parameters
    ----------
    values : ndarray of shape (n, d)
    rows : ndarray of int
        Those that count.
    columns : tuple of Column

    Raises
    ------
    InputError
        Naming column, value, row, support and what to do.
    """
    for j, column in enumerate(columns):
        low, high = column.support.bounds
        cells = values[rows, j]
        outside = (cells < low) | (cells > high)
        if outside.any():
            raise InputError(
                f"{_first(column, cells, rows, outside)}, outside its support, "
                f"{described(column.support)}; correct or drop these rows, or leave the column "
                "out of columns="
            )
        touching = (cells == low) | (cells == high)
        if touching.any() and column.kind == "continuous":
            raise InputError(
                f"{_first(column, cells, rows, touching)}, on a bound of its support, "
                f"{described(column.support)}, where a continuous column has no density; drop "
                "these rows, widen the support, or round the column so that values repeat and "
                "count as cells"
            )


def _first(
    column: Column, cells: NDArray[np.float64], rows: NDArray[np.intp], bad: NDArray[np.bool_]
) -> str:
    at, count = int(bad.argmax()), int(bad.sum())
    more = f" (and such values in {count - 1} more rows)" if count > 1 else ""
    return f"column {column.name!r} holds {cells[at]:g} at row {rows[at]}{more}"


def to_json(columns: Mapping[Any, Declared]) -> list[list[Any]]:
    """Return the parameter as plain JSON: pairs of column and support."""
    return [
        [getattr(key, "item", lambda key=key: key)(), support.model_dump(mode="json")]
        for key, support in columns.items()
    ]


def from_json(pairs: list[list[Any]]) -> dict[Any, Declared]:
    """Return the parameter that `to_json` described."""
    return {key: _KINDS[support["kind"]].from_json(support) for key, support in pairs}
