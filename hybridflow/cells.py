"""One column of cells: the numbers or the levels it holds, or why it cannot be used."""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from hybridflow.errors import InputError, InputTypeError

Numbers = NDArray[np.float64]

Level = bool | int | float | str

UNUSABLE = "encode it as numbers or text, or leave it out"
COMPLEX = "Complex data not supported: pass real and imaginary parts as columns of their own"
_DATES = (datetime.date, datetime.time, np.datetime64)
_SPANS = (datetime.timedelta, np.timedelta64)


@dataclass(frozen=True)
class Factor:
    """A column of levels.

    Parameters
    ----------
    codes : ndarray of int, shape (n,)
        Position in `levels`, -1 where a cell is missing.
    levels : tuple of bool, int, float or str
        Those that occur, sorted, or in the order of the column's own type.
    categories : tuple of bool, int, float or str
        All that the column's type has room for; empty for types without such a list.
    typed : bool
        Whether the type of the column says that it is categorical.

    Examples
    --------
    >>> from hybridflow.cells import read_objects
    >>> factor = read_objects(["b", "a", None, "b"], "letter")
    >>> factor.levels, factor.codes.tolist()
    (('a', 'b'), [1, 0, -1, 1])
    """

    codes: NDArray[np.int64]
    levels: tuple[Level, ...]
    categories: tuple[Level, ...] = ()
    typed: bool = False

    def recoded(self, levels: Sequence[Level], missing: int, other: int) -> Numbers:
        """Return codes into other levels; one code for missing cells, one for all else."""
        place = {level: code for code, level in enumerate(levels)}
        codes = [*(place.get(level, other) for level in self.levels), missing]
        return np.array(codes, dtype=np.float64)[self.codes]


def read_series(series: nw.Series[Any], name: str, *, declared: bool = False) -> Numbers | Factor:
    """Return the numbers in a column of a frame, NaN where a cell is missing, or its levels.

    Text, booleans and categorical types are levels.

    Parameters
    ----------
    series : narwhals.Series of length n
    name : str
        Of the column, for messages.
    declared : bool
        Whether the column is categorical whatever its type.

    Returns
    -------
    ndarray of shape (n,), or Factor

    Raises
    ------
    InputError
        If the column holds dates or anything else that is neither.

    Examples
    --------
    >>> import narwhals.stable.v2 as nw, polars
    >>> from hybridflow.cells import read_series
    >>> read_series(nw.from_native(polars.Series([1, None, 3]), series_only=True), "age")
    array([ 1., nan,  3.])
    """
    dtype = series.dtype
    numeric = dtype.is_numeric() and not isinstance(dtype, nw.Decimal)
    if isinstance(dtype, nw.Boolean) or (numeric and declared):
        return _factor(series.to_list(), name)
    if numeric:
        return np.asarray(series.cast(nw.Float64).to_numpy(), dtype=np.float64)
    if isinstance(dtype, nw.Categorical | nw.Enum):
        order = series.cat.get_categories().to_list()
        return _factor(series.to_list(), name, order)
    if isinstance(dtype, nw.String | nw.Object):
        return read_objects(series.to_list(), name, declared=declared)
    native = str(series.to_native().dtype)
    if isinstance(dtype, nw.Datetime | nw.Date | nw.Time):
        raise InputError(_about_date(name, native))
    if isinstance(dtype, nw.Duration):
        raise InputError(_about_span(name, native))
    if native.startswith("complex"):
        raise InputError(f"{COMPLEX} (column {name!r})")
    if native.startswith("Sparse"):
        raise InputTypeError(
            f"Sparse data was passed in column {name!r} ({native}), but dense data is required. "
            "Use X.sparse.to_dense() to convert it."
        )
    if native == "Null":
        return read_objects([None] * len(series), name, declared=declared)
    raise InputError(f"column {name!r} is of type {native}, which is not a number: {UNUSABLE}")


def read_objects(cells: list[Any], name: str, *, declared: bool = False) -> Numbers | Factor:
    """Return the numbers in a column of Python objects, NaN where one is missing, or its levels.

    Parameters
    ----------
    cells : list of length n
    name : str
        Of the column, for messages.
    declared : bool
        Whether the column is categorical whatever it holds.

    Returns
    -------
    ndarray of shape (n,), or Factor
        Levels where all cells are text, or all are booleans.

    Raises
    ------
    InputError
        Naming the first cell that is no number.

    Examples
    --------
    >>> from hybridflow.cells import read_objects
    >>> read_objects([1, 2.5, None, True], "age")
    array([1. , 2.5, nan, 1. ])
    """
    if declared:
        return _factor(cells, name)
    known = [cell for cell in cells if not is_missing(cell)]
    if known and all(isinstance(cell, str) for cell in known):
        if all(is_number(text) for text in known):
            raise InputError(_about_text(name))
        return _factor(cells, name)
    if known and all(isinstance(cell, bool | np.bool_) for cell in known):
        return _factor(cells, name)
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        if is_missing(cell):
            values[row] = np.nan
        elif isinstance(cell, numbers.Real | np.bool_) and not isinstance(cell, np.timedelta64):
            try:
                values[row] = float(cell)
            except OverflowError:
                raise InputError(
                    f"column {name!r} holds a whole number beyond the range of float64 at row "
                    f"{row}: rescale the column or take its logarithm"
                ) from None
        else:
            raise _not_a_number(cell, row, name)
    return values


