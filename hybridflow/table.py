"""Tables in, tables out: what a column holds, and how it enters the density.

`read_matrix` turns a numpy array, a pandas or polars frame, or nested lists
into a float64 matrix or says which column cannot be used and why. `Schema`
records what the audit found: constant columns stay out of the density, tied
columns are dequantised, dependent columns get a noise floor.
"""

from __future__ import annotations

import decimal
import numbers
from collections.abc import Iterator
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from hybridflow.config import Config
from hybridflow.errors import InputError, InputTypeError

Matrix = NDArray[np.float64]

_NOT_YET = "columns of this kind are not supported yet: encode it as numbers or leave it out"
_IMPUTE = (
    "missing cells are not supported yet: drop these rows or put "
    "sklearn.impute.SimpleImputer() in front"
)


class Column(Config):
    """What the audit found out about one column.

    Parameters
    ----------
    name : str
        Name in the table, ``"x0"`` and so on for arrays.
    dtype : str
        The type that was read; everything is computed in float64.
    kind : {"continuous", "tied", "dependent", "constant"}
        Continuous columns have a density. Tied ones repeat their values and
        are dequantised; dependent ones follow from the columns before them
        and get a noise floor; constant ones are left out.
    step : float
        Width of the uniform noise of the density view; 0 for none.
    lattice : bool
        Whether all values lie on ``origin + k * step``, so that the score of
        a cell is a mass and samples are rounded.
    origin : float
        A value on the lattice, or the value of a constant column.
    """

    name: str
    dtype: str
    kind: Literal["continuous", "tied", "dependent", "constant"]
    step: float = 0.0
    lattice: bool = False
    origin: float = 0.0


class Schema(Config):
    """The columns of a table and the kind of container it came in."""

    columns: tuple[Column, ...]
    container: Literal["numpy", "pandas", "polars"] = "numpy"
    named: bool = False

    @property
    def kept(self) -> list[int]:
        """Positions of the columns that carry a density."""
        return [i for i, column in enumerate(self.columns) if column.kind != "constant"]

    def of_kind(self, kind: str) -> list[str]:
        """Return the names of the columns of one kind."""
        return [column.name for column in self.columns if column.kind == kind]

    def frame(self, values: Matrix) -> Any:
        """Return rows in the container, with the names and types, of the training table."""
        if self.container == "numpy":
            return values
        native = __import__(self.container)  # pandas or polars, by the Literal above
        data = {c.name: _cast(values[:, i], c.dtype) for i, c in enumerate(self.columns)}
        return native.DataFrame(data)

    def expand(self, kept: Matrix) -> Matrix:
        """Put the constant columns back beside the kept ones."""
        values = np.empty((len(kept), len(self.columns)))
        values[:, self.kept] = kept
        for i, column in enumerate(self.columns):
            if column.kind == "constant":
                values[:, i] = column.origin
        return values


def _cast(values: Matrix, dtype: str) -> NDArray[Any]:
    name = dtype.lower()
    if name.startswith("bool"):
        return values > 0.5
    if name.startswith(("int", "uint")):
        bounds = np.iinfo(name)
        return np.clip(np.rint(values), bounds.min, bounds.max).astype(name)
    return values.astype(np.float32) if name == "float32" else values


def is_frame(X: object) -> bool:
    """Return whether X is a pandas or polars data frame."""
    return nw.dependencies.is_pandas_dataframe(X) or nw.dependencies.is_polars_dataframe(X)


def column_names(X: object) -> list[Any] | None:
    """Return the column names of a frame, None for anything else."""
    return list(X.columns) if is_frame(X) else None  # type: ignore[attr-defined]


def read_matrix(X: Any, *, minimum: int = 1) -> tuple[Matrix, list[str]]:
    """Turn a table into a float64 matrix.

    Parameters
    ----------
    X : array-like, pandas.DataFrame or polars.DataFrame of shape (n, d)
    minimum : int, default=1
        Fewest rows that are accepted.

    Returns
    -------
    values : ndarray of shape (n, d)
    dtypes : list of str
        What each column was read from.

    Raises
    ------
    InputError
        If a column cannot be used, a cell is missing or infinite, or there
        are too few rows or columns.

    Examples
    --------
    >>> from hybridflow.table import read_matrix
    >>> read_matrix([[1, 2], [3, 4.5]])
    (array([[1. , 2. ],
           [3. , 4.5]]), ['float64', 'float64'])
    """
    if is_frame(X):
        values, dtypes = _read_frame(X)
    else:
        values, dtypes = _read_array(X)
    n, d = values.shape
    if n < minimum:
        raise InputError(
            f"Found array with {n} sample(s) (shape={values.shape}) while a minimum of "
            f"{minimum} is required."
        )
    if d == 0:
        raise InputError(
            f"Found array with 0 feature(s) (shape={values.shape}) while a minimum of 1 is required."
        )
    names = [str(name) for name in column_names(X) or [f"x{i}" for i in range(d)]]
    _check_finite(values, names)
    return values, dtypes


def _check_finite(values: Matrix, names: list[str]) -> None:
    if np.isfinite(values).all():
        return
    for what, bad, fix in (
        ("infinity", np.isinf(values), "replace or drop these rows"),
        ("NaN", np.isnan(values), _IMPUTE),
    ):
        if not bad.any():
            continue
        places = [
            f"column {names[j]!r} ({int(bad[:, j].sum())}, first at row {int(bad[:, j].argmax())})"
            for j in np.flatnonzero(bad.any(axis=0))[:5]
        ]
        raise InputError(f"Input X contains {what}: {', '.join(places)}; {fix}")


