"""What every measure takes: one number per row."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridflow.errors import InputError

Floats = NDArray[np.float64]


def vector(values: ArrayLike, name: str, length: int | None = None) -> Floats:
    """Return values as float64 of shape (n,), without NaN."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise InputError(f"{name} must be a vector with an entry per row, got shape {array.shape}")
    if length is not None and len(array) != length:
        raise InputError(f"{name} has {len(array)} rows, but there are {length}")
    if np.isnan(array).any():
        raise InputError(f"{name} contains NaN, first at row {int(np.isnan(array).argmax())}")
    return array
