"""Reading y: which rows are labelled, what the labels are, and what kind of number."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import DataConversionWarning
from sklearn.utils.multiclass import check_classification_targets

from hybridflow.audit import lattice_step
from hybridflow.errors import ConstantTargetWarning, IndexMismatchWarning, InputError
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.specs import Target


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
    """

    classes: NDArray[Any]
    codes: NDArray[np.int64]
    labelled: NDArray[np.bool_]


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
    known = _plain(array[labelled])
    if known.dtype.kind == "f" and not np.isfinite(known).all():
        raise InputError(f"Input y contains infinity, first at row {_first(~np.isfinite(known))}")
    try:
        check_classification_targets(known)
    except ValueError as error:
        raise InputError(f"{error} For numbers use HybridRegressor") from None
    classes, inverse = np.unique(known, return_inverse=True)
    codes = np.zeros(n, dtype=np.int64)
    codes[labelled] = inverse
    return Labels(classes, codes, labelled)


def read_numbers(y: Any, n: int, name: str) -> NDArray[np.float64]:
    """Read the target of a regression as float64; NaN marks unlabelled rows.

    Raises
    ------
    InputError
        If y is missing, of the wrong length or type, infinite, or all NaN.
    """
    array = _one_column(y, n, name)
    missing = _missing(array)
    if array.dtype.kind == "c":
        raise InputError("Complex data not supported: y holds complex numbers")
    values = np.full(n, np.nan)
    try:
        values[~missing] = array[~missing].astype(np.float64)
    except (TypeError, ValueError):
        bad = next(i for i, c in enumerate(array.tolist()) if not isinstance(c, int | float))
        raise InputError(
            f"y must hold numbers, got {array[bad]!r} at row {bad}; for labels use HybridClassifier"
        ) from None
    if np.isinf(values).any():
        raise InputError(f"Input y contains infinity, first at row {_first(np.isinf(values))}")
    if missing.all():
        raise InputError("Input y contains NaN: no labelled row; at least one is needed")
    return values


def classification_target(labels: Labels) -> Target:
    """Describe labels."""
    classes = tuple(
        label.decode("latin-1") if isinstance(label, bytes) else label
        for label in labels.classes.tolist()
    )
    return Target(kind="classification", classes=classes)


def regression_target(y: NDArray[np.float64], weight: NDArray[np.float64]) -> Target:
    """Describe the numbers of a regression: weighted location and scale, and the step."""
    known = ~np.isnan(y)
    values, weight = y[known], weight[known]
    largest = float(np.abs(values).max()) or 1.0
    share = weight / weight.sum()
    centre = float(share @ (values / largest))
    spread = math.sqrt(float(share @ (values / largest - centre) ** 2))
    constant = float(values.min()) == float(values.max()) or spread < 1e-12
    if constant:
        warnings.warn(
            f"y is constant ({values[0]:g}): the spread of its law is only a floor",
            ConstantTargetWarning,
            stacklevel=4,
        )
        return Target(kind="regression", location=(float(values[0]),), scale=(max(1.0, largest),))
    whole = largest < 2**52 and bool((values == np.rint(values)).all())
    return Target(
        kind="regression",
        location=(centre * largest,),
        scale=(spread * largest,),
        step=lattice_step(values) if whole else 0.0,
    )


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
        array = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
        if array.dtype.kind == "U" and isinstance(y, list) and len({type(c) for c in y}) > 1:
            array = np.array(y, dtype=object)  # numpy had turned every label into text
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


def _missing(array: NDArray[Any]) -> NDArray[np.bool_]:
    if array.dtype.kind == "f":
        return np.isnan(array)
    if array.dtype.kind != "O":
        return np.zeros(len(array), dtype=bool)
    return np.array(
        [
            cell is None or (isinstance(cell, float) and cell != cell) or repr(cell) == "<NA>"
            for cell in array.tolist()
        ],
        dtype=bool,
    )


def _plain(labels: NDArray[Any]) -> NDArray[Any]:
    """Turn Python objects into text or numbers; refuse a mixture of both."""
    if labels.dtype.kind != "O":
        return labels
    cells = labels.tolist()
    kinds = {
        "text" if isinstance(c, str) else "bytes" if isinstance(c, bytes) else "number"
        for c in cells
    }
    if len(kinds) > 1:
        row = next(i for i, c in enumerate(cells) if type(c) is not type(cells[0]))
        raise InputError(
            f"y mixes {' and '.join(sorted(kinds))}: {cells[0]!r} at row 0 and {cells[row]!r} at "
            f"row {row}; make them one type, for example y.astype(str)"
        )
    plain = np.array(cells)
    return labels if plain.dtype.kind in "US" else plain


def _first(where: NDArray[np.bool_]) -> int:
    return int(where.argmax())
