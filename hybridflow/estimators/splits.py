"""The three roles of rows: training, validation of a member, calibration of all."""

from __future__ import annotations

import numbers
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridflow.errors import ConfigError, InputError, RareClassWarning

Positions = NDArray[np.intp]

_CALIBRATED = 2000  # rows from which on a table can spare some for calibration alone
_SPARED = 0.1
_MOST_SPARED = 2000


@dataclass(frozen=True)
class Roles:
    """Which rows the members were not trained on.

    Parameters
    ----------
    held : tuple of ndarray of int
        For each member the rows that it stopped early on; other members may
        have trained on them.
    calibration : ndarray of int
        Rows that no member has seen; empty where there were too few to spare.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.estimators.splits import Roles
    >>> Roles((np.array([0, 1]),), np.array([5])).shared
    True
    """

    held: tuple[Positions, ...]
    calibration: Positions

    @property
    def shared(self) -> bool:
        """Whether there are calibration rows, which serve all members alike."""
        return len(self.calibration) > 0


def assign_roles(
    validation: Any,
    calibration: Any,
    used: Positions,
    n: int,
    members: int,
    rng: np.random.RandomState,
    *,
    codes: NDArray[np.int64] | None = None,
    small: bool = False,
) -> Roles:
    """Return which rows are held out for what.

    Parameters
    ----------
    validation : float, splitter, array of int, or None
        As `held_out_rows`.
    calibration : "auto", float, splitter, array of int, or None
        Likewise. ``"auto"`` is a tenth of the rows, 2,000 at most, of tables
        of 2,000 rows and more, and none of smaller ones.
    used : ndarray of int
        Rows of positive weight.
    n : int
        Number of all rows.
    members : int
    rng : numpy.random.RandomState
    codes : ndarray of shape (n,), optional
        As `held_out_rows`.
    small : bool
        Whether shares are of no rows at all, since every row is needed.

    Raises
    ------
    ConfigError, InputError
        If one of them is none of these, or no row is left to train on.
    """

    def chosen(what: Any, name: str, rows: Positions, times: int) -> list[Positions]:
        if not _is_share(what):
            return [
                np.intersect1d(found, rows)
                for found in held_out_rows(what, n, times, rng, codes=codes, name=name)
            ]
        check_share(what, name)
        if small:
            return [np.empty(0, dtype=np.intp)] * times
        some = None if codes is None else codes[rows]
        found = held_out_rows(what, len(rows), times, rng, codes=some, name=name)
        return [rows[positions] for positions in found]

    if isinstance(calibration, str) and calibration == "auto":
        spared = min(_SPARED, _MOST_SPARED / max(1, len(used)))
        calibration = spared if len(used) >= _CALIBRATED else None
    (unseen,) = chosen(calibration, "calibration", used, 1)
    seen = np.setdiff1d(used, unseen)
    held = tuple(chosen(validation, "validation", seen, members))
    if any(len(positions) >= len(seen) for positions in held):
        raise InputError(
            "validation and calibration leave no row to train on; hold out a smaller share"
        )
    return Roles(held, unseen)


def _is_share(what: Any) -> bool:
    return isinstance(what, numbers.Real) and not isinstance(what, bool)


def held_out_rows(
    validation: Any,
    n: int,
    members: int,
    rng: np.random.RandomState,
    *,
    codes: NDArray[np.int64] | None = None,
    name: str = "validation",
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
    name : str
        Of the parameter, for messages.

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
        raise ConfigError(f"{name}: a share, a splitter or positions, got {validation!r}")
    if isinstance(validation, numbers.Real):
        return _shares(check_share(validation, name), n, members, rng, codes)
    if hasattr(validation, "split"):
        return _splits(validation, n, members, codes, name)
    return [_positions(validation, n, name)] * members


def check_share(share: Any, name: str) -> float:
    """Return a share of the rows, raising ConfigError unless it lies in [0, 1)."""
    if not 0 <= share < 1:
        raise ConfigError(f"{name}: a share lies between 0 and 1, got {share!r}")
    return float(share)


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
    splitter: Any, n: int, members: int, codes: NDArray[np.int64] | None, name: str
) -> list[Positions]:
    try:
        held = [test for _, test in splitter.split(np.zeros((n, 1)), codes)]
    except Exception as error:  # the caller's own code
        raise ConfigError(
            f"{name}: {type(splitter).__name__}.split failed: {type(error).__name__}: {error}"
        ) from error
    if not held:
        raise ConfigError(f"{name}: the splitter gave no split")
    return [_positions(held[member % len(held)], n, name) for member in range(members)]


def _positions(rows: ArrayLike, n: int, name: str) -> Positions:
    array = np.asarray(rows)
    if array.dtype == bool and array.shape == (n,):
        array = np.flatnonzero(array)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
        raise ConfigError(
            f"{name}: a share, a splitter, or positions, which are a one-dimensional array of "
            f"whole numbers; got {rows!r}"
        )
    outside = array[(array < 0) | (array >= n)]
    if len(outside):
        raise InputError(f"{name}: positions lie between 0 and {n - 1}, got {outside[0]}")
    unique = np.unique(array).astype(np.intp)
    if len(unique) >= n:
        raise InputError(f"{name}: every row is held out; none is left to train on")
    return unique
