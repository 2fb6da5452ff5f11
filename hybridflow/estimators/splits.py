"""Which rows train and which are held out, per member."""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridflow.errors import ConfigError, InputError, RareClassWarning

Positions = NDArray[np.intp]


def held_out_rows(
    validation: Any,
    n: int,
    members: int,
    rng: np.random.RandomState,
    *,
    codes: NDArray[np.int64] | None = None,
) -> list[Positions]:
    """Return the positions held out for each member.

    Parameters
    ----------
    validation : float, splitter, array of int, or None
        A share of the rows; an object with ``split(X, y)``, whose i-th split
        serves member i; the positions themselves; None or 0 for none.
    n : int
        Number of rows.
    members : int
    rng : numpy.random.RandomState
    codes : ndarray of shape (n,), optional
        Class of each row, -1 where unlabelled: a share is taken of every class,
        and every class keeps a row to train on.

    Returns
    -------
    list of ndarray
        Disjoint over the members as far as the share allows.

    Raises
    ------
    ConfigError, InputError
        If `validation` is none of these or holds out every row.

    Warns
    -----
    RareClassWarning
        Naming how many classes have too few rows to be held out.
    """
    if validation is None or (isinstance(validation, numbers.Real) and validation == 0):
        return [np.empty(0, dtype=np.intp)] * members
    if isinstance(validation, bool | str):
        raise ConfigError(f"validation: a share, a splitter or positions, got {validation!r}")
    if isinstance(validation, numbers.Real):
        return _shares(check_share(validation), n, members, rng, codes)
    if hasattr(validation, "split"):
        return _splits(validation, n, members, codes)
    return [_positions(validation, n)] * members


def check_share(validation: Any) -> float:
    """Return a share of the rows, raising ConfigError unless it lies in [0, 1)."""
    if not 0 <= validation < 1:
        raise ConfigError(f"validation: a share lies between 0 and 1, got {validation!r}")
    return float(validation)


def _shares(
    share: float,
    n: int,
    members: int,
    rng: np.random.RandomState,
    codes: NDArray[np.int64] | None,
) -> list[Positions]:
    groups = [np.arange(n)] if codes is None else [np.flatnonzero(codes == c) for c in set(codes)]
    groups.sort(key=lambda rows: int(rows[0]))
    held: list[list[Positions]] = [[] for _ in range(members)]
    rare = 0
    for rows in groups:
        order = rng.permutation(rows)
        count = min(round(share * len(rows)), len(rows) - 1)
        rare += codes is not None and count == 0 and codes[rows[0]] >= 0
        for member in range(members):
            block = (np.arange(count) + member * count) % len(rows)
            held[member].append(order[block])
    if rare:
        warnings.warn(
            f"{rare} class(es) have too few rows for a held-out part and only train",
            RareClassWarning,
            stacklevel=6,
        )
    return [np.sort(np.concatenate(parts)) for parts in held]


def _splits(
    splitter: Any, n: int, members: int, codes: NDArray[np.int64] | None
) -> list[Positions]:
    try:
        held = [test for _, test in splitter.split(np.zeros((n, 1)), codes)]
    except Exception as error:  # the caller's own code
        raise ConfigError(
            f"validation: {type(splitter).__name__}.split failed: {type(error).__name__}: {error}"
        ) from error
    if not held:
        raise ConfigError("validation: the splitter gave no split")
    return [_positions(held[member % len(held)], n) for member in range(members)]


def _positions(rows: ArrayLike, n: int) -> Positions:
    array = np.asarray(rows)
    if array.dtype == bool and array.shape == (n,):
        array = np.flatnonzero(array)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
        raise ConfigError(
            "validation: a share, a splitter, or positions, which are a one-dimensional array of "
            f"whole numbers; got {rows!r}"
        )
    outside = array[(array < 0) | (array >= n)]
    if len(outside):
        raise InputError(f"validation: positions lie between 0 and {n - 1}, got {outside[0]}")
    unique = np.unique(array).astype(np.intp)
    if len(unique) >= n:
        raise InputError("validation: every row is held out; none is left to train on")
    return unique
