"""Tables in: a numpy array, a pandas or polars frame, or nested lists as columns of cells.

`read_table` reads numbers and levels or says which column cannot be used and why.
What the columns are to a model is `hybridflow.schema`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from hybridflow.cells import COMPLEX, UNUSABLE, Factor, Numbers, read_objects, read_series
from hybridflow.errors import InputError, InputTypeError

Matrix = NDArray[np.float64]
Container = Literal["numpy", "pandas", "polars"]

_ROWS = 2**16  # that are looked at together, so that no mask is as long as the table


@dataclass(frozen=True)
class Table:
    """A table as it was read.

    Parameters
    ----------
    values : ndarray of shape (n, d)
        Numbers, and positions in the levels of their column; NaN where a cell
        is missing.
    dtypes : list of str
        What each column was read from.
    factors : dict of int to Factor
        The columns of levels, by position.
    natives : list of str
        What pandas calls these types; empty for other tables.
    """

    values: Matrix
    dtypes: list[str]
    factors: dict[int, Factor]
    natives: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)


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


def read_table(X: Any, *, declared: Collection[int] = ()) -> Table:
    """Read the columns of a table.

    Parameters
    ----------
    X : array-like, pandas.DataFrame or polars.DataFrame of shape (n, d)
    declared : collection of int
        Positions of columns that are categorical whatever their type.

    Returns
    -------
    Table
        Its values are X itself if that is a matrix in C order.

    Raises
    ------
    InputError
        If a column cannot be used, a cell is infinite, or there are too few
        rows or columns.

    Examples
    --------
    >>> from hybridflow.table import read_table
    >>> table = read_table([[1, "a"], [3, "b"]])
    >>> table.values.tolist(), table.factors[1].levels
    ([[1.0, 0.0], [3.0, 1.0]], ('a', 'b'))
    """
    table = _read_frame(X, declared) if is_frame(X) else _read_array(_as_array(X), declared)
    n, d = table.values.shape
    if n == 0:
        raise InputError(
            f"Found array with 0 sample(s) (shape={table.values.shape}) while a minimum of 1 is "
            "required."
        )
    if d == 0:
        raise InputError(
            f"Found array with 0 feature(s) (shape={table.values.shape}) while a minimum of 1 is "
            "required."
        )
    _check_infinite(table.values, [str(name) for name in names_of(X, d)])
    return table


def read_matrix(X: Any) -> Matrix:
    """Return a table of numbers, none of them missing.

    Raises
    ------
    InputError
        As `read_table`, and if a column holds levels or a cell is missing.

    Examples
    --------
    >>> from hybridflow.table import read_matrix
    >>> read_matrix([[1, 2], [3, 4.5]])
    array([[1. , 2. ],
           [3. , 4.5]])
    """
    table = read_table(X)
    names = [str(name) for name in names_of(X, table.values.shape[1])]
    if table.factors:
        raise InputError(f"column {names[min(table.factors)]!r} holds no numbers")
    refuse_missing(table.values, names)
    return table.values


def names_of(X: object, width: int) -> list[Any]:
    """Return the column names of a frame, ``x0`` and so on for anything else.

    Examples
    --------
    >>> from hybridflow.table import names_of
    >>> names_of([[1.0, 2.0]], 2)
    ['x0', 'x1']
    """
    return column_names(X) or [f"x{i}" for i in range(width)]


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


def refuse_missing(values: Matrix, names: list[str]) -> None:
    """Raise if a cell is missing, naming columns, counts and first rows.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.table import refuse_missing
    >>> refuse_missing(np.array([[1.0, 2.0]]), ["a", "b"])
    """
    _refuse(values, names, np.isnan, "NaN", "drop these rows, or use missing='auto'")


def _check_infinite(values: Matrix, names: list[str]) -> None:
    starts = range(0, len(values), _ROWS)
    if not all(np.isfinite(values[start : start + _ROWS]).all() for start in starts):
        _refuse(values, names, np.isinf, "infinity", "replace or drop these rows")


def _refuse(
    values: Matrix, names: list[str], test: Callable[[Matrix], Any], what: str, fix: str
) -> None:
    bad = test(values)
    columns = np.flatnonzero(bad.any(axis=0))
    if not len(columns):
        return
    places = []
    for j in columns[:5]:
        count, row = int(bad[:, j].sum()), int(bad[:, j].argmax())
        places.append(f"column {names[j]!r} ({count}, first at row {row})")
    more = f" and {len(columns) - 5} more columns" if len(columns) > 5 else ""
    raise InputError(f"Input X contains {what}: {', '.join(places)}{more}; {fix}")


def _read_frame(X: Any, declared: Collection[int]) -> Table:
    names = list(X.columns)
    check_unique(names)
    frame = nw.from_native(X, eager_only=True)
    values, dtypes = np.empty((len(frame), len(names))), []
    factors: dict[int, Factor] = {}
    for i, name in enumerate(names):
        series = frame[name] if isinstance(name, str) else nw.from_native(X[name], series_only=True)
        column = read_series(series, str(name), declared=i in declared)
        values[:, i] = _placed(column, i, factors)
        dtypes.append(str(series.dtype))
    pandas = container_of(X) == "pandas"
    return Table(values, dtypes, factors, list(map(str, X.dtypes)) if pandas else [])


def _placed(column: Numbers | Factor, i: int, factors: dict[int, Factor]) -> Numbers:
    """Return the values of a column, noting it if it is one of levels."""
    if not isinstance(column, Factor):
        return column
    factors[i] = column
    return np.where(column.codes < 0, np.nan, column.codes)


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
        if array.dtype.kind in "US" and not hasattr(X, "dtype"):
            array = np.asarray(X, dtype=object)  # numpy had turned numbers into text
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


def _read_array(array: NDArray[Any], declared: Collection[int]) -> Table:
    kind, dtype = array.dtype.kind, str(array.dtype.newbyteorder("="))
    d, factors = array.shape[1], dict[int, Factor]()
    if kind in "fiu" and not declared:
        with np.errstate(over="ignore"):  # of a longdouble: becomes infinity, and so is refused
            values = np.ascontiguousarray(array, dtype=np.float64)
    elif kind == "c":
        raise InputError(COMPLEX)
    elif kind in "fiubOUSMm":
        dtype = "object" if kind in "OUS" else dtype
        values = np.empty(array.shape)
        for j in range(d):
            if kind in "fiu" and j not in declared:
                values[:, j] = array[:, j]
                continue
            cells = list(array[:, j]) if kind in "Mm" else array[:, j].tolist()
            column = read_objects(cells, f"x{j}", declared=j in declared)
            values[:, j] = _placed(column, j, factors)
    else:
        raise InputError(f"X is of type {array.dtype}: {UNUSABLE}")
    return Table(values, [dtype] * d, factors)
