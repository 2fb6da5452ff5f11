"""Reading y: which rows are labelled, what the labels are, and what kind of number."""

from __future__ import annotations

import decimal
import math
import numbers
import warnings
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from hybridflow.audit import lattice_step
from hybridflow.cells import is_missing
from hybridflow.errors import ConstantTargetWarning, IndexMismatchWarning, InputError
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.specs import Target

_LARGEST = 1e100  # of y: its square is still far from the largest float64
_AS_NUMBERS = "convert it, for example with y.astype(float); for labels use HybridClassifier"
_LABELS: dict[str, tuple[type, ...]] = {
    "boolean": (bool, np.bool_),
    "number": (int, float, np.number),
    "text": (str,),
    "bytes": (bytes,),
}


@dataclass(frozen=True)
class Labels:
    """The labels of a classification.

    Parameters
    ----------
    classes : ndarray of shape (k,)
        Sorted, in the type in which they came.
    codes : ndarray of shape (n,)
        Position in `classes`; 0 where unlabelled.
    labelled : ndarray of shape (n,)
        Boolean.
    order : tuple of int
        Positions in `classes` from the lowest class to the highest, where y is
        an ordered pandas categorical or a polars Enum of another order; else empty.
    """

    classes: NDArray[Any]
    codes: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    order: tuple[int, ...] = ()


def read_labels(y: Any, n: int, unlabelled: Any, name: str) -> Labels:
    """Read the labels of a classification.

    Parameters
    ----------
    y : array-like of shape (n,)
        None, NaN and NA mark unlabelled rows.
    n : int
        Expected number of rows.
    unlabelled : object
        A further value that marks unlabelled rows, None for no such value.
    name : str
        Of the estimator, for messages.

    Returns
    -------
    Labels

    Raises
    ------
    InputError
        If y is missing, of the wrong length or type, or names fewer than two classes.
    """
    array = _one_column(y, n, name)
    labelled = ~_missing(array)
    if unlabelled is not None:
        labelled &= np.array([cell != unlabelled for cell in array.tolist()], dtype=bool)
    if not labelled.any():
        raise InputError("Input y contains NaN: no labelled row; at least one is needed")
    known = _plain(array[labelled], np.flatnonzero(labelled))
    if known.dtype.kind == "f" and np.isinf(known).any():
        row = int(np.flatnonzero(labelled)[np.isinf(known).argmax()])
        raise InputError(f"Input y contains infinity, first at row {row}")
    if known.dtype.kind == "c":
        raise InputError("Complex data not supported: y holds complex numbers")
    if known.dtype.kind in "MmV":
        raise InputError(
            f"Unknown label type: y is of type {known.dtype}; labels are text, whole numbers or "
            "booleans: y.astype(str)"
        )
    if known.dtype.kind != "S":  # which scikit-learn does not know
        try:
            check_classification_targets(known)
        except ValueError as error:
            raise InputError(f"{error} For numbers use HybridRegressor") from None
    classes, inverse = np.unique(known, return_inverse=True)
    codes = np.zeros(n, dtype=np.int64)
    codes[labelled] = inverse
    return Labels(classes, codes, labelled, _order(y, classes))


def read_numbers(y: Any, n: int, name: str) -> NDArray[np.float64]:
    """Read the target of a regression as float64; NaN marks unlabelled rows.

    Raises
    ------
    InputError
        If y is missing, of the wrong length or type, infinite, or all NaN.
    """
    array = _one_column(y, n, name)
    if array.dtype.kind == "c":
        raise InputError("Complex data not supported: y holds complex numbers")
    if array.dtype.kind in "fiub":
        values = array.astype(np.float64)
    elif array.dtype.kind in "MmVUS":
        what = "text" if array.dtype.kind in "US" else f"of type {array.dtype}"
        raise InputError(f"y must hold numbers, but it is {what}: {_AS_NUMBERS}")
    else:
        values = _from_objects(array)
    if np.isinf(values).any():
        raise InputError(f"Input y contains infinity, first at row {_first(np.isinf(values))}")
    known = np.abs(values[~np.isnan(values)])
    if not len(known):
        raise InputError("Input y contains NaN: no labelled row; at least one is needed")
    if known.max() > _LARGEST or 0 < known.max() < 1 / _LARGEST:
        raise InputError(
            f"y is of the size of {known.max():g}, whose square is not a number: rescale y to "
            f"between {1 / _LARGEST:g} and {_LARGEST:g}"
        )
    return values


