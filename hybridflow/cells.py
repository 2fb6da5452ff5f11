"""One column of cells: the numbers it holds, or why it cannot be used."""

from __future__ import annotations

import datetime
import decimal
import numbers
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from numpy.typing import NDArray

from hybridflow.errors import InputError, InputTypeError

Numbers = NDArray[np.float64]

NOT_YET = "columns of this kind are not supported yet: encode it as numbers or leave it out"
COMPLEX = "Complex data not supported: pass real and imaginary parts as columns of their own"
_DATES = (datetime.date, datetime.time, np.datetime64)
_SPANS = (datetime.timedelta, np.timedelta64)


def read_series(series: nw.Series[Any], name: str) -> Numbers:
    """Return the numbers in a column of a frame, NaN where a cell is missing.

    Parameters
    ----------
    series : narwhals.Series of length n
    name : str
        Of the column, for messages.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    InputError
        If the column holds dates, text, categories or anything else that is
        not a number.

    Examples
    --------
    >>> import narwhals.stable.v2 as nw, polars
    >>> from hybridflow.cells import read_series
    >>> read_series(nw.from_native(polars.Series([1, None, 3]), series_only=True), "age")
    array([ 1., nan,  3.])
    """
    dtype = series.dtype
    if isinstance(dtype, nw.Boolean) or (dtype.is_numeric() and not isinstance(dtype, nw.Decimal)):
        return np.asarray(series.cast(nw.Float64).to_numpy(), dtype=np.float64)
    if isinstance(dtype, nw.Categorical | nw.Enum):
        raise InputError(f"column {name!r} is categorical ({dtype}): {NOT_YET}")
    if isinstance(dtype, nw.String):
        raise InputError(_about_text(series.to_list(), name))
    if isinstance(dtype, nw.Object):
        return read_objects(series.to_list(), name)
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
        return np.full(len(series), np.nan)
    raise InputError(f"column {name!r} is of type {native}, which is not a number: {NOT_YET}")


def read_objects(cells: list[Any], name: str) -> Numbers:
    """Return the numbers in a column of Python objects, NaN where one is missing.

    Parameters
    ----------
    cells : list of length n
    name : str
        Of the column, for messages.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    InputError
        Naming the first cell that is not a number.

    Examples
    --------
    >>> from hybridflow.cells import read_objects
    >>> read_objects([1, 2.5, None, True], "age")
    array([1. , 2.5, nan, 1. ])
    """
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
            raise _not_a_number(cell, row, cells, name)
    return values


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


def _not_a_number(cell: Any, row: int, cells: list[Any], name: str) -> InputError:
    kind = type(cell).__name__
    if isinstance(cell, complex | np.complexfloating):
        return InputError(f"{COMPLEX} (column {name!r}, row {row})")
    if isinstance(cell, str):
        if all(isinstance(other, str) or is_missing(other) for other in cells):
            return InputError(_about_text(cells, name))
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


def _about_text(cells: list[Any], name: str) -> str:
    texts = [cell for cell in cells if isinstance(cell, str)]
    try:
        [float(text) for text in texts]
    except ValueError:
        return (
            f"column {name!r} holds text, first {texts[0]!r}: {NOT_YET}, "
            "for example with sklearn.preprocessing.OneHotEncoder"
        )
    return f"column {name!r} holds numbers written as text; convert it: X[{name!r}].astype(float)"