def _read_frame(X: Any) -> tuple[Matrix, list[str]]:
    names = list(X.columns)
    repeated = sorted({str(name) for name in names if names.count(name) > 1})
    if repeated:
        raise InputError(f"column names must be unique, repeated: {', '.join(repeated)}")
    frame = nw.from_native(X, eager_only=True)
    columns, dtypes = [], []
    for name in names:
        series = frame[name] if isinstance(name, str) else nw.from_native(X[name], series_only=True)
        columns.append(_read_series(series, str(name)))
        dtypes.append(str(series.dtype))
    values = np.column_stack(columns) if columns else np.empty((len(frame), 0))
    return values.astype(np.float64, copy=False), dtypes


def _read_series(series: nw.Series[Any], name: str) -> Matrix:
    dtype = series.dtype
    if dtype.is_numeric() and not isinstance(dtype, nw.Decimal):
        return _numbers(series.to_numpy() if not series.is_null().any() else _nullable(series))
    if isinstance(dtype, nw.Boolean):
        return _numbers(_nullable(series))
    if isinstance(dtype, nw.Datetime | nw.Date | nw.Time | nw.Duration):
        raise InputError(
            f"column {name!r} is a date or time ({dtype}); turn it into numbers first, for "
            f"example X[{name!r}].dt.dayofyear or the seconds since a fixed day"
        )
    if isinstance(dtype, nw.Categorical | nw.Enum):
        raise InputError(f"column {name!r} is categorical ({dtype}): {_NOT_YET}")
    cells = series.to_list()
    if isinstance(dtype, nw.String):
        raise InputError(_about_text(cells, name))
    if isinstance(dtype, nw.Object):
        return _read_objects(cells, name)
    raise InputError(f"column {name!r} is of type {dtype}, which is not a number: {_NOT_YET}")


def _numbers(values: Any) -> Matrix:
    array = np.asarray(values)
    if np.iscomplexobj(array):
        raise InputError("Complex data not supported: pass real and imaginary parts as columns")
    return array.astype(np.float64)


def _nullable(series: nw.Series[Any]) -> Matrix:
    return np.array([np.nan if cell is None else float(cell) for cell in series.to_list()])


def _about_text(cells: list[Any], name: str) -> str:
    texts = [cell for cell in cells if isinstance(cell, str)]
    try:
        [float(text) for text in texts]
    except ValueError:
        return (
            f"column {name!r} holds text, first {texts[0]!r}: {_NOT_YET}, "
            "for example with sklearn.preprocessing.OneHotEncoder"
        )
    return f"column {name!r} holds numbers written as text; convert it: X[{name!r}].astype(float)"


def _read_objects(cells: list[Any], name: str) -> Matrix:
    """Read a column of Python objects that are all numbers."""
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        if cell is None or (isinstance(cell, float) and np.isnan(cell)) or repr(cell) == "<NA>":
            values[row] = np.nan
        elif isinstance(cell, numbers.Real | np.bool_) and not isinstance(cell, decimal.Decimal):
            values[row] = float(cell)
        elif isinstance(cell, complex):
            raise InputError(f"Complex data not supported: column {name!r}, row {row}")
        elif isinstance(cell, str) and all(isinstance(c, str) or c is None for c in cells):
            raise InputError(_about_text(cells, name))
        else:
            raise InputTypeError(
                f"column {name!r}: argument must be a string or a number, got "
                f"{type(cell).__name__} {cell!r} at row {row}; every cell must be a number"
            )
    return values


def _read_array(X: Any) -> tuple[Matrix, list[str]]:
    if X is None:
        raise InputError("X is None; expected a table of shape (n_samples, n_features)")
    if scipy.sparse.issparse(X):
        raise InputTypeError(
            "Sparse data was passed for X, but dense data is required. "
            "Use '.toarray()' to convert to a dense numpy array."
        )
    if isinstance(X, dict | str | bytes | set):
        raise InputTypeError(
            f"X is a {type(X).__name__}; expected a table, for example pandas.DataFrame(X)"
        )
    if isinstance(X, Iterator):
        raise InputTypeError(f"X is a {type(X).__name__}, which can be read once: pass list(X)")
    if isinstance(X, np.matrix):
        raise InputTypeError("np.matrix is not supported; convert it with np.asarray(X)")
    if hasattr(X, "detach"):
        X = X.detach().cpu()
    if isinstance(X, np.ma.MaskedArray):
        X = X.filled(np.nan) if X.dtype.kind == "f" else X.astype(np.float64).filled(np.nan)
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise InputError(f"X is not rectangular: rows differ in length ({error})") from None
    except TypeError as error:
        raise InputTypeError(f"X cannot be read as an array: {error}") from None
    if array.ndim != 2:
        fix = "array.reshape(-1, 1) if your data has a single feature or array.reshape(1, -1)"
        raise InputError(
            f"Expected 2D array, got {array.ndim}D array instead (shape={array.shape}). "
            f"Reshape your data either using {fix} if it contains a single sample."
        )
    if array.dtype.kind in "fiub":
        return array.astype(np.float64), [str(array.dtype.newbyteorder("="))] * array.shape[1]
    if array.dtype.kind == "c":
        raise InputError("Complex data not supported: pass real and imaginary parts as columns")
    if array.dtype.kind in "OUS":
        columns = [_read_objects(array[:, j].tolist(), f"x{j}") for j in range(array.shape[1])]
        values = np.column_stack(columns) if columns else np.empty(array.shape)
        return values, ["object"] * array.shape[1]
    raise InputError(f"X is of type {array.dtype}: {_NOT_YET}")
