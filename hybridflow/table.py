"""Tables in, tables out: what a column holds, and how it enters the density.

`read_matrix` turns a numpy array, a pandas or polars frame, or nested lists
into a float64 matrix or says which column cannot be used and why. `Schema`
records what the audit found: constant columns stay out of the density, tied
columns are dequantised, dependent columns get a noise floor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from hybridflow.cells import COMPLEX, NOT_YET, read_objects, read_series
from hybridflow.config import Config
from hybridflow.errors import InputError, InputTypeError
from hybridflow.specs import Circle, Real, Support

Matrix = NDArray[np.float64]
Container = Literal["numpy", "pandas", "polars"]

_ROWS = 2**16  # that are looked at together, so that no mask is as long as the table
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
    support : Real, Positive, Interval or Circle
        Where its values may lie, as it was declared.

    Examples
    --------
    >>> from hybridflow.table import Column
    >>> Column(name="age", dtype="int64", kind="tied", step=1.0, lattice=True, origin=18.0).step
    1.0
    """

    name: str
    dtype: str
    kind: Literal["continuous", "tied", "dependent", "constant"]
    step: float = 0.0
    lattice: bool = False
    origin: float = 0.0
    support: Support = Real()


class Schema(Config):
    """The columns of a table and the kind of container it came in.

    Parameters
    ----------
    columns : tuple of Column
        In the order of the table.
    container : {"numpy", "pandas", "polars"}
    named : bool
        Whether the columns had names that are text.

    Examples
    --------
    >>> from hybridflow.table import Column, Schema
    >>> schema = Schema(
    ...     columns=(
    ...         Column(name="height", dtype="float64", kind="continuous"),
    ...         Column(name="planet", dtype="int64", kind="constant", origin=3.0),
    ...     ),
    ... )
    >>> schema.kept, schema.of_kind("constant")
    ([0], ['planet'])
    """

    columns: tuple[Column, ...]
    container: Container = "numpy"
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
            if len({column.dtype for column in self.columns}) > 1:
                return values
            cast = [_cast(values[:, i], column) for i, column in enumerate(self.columns)]
            return np.stack(cast, axis=1)
        native = __import__(self.container)  # pandas or polars, by the Literal above
        return native.DataFrame(
            {
                name: _cast(values[:, i], column)
                for i, (name, column) in enumerate(zip(self.labels, self.columns, strict=True))
            }
        )

    @property
    def labels(self) -> list[str | int]:
        """The names of the columns, whole numbers where the table was numbered."""
        names = [column.name for column in self.columns]
        numbered = not self.named and all(name.isdecimal() for name in names)
        return [int(name) for name in names] if numbered else list(names)

    def expand(self, kept: Matrix) -> Matrix:
        """Put the constant columns back beside the kept ones."""
        values = np.empty((len(kept), len(self.columns)))
        values[:, self.kept] = kept
        for i, column in enumerate(self.columns):
            if column.kind == "constant":
                values[:, i] = column.origin
        return values


def _cast(values: NDArray[np.float64], column: Column) -> NDArray[Any]:
    """Return the values of a column in its type, without rounding them out of its support."""
    name = column.dtype.lower()
    if name.startswith("bool"):
        return values > 0.5
    if name in ("float16", "float32"):
        return _rounded(values.astype(name), column)
    if name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        bounds = np.iinfo(name)
        return np.clip(np.rint(values), bounds.min, bounds.max).astype(name)
    return values


def _rounded(values: NDArray[Any], column: Column) -> NDArray[Any]:
    """Return values of a narrow type, moved back by a digit where they reached a bound."""
    if isinstance(column.support, Circle):
        return np.where(values < column.support.period, values, values.dtype.type(0))
    if column.lattice:
        return values
    low, high = (values.dtype.type(end) for end in column.support.bounds)
    inside: NDArray[Any] = np.clip(values, np.nextafter(low, high), np.nextafter(high, low))
    return inside


def is_frame(X: object) -> bool:
    """Return whether X is a pandas or polars data frame.

    Parameters
    ----------
    X : object

    Examples
    --------
    >>> from hybridflow.table import is_frame
    >>> is_frame([[1.0]])
    False
    """
    return nw.dependencies.is_pandas_dataframe(X) or nw.dependencies.is_polars_dataframe(X)


def container_of(X: object) -> Container:
    """Return the library of a frame, ``"numpy"`` for anything else.

    Parameters
    ----------
    X : object

    Examples
    --------
    >>> import polars
    >>> from hybridflow.table import container_of
    >>> container_of(polars.DataFrame({"a": [1]}))
    'polars'
    """
    if nw.dependencies.is_polars_dataframe(X):
        return "polars"
    return "pandas" if nw.dependencies.is_pandas_dataframe(X) else "numpy"


