"""Prediction intervals: quantiles of the predicted law at levels that were calibrated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridflow.calibration.conformal import Conformal
from hybridflow.laws import Floats, Law

# Share by which levels are widened: a held-out row that comes again is inside whatever
# rounding does to its quantile.
_SLACK = 1e-6


def tail_probability(law: Law, lower: ArrayLike, upper: ArrayLike | None = None) -> Floats:
    r"""Return how far in the tails of its law each y lies.

    .. math:: s = \min(P(Y \le y),\, P(Y \ge y))

    Parameters
    ----------
    law : Law
        Of n rows, of one output.
    lower : array-like of shape (n,)
        The y of each row, in its units.
    upper : array-like of shape (n,), optional
        If given, y is only known to lie between `lower` and `upper`, and s
        is the least that it may be.

    Returns
    -------
    ndarray of shape (n,)
        Between 0 and 1; at most 0.5 for a continuous law.

    Examples
    --------
    >>> from hybridflow.calibration import tail_probability
    >>> from hybridflow.laws import GaussianLaw
    >>> tail_probability(GaussianLaw([0.0, 0.0], [1.0, 1.0]), [0.0, 1.96]).round(3)
    array([0.5  , 0.025])
    """
    return np.minimum(law.cdf(lower), _at_least(law, lower if upper is None else upper))


def interval(laws: Sequence[Law], scores: Conformal, coverage: float) -> Floats:
    r"""Return the prediction interval of each row.

    With :math:`\tau` the calibrated level, :math:`[F^{-1}(\tau), F^{-1}(1 - \tau)]`:
    all y whose tail probability s(y) under the law is not too low among
    those of the held-out rows. With several folds its ends are the lowest and
    the highest y for which

    .. math:: 1 + \sum_m \sum_{i \in m} w_i\, 1[s_i \le F_m(y)] > (1 - c)(W + 1),

    and with :math:`P_m(Y \ge y)` in place of :math:`F_m(y)` for the highest (CV+).

    Parameters
    ----------
    laws : sequence of Law
        Those of the same n rows under the members of each fold; if there is no
        fold, any of these rows.
    scores : Conformal
        Tail probabilities of held-out rows.
    coverage : float
        Between 0 and 1.

    Returns
    -------
    ndarray of shape (n, 2)
        Both ends belong to the interval; on the lattice where y has one.
        Infinite where `scores` has too few rows.

    Notes
    -----
    A score on the scale of probabilities makes the interval as wide as the
    law is, row by row, and of one sorted list of scores every coverage can be
    asked. Conformalised quantile regression adds the same number of units of y
    to the quantiles of all rows instead.

    References
    ----------
    Chernozhukov, Wüthrich, Zhu: "Distributional conformal prediction", 2021.
    Romano, Patterson, Candès: "Conformalized Quantile Regression", 2019.
    Barber, Candès, Ramdas, Tibshirani: "Predictive Inference with the
    Jackknife+", 2021.

    Examples
    --------
    >>> from hybridflow.calibration import Conformal, Fold, interval
    >>> from hybridflow.laws import GaussianLaw
    >>> held = Fold.of((0,), [0.02, 0.1, 0.3, 0.4], [1, 1, 1, 1])
    >>> interval([GaussianLaw([5.0], [2.0])], Conformal(folds=(held,)), 0.8).round(2)
    array([[0.89, 9.11]])
    """
    threshold = scores.threshold(coverage)
    if threshold == -math.inf:
        return np.tile([-np.inf, np.inf], (len(laws[0]), 1))
    level = min(max(threshold * (1 - _SLACK), 0.0), 1.0)
    lower = np.stack([law.quantile(level) for law in laws])
    upper = np.stack([law.quantile(1 - level) for law in laws])
    if len(laws) == 1:
        ends = lower[0], upper[0]
    else:
        least = scores.level(coverage)

        def below(y: Floats) -> NDArray[np.bool_]:
            return scores.p_value([_widened(law.cdf(y)) for law in laws]) > least

        def above(y: Floats) -> NDArray[np.bool_]:
            return scores.p_value([_widened(_at_least(law, y)) for law in laws]) > least

        lattice = _common_lattice(laws)
        ends = (
            _boundary(below, lower.max(0), lower.min(0), lattice),
            _boundary(above, upper.min(0), upper.max(0), lattice),
        )
    # At a low coverage no y may be common enough: then the ends have passed each other.
    return np.sort(np.stack(ends, 1), axis=1)


def _at_least(law: Law, y: ArrayLike) -> Floats:
    """Return P(Y >= y)."""
    if law.lattice is None:
        return law.sf(y)
    return law.sf(np.asarray(y, dtype=np.float64) - law.lattice[1])


def _widened(probability: Floats) -> Floats:
    return np.asarray(probability * (1 + _SLACK))


def _common_lattice(laws: Sequence[Law]) -> tuple[float, float] | None:
    first = laws[0].lattice
    return first if all(law.lattice == first for law in laws) else None


def _boundary(
    holds: Callable[[Floats], NDArray[np.bool_]],
    inside: Floats,
    outside: Floats,
    lattice: tuple[float, float] | None,
) -> Floats:
    """Return the last y, coming from `inside`, at which a monotone statement holds.

    Parameters
    ----------
    holds : callable
        True at `inside`; once it is False it stays so towards `outside`.
    inside, outside : ndarray of shape (n,)
        The last y lies between them, or is one of them. Where one is not
        finite, `outside` is returned.
    lattice : (origin, step), optional
        The points that count, if not all numbers do.
    """
    origin, step = lattice or (0.0, 1.0)
    finite = np.isfinite(inside) & np.isfinite(outside)
    good, bad = ((np.where(finite, end, 0.0) - origin) / step for end in (inside, outside))
    if lattice is not None:
        good, bad = np.round(good), np.round(bad)
    good = np.where(holds(origin + step * bad), bad, good)
    while True:
        middle = (good + bad) / 2
        if lattice is not None:
            middle = np.trunc(middle - good) + good
        # Between neighbours there is no other number: the middle is one of them.
        open_ = (middle != good) & (middle != bad)
        if not open_.any():
            break
        true = holds(origin + step * middle)
        good, bad = np.where(open_ & true, middle, good), np.where(open_ & ~true, middle, bad)
    return np.where(finite, origin + step * good, outside)