def _factor(cells: list[Any], name: str, order: list[Any] | None = None) -> Factor:
    """Return cells as levels, in the order of a type or sorted."""
    plain: list[Any] = [
        None if is_missing(cell) else getattr(cell, "item", lambda c=cell: c)() for cell in cells
    ]
    for row, cell in enumerate(plain):
        if cell is not None and not isinstance(cell, Level):
            kind = type(cell).__name__
            raise InputError(
                f"column {name!r} holds a {kind} at row {row}, which is no level; levels are text, "
                f"numbers or booleans: X[{name!r}].astype(str)"
            )
        if cell in (math.inf, -math.inf):
            raise InputError(
                f"Input X contains infinity: column {name!r}, first at row {row}; replace or drop "
                "these rows"
            )
    found: set[Any] = set(plain) - {None}
    if order is None:
        try:
            levels = tuple(sorted(found))
        except TypeError:
            text = next(cell for cell in found if isinstance(cell, str))
            raise InputError(
                f"column {name!r} mixes numbers and text, first {text!r} at row "
                f"{plain.index(text)}; make it one type: X[{name!r}].astype(str)"
            ) from None
        categories: tuple[Level, ...] = ()
    else:
        categories = tuple(getattr(level, "item", lambda c=level: c)() for level in order)
        levels = tuple(level for level in categories if level in found)
    place: dict[Any, int] = {level: code for code, level in enumerate(levels)} | {None: -1}
    codes = np.fromiter((place[cell] for cell in plain), dtype=np.int64, count=len(plain))
    return Factor(codes, levels, categories, typed=order is not None)


def is_number(text: str) -> bool:
    """Return whether a text is a number.

    Examples
    --------
    >>> from hybridflow.cells import is_number
    >>> [is_number(text) for text in ("1.5", "1e3", "three")]
    [True, True, False]
    """
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_missing(cell: Any) -> bool:
    """Return whether a cell is None, NaN, NaT or NA.

    Examples
    --------
    >>> from hybridflow.cells import is_missing
    >>> [is_missing(cell) for cell in (None, float("nan"), 0, "")]
    [True, True, False, False]
    """
    if isinstance(cell, numbers.Number):
        return bool(cell != cell)
    if isinstance(cell, np.datetime64):
        return bool(np.isnat(cell))
    return cell is None or repr(cell) in ("<NA>", "NaT")


def _not_a_number(cell: Any, row: int, name: str) -> InputError:
    kind = type(cell).__name__
    if isinstance(cell, complex | np.complexfloating):
        return InputError(f"{COMPLEX} (column {name!r}, row {row})")
    if isinstance(cell, str):
        return InputError(
            f"column {name!r} mixes numbers and text, first {cell!r} at row {row}; every cell must "
            f"be a number: pandas.to_numeric(X[{name!r}], errors='coerce') marks the others"
        )
    if isinstance(cell, _SPANS):
        return InputError(_about_span(name, kind))
    if isinstance(cell, _DATES):
        return InputError(_about_date(name, kind))
    if isinstance(cell, decimal.Decimal):
        return InputError(
            f"column {name!r} holds Decimal numbers; convert it: X[{name!r}].astype(float)"
        )
    return InputTypeError(
        f"column {name!r}: argument must be a string or a number, got {kind} {str(cell)[:80]} at "
        f"row {row}; every cell must be a number"
    )


def _about_date(name: str, dtype: str) -> str:
    return (
        f"column {name!r} is a date; turn it into numbers first, for example "
        f"X[{name!r}].dt.dayofyear or the seconds since a fixed day (its type is {dtype})"
    )


def _about_span(name: str, dtype: str) -> str:
    return (
        f"column {name!r} is a timedelta; turn it into numbers first, for example "
        f"X[{name!r}].dt.total_seconds() (its type is {dtype})"
    )


def _about_text(name: str) -> str:
    return (
        f"column {name!r} holds numbers written as text; convert it: X[{name!r}].astype(float), "
        f"or declare what it is: columns={{{name!r}: Categorical()}}"
    )