def column_names(X: object) -> list[Any] | None:
    """Return the column names of a frame, None for anything else.

    Parameters
    ----------
    X : object

    Examples
    --------
    >>> import polars
    >>> from hybridflow.table import column_names
    >>> column_names(polars.DataFrame({"a": [1], "b": [2]}))
    ['a', 'b']
    """
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
        In C order; X itself if it is such a matrix.
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
        values, dtypes = _read_array(_as_array(X))
    n, d = values.shape
    if n < minimum:
        raise InputError(
            f"Found array with {n} sample(s) (shape={values.shape}) while a minimum of "
            f"{minimum} is required."
        )
    if d == 0:
        raise InputError(
            f"Found array with 0 feature(s) (shape={values.shape}) while a minimum of 1 is "
            "required."
        )
    names = [str(name) for name in column_names(X) or [f"x{i}" for i in range(d)]]
    _check_finite(values, names)
    return values, dtypes


def check_unique(names: list[Any]) -> None:
    """Raise if a column name occurs twice.

    Parameters
    ----------
    names : list

    Raises
    ------
    InputError
        Naming those that do.

    Examples
    --------
    >>> from hybridflow.table import check_unique
    >>> check_unique(["a", "b", "a"])
    Traceback (most recent call last):
        ...
    hybridflow.errors.InputError: column names must be unique, repeated: a
    """
    repeated = sorted(str(name) for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise InputError(f"column names must be unique, repeated: {', '.join(repeated)}")


def _check_finite(values: Matrix, names: list[str]) -> None:
    starts = range(0, len(values), _ROWS)
    if all(np.isfinite(values[start : start + _ROWS]).all() for start in starts):
        return
    for what, bad, fix in (
        ("infinity", np.isinf(values), "replace or drop these rows"),
        ("NaN", np.isnan(values), _IMPUTE),
    ):
        columns = np.flatnonzero(bad.any(axis=0))
        if not len(columns):
            continue
        places = []
        for j in columns[:5]:
            count, row = int(bad[:, j].sum()), int(bad[:, j].argmax())
            seen = "no observed value" if what == "NaN" and count == len(values) else f"{count}"
            places.append(f"column {names[j]!r} ({seen}, first at row {row})")
        more = f" and {len(columns) - 5} more columns" if len(columns) > 5 else ""
        raise InputError(f"Input X contains {what}: {', '.join(places)}{more}; {fix}")


def _read_frame(X: Any) -> tuple[Matrix, list[str]]:
    names = list(X.columns)
    check_unique(names)
    frame = nw.from_native(X, eager_only=True)
    values, dtypes = np.empty((len(frame), len(names))), []
    for i, name in enumerate(names):
        series = frame[name] if isinstance(name, str) else nw.from_native(X[name], series_only=True)
        values[:, i] = read_series(series, str(name))
        dtypes.append(str(series.dtype))
    return values, dtypes


def _as_array(X: Any) -> NDArray[Any]:
    """Return an array of two dimensions, or say what X is instead of a table."""
    if X is None:
        raise InputError("X is None; expected a table of shape (n_samples, n_features)")
    kind = f"{type(X).__module__.partition('.')[0]}.{type(X).__name__}"
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
    if nw.dependencies.is_polars_lazyframe(X):
        raise InputTypeError(f"X is a {kind}, which holds no rows yet: pass X.collect()")
    if nw.dependencies.is_into_dataframe(X):
        raise InputTypeError(f"X is a {kind}; pass a pandas or polars frame, such as X.to_pandas()")
    if hasattr(X, "detach"):  # a tensor, maybe on a device or of a type that numpy lacks
        X = X.detach().cpu()
        X = X.float() if "bfloat16" in str(X.dtype) else X
    if isinstance(X, np.ma.MaskedArray):
        X = np.ma.filled(X.astype(np.float64), np.nan)
    if not hasattr(X, "__array__") and hasattr(X, "__dlpack__"):
        X = np.from_dlpack(X)
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise InputError(f"X is not rectangular: rows differ in length ({error})") from None
    except TypeError as error:
        raise InputTypeError(f"X cannot be read as an array: {error}") from None
    if array.ndim == 0 and array.dtype.kind == "O":
        raise InputTypeError(f"X is a {kind}; expected a table of shape (n_samples, n_features)")
    if array.ndim != 2:
        fix = "array.reshape(-1, 1) if your data has a single feature or array.reshape(1, -1)"
        raise InputError(
            f"Expected 2D array, got {array.ndim}D array instead (shape={array.shape}). "
            f"Reshape your data either using {fix} if it contains a single sample."
        )
    return array


def _read_array(array: NDArray[Any]) -> tuple[Matrix, list[str]]:
    kind, dtype = array.dtype.kind, str(array.dtype.newbyteorder("="))
    if kind in "fiub":
        with np.errstate(over="ignore"):  # of a longdouble: becomes infinity, and so is refused
            values = np.ascontiguousarray(array, dtype=np.float64)
    elif kind == "c":
        raise InputError(COMPLEX)
    elif kind in "OUSMm":
        dtype = "object" if kind in "OUS" else dtype
        values = np.empty(array.shape)
        for j in range(array.shape[1]):
            cells = list(array[:, j]) if kind in "Mm" else array[:, j].tolist()
            values[:, j] = read_objects(cells, f"x{j}")
    else:
        raise InputError(f"X is of type {array.dtype}: {NOT_YET}")
    return values, [dtype] * array.shape[1]
