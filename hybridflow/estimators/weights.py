"""Reading weights: of rows and of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridflow.errors import ConfigError, InputError, closest
from hybridflow.estimators.targets import Labels

_LARGEST = 1e100  # the sum of squares of such weights is still a number

Weights = NDArray[np.float64]


def read_weights(sample_weight: ArrayLike | None, n: int) -> Weights:
    """Read the weights of rows.

    Parameters
    ----------
    sample_weight : array-like of shape (n,), a number, or None
        None counts every row once.
    n : int
        Expected number of rows.

    Returns
    -------
    ndarray of shape (n,)
        Finite, at least 0, not all 0.

    Raises
    ------
    InputError
        Naming the first weight that cannot be used.

    Examples
    --------
    >>> from hybridflow.estimators.weights import read_weights
    >>> read_weights([1, 2, 0.5], 3)
    array([1. , 2. , 0.5])
    """
    if sample_weight is None:
        return np.ones(n)
    if hasattr(sample_weight, "detach"):
        sample_weight = sample_weight.detach().cpu()
    try:
        raw = np.asarray(sample_weight)
        if raw.dtype.kind not in "fiubO":
            raise TypeError(f"its type is {raw.dtype}")
        weight = np.array(raw, dtype=np.float64)  # a copy: what came in may be read-only
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"sample_weight must hold numbers >= 0: {error}") from None
    if weight.ndim == 0:
        weight = np.full(n, float(weight))
    if weight.ndim != 1:
        raise InputError(
            f"Sample weights must be 1D array or scalar, got {weight.ndim}D array. Expected either "
            f"a scalar value or a 1D array of length {n}: sample_weight.ravel()"
        )
    if len(weight) != n:
        raise InputError(
            f"sample_weight.shape == {weight.shape}, expected ({n},): X has {n} rows, "
            f"sample_weight has {len(weight)}"
        )
    for what, bad in (
        ("Input sample_weight contains NaN", np.isnan(weight)),
        ("Input sample_weight contains infinity", np.isinf(weight)),
        ("Negative values in data passed to `sample_weight`: they must be >= 0", weight < 0),
        (f"sample_weight is larger than {_LARGEST:g}, rescale it", weight > _LARGEST),
    ):
        if bad.any():
            row = int(bad.argmax())
            raise InputError(f"{what}: got {weight[row]:g}, first at row {row}")
    if not (weight > 0).any():
        raise InputError("Sample weights must contain at least one non-zero number.")
    return weight


def count_rows(weight: Weights) -> Weights:
    """Return weights that count rows: whole numbers as they are, others with mean one.

    A whole number repeats its row. Other weights are relative: their scale
    must not decide how many rows a model believes to have seen.
    """
    if (weight == np.rint(weight)).all():
        return weight
    return np.asarray(weight * ((weight > 0).sum() / weight.sum()), dtype=np.float64)


def class_factors(class_weight: Any, labels: Labels, weight: Weights) -> Weights:
    r"""Return the weight of the class of each row.

    ``"balanced"`` gives class c the factor :math:`\sum w / (K \sum_{y = c} w)`.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
    labels : Labels
    weight : ndarray of shape (n,)
        Sample weights.

    Returns
    -------
    ndarray of shape (n,)

    Raises
    ------
    ConfigError
        If `class_weight` is none of these, names an unknown class, or leaves
        no labelled row a weight.
    """
    k = len(labels.classes)
    if class_weight is None:
        return np.ones(len(weight))
    if isinstance(class_weight, str) and class_weight == "balanced":
        mass = np.bincount(labels.codes, weight * labels.labelled, k)
        balanced: Weights = mass.sum() / (k * np.where(mass > 0, mass, 1.0))
        return balanced[labels.codes]
    if not isinstance(class_weight, Mapping):
        hint = closest(class_weight, ["balanced"]) if isinstance(class_weight, str) else ""
        raise ConfigError(
            f"class_weight must be a dict, 'balanced' or None, got {class_weight!r}{hint}"
        )
    known = labels.classes.tolist()
    factors = np.ones(k)
    for label, factor in class_weight.items():
        plain = label.item() if isinstance(label, np.generic) else label
        if plain not in known:
            raise ConfigError(f"class_weight names {label!r}, but the classes are {known}")
        number = isinstance(factor, int | float | np.number) and not isinstance(factor, bool)
        if not (number and 0 <= factor <= _LARGEST):
            raise ConfigError(f"class_weight of {label!r} must be finite and >= 0, got {factor!r}")
        factors[known.index(plain)] = factor
    rows = factors[labels.codes]
    if not (rows * weight * labels.labelled > 0).any():
        raise ConfigError(f"class_weight leaves no labelled row a positive weight: {class_weight}")
    return rows