def _from_objects(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return the numbers in an array of Python objects, NaN where one is missing."""
    values = np.full(len(array), np.nan)
    for row, cell in enumerate(array.tolist()):
        if is_missing(cell):
            continue
        try:
            if not isinstance(cell, numbers.Real | decimal.Decimal | np.bool_):
                raise TypeError
            values[row] = float(cell)
        except (TypeError, OverflowError):
            seen = f"{type(cell).__name__} {str(cell)[:40]}"
            raise InputError(
                f"y must hold numbers, got {seen} at row {row}: {_AS_NUMBERS}"
            ) from None
    return values


def classification_target(labels: Labels) -> Target:
    """Describe labels."""
    classes = tuple(
        label.decode("latin-1") if isinstance(label, bytes) else label
        for label in labels.classes.tolist()
    )
    return Target(kind="classification", classes=classes, order=labels.order)


def regression_target(y: NDArray[np.float64], weight: NDArray[np.float64]) -> Target:
    """Describe the numbers of a regression: weighted location and scale, and the step."""
    known = ~np.isnan(y)
    values, weight = y[known], weight[known]
    low, high = float(values.min()), float(values.max())
    share = weight / weight.sum()
    # From the lowest value on, so that a large mean costs no digits of the spread.
    rise = values - low
    mean = float(share @ rise)
    spread = math.sqrt(float(share @ (rise - mean) ** 2))
    largest = max(abs(low), abs(high))
    if high - low <= 8 * np.finfo(np.float64).eps * largest:
        warnings.warn(
            f"y is constant ({low:g}): the spread of its law is only a floor",
            ConstantTargetWarning,
            stacklevel=4,
        )
        return Target(kind="regression", location=(low,), scale=(largest or 1.0,))
    whole = largest < 2**52 and bool((values == np.rint(values)).all())
    return Target(
        kind="regression",
        location=(low + mean,),
        scale=(spread,),
        step=lattice_step(values) if whole else 0.0,
    )


def name_of(y: Any) -> str:
    """Return the name of a pandas or polars Series if that is a text, ``"y"`` for anything else."""
    name = getattr(y, "name", None)
    return str(name) if isinstance(name, str) and name else "y"


def batch_of_labels(labels: Labels) -> TargetBatch:
    """Return the labels as targets."""
    return TargetBatch(
        torch.as_tensor(labels.codes[:, None], dtype=torch.float64),
        torch.as_tensor(labels.labelled[:, None]),
    )


def batch_of_numbers(y: NDArray[np.float64]) -> TargetBatch:
    """Return the numbers as targets."""
    known = ~np.isnan(y)
    return TargetBatch(
        torch.as_tensor(np.where(known, y, 0.0)[:, None], dtype=torch.float64),
        torch.as_tensor(known[:, None]),
    )


def warn_if_reordered(X: Any, y: Any) -> None:
    """Warn if the index labels of two pandas objects are the same in another order."""
    left, right = getattr(X, "index", None), getattr(y, "index", None)
    if left is None or right is None or callable(left) or callable(right):
        return
    if len(left) == len(right) and not left.equals(right) and left.isin(right).all():
        warnings.warn(
            "X and y have the same index labels in another order; rows are paired by "
            "position. To pair by label: y = y.loc[X.index]",
            IndexMismatchWarning,
            stacklevel=4,
        )


def _one_column(y: Any, n: int, name: str) -> NDArray[Any]:
    if y is None:
        raise InputError(f"{name} requires y to be passed, but the target y is None")
    if hasattr(y, "detach"):
        y = y.detach().cpu()
    if hasattr(y, "toarray"):
        raise InputError("Sparse data was passed for y, but dense data is required: y.toarray()")
    try:
        if nw.dependencies.is_polars_series(y) and y.null_count():
            array = np.array(y.to_list(), dtype=object)  # polars would turn integers to floats
        else:
            array = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
        mixed = isinstance(y, list | tuple) and len({type(cell) for cell in y}) > 1
        if mixed and array.ndim == 1:
            array = np.array(y, dtype=object)  # numpy had turned all into text, or into numbers
        if isinstance(y, np.ma.MaskedArray):
            array = array.astype(object)
            array[np.ma.getmaskarray(y)] = None
    except ValueError as error:
        raise InputError(f"y should be a 1d array: {error}") from None
    if array.ndim == 2 and array.shape[1] == 1:
        warnings.warn(
            "A column-vector y was passed when a 1d array was expected. Please change the "
            "shape of y to (n_samples,), for example using ravel().",
            DataConversionWarning,
            stacklevel=5,
        )
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(f"y should be a 1d array, got an array of shape {array.shape} instead.")
    if len(array) != n:
        raise InputError(
            "Found input variables with inconsistent numbers of samples: "
            f"X has {n} rows, y has {len(array)}"
        )
    return array


def _order(y: Any, classes: NDArray[Any]) -> tuple[int, ...]:
    """Return the positions of the classes in the order that the type of y gives them."""
    if nw.dependencies.is_polars_series(y):
        polars = nw.from_native(y, series_only=True).dtype
        categories = list(polars.categories) if isinstance(polars, nw.Enum) else []
    else:
        dtype: Any = getattr(y, "dtype", None)
        categories = list(dtype.categories) if getattr(dtype, "ordered", False) else []
    labels = classes.tolist()
    if not set(labels) <= set(categories):
        return ()
    order = sorted(range(len(labels)), key=lambda i: categories.index(labels[i]))
    return () if order == list(range(len(labels))) else tuple(order)


def _missing(array: NDArray[Any]) -> NDArray[np.bool_]:
    if array.dtype.kind == "f":
        return np.asarray(np.isnan(array), dtype=bool)
    if array.dtype.kind != "O":
        return np.zeros(len(array), dtype=bool)
    return np.array([is_missing(cell) for cell in array.tolist()], dtype=bool)


def _plain(labels: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Turn Python objects into text or numbers; refuse a mixture of both."""
    if labels.dtype.kind != "O":
        return labels
    cells = labels.tolist()
    kinds = [_kind(cell) for cell in cells]
    if len(set(kinds)) > 1:
        other = next(i for i, kind in enumerate(kinds) if kind != kinds[0])
        raise InputError(
            f"y mixes {' and '.join(sorted(set(kinds)))}: {cells[0]!r} at row {rows[0]} and "
            f"{cells[other]!r} at row {rows[other]}; make them one type, for example y.astype(str)"
        )
    if kinds[0] not in _LABELS:
        raise InputError(
            f"Unknown label type: y holds {kinds[0]} labels, first {str(cells[0])[:40]} at row "
            f"{rows[0]}; labels are text, whole numbers or booleans: y.astype(str)"
        )
    return labels if kinds[0] == "text" else np.array(cells)


def _kind(cell: Any) -> str:
    for name, kinds in _LABELS.items():  # booleans first: Python counts them as numbers
        if isinstance(cell, kinds):
            return name
    return type(cell).__name__


def _first(where: NDArray[np.bool_]) -> int:
    return int(where.argmax())
