"""Whether predicted times are in the order of what is known of the true ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hybridflow.errors import InputError
from hybridflow.metrics.reading import vector

_BLOCK = 2**22  # pairs that are looked at together


def concordance_index(
    lower: ArrayLike,
    upper: ArrayLike,
    predicted: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> float:
    r"""Return the share of comparable pairs of rows that a prediction puts in the right order.

    .. math::
        C = \frac{\sum_{i, j:\, u_i < l_j} w_i w_j
            \left([\hat y_i < \hat y_j] + \tfrac12 [\hat y_i = \hat y_j]\right)}
            {\sum_{i, j:\, u_i < l_j} w_i w_j}

    A true value lies between l and u, both of which are the value where it is known; the
    order of two rows is known if the one ends before the other begins. A row censored
    at the very time of another's event is taken to be the later one. With censoring
    from the right this is Harrell's index: 1 is perfect, 0.5 is chance.

    Parameters
    ----------
    lower, upper : array-like of shape (n,)
        Bounds of the true values, in their units; `upper` is infinite where a value is
        censored from the right, `lower` is minus infinity where from the left.
    predicted : array-like of shape (n,)
    sample_weight : array-like of shape (n,), optional

    Returns
    -------
    float

    Raises
    ------
    InputError
        If lengths differ, or no pair can be compared.

    References
    ----------
    Harrell, Califf, Pryor, Lee, Rosati: "Evaluating the Yield of Medical Tests", 1982.

    Examples
    --------
    >>> from hybridflow.metrics import concordance_index
    >>> lower, upper = [2.0, 4.0, 5.0], [2.0, float("inf"), 5.0]
    >>> concordance_index(lower, upper, [1.0, 9.0, 3.0])
    1.0
    """
    low = vector(lower, "lower")
    high = vector(upper, "upper", len(low))
    guess = vector(predicted, "predicted", len(low))
    weight = np.ones(len(low))
    if sample_weight is not None:
        weight = vector(sample_weight, "sample_weight", len(low))
    censored = low < high
    right = total = 0.0
    for rows in np.array_split(np.arange(len(low)), -(-len(low) * len(low) // _BLOCK)):
        before, after = high[rows, None], low[None]
        known = (before < after) | ((before == after) & ~censored[rows, None] & censored[None])
        pair = np.where(known, weight[rows, None] * weight[None], 0.0)
        total += float(pair.sum())
        mine, other = guess[rows, None], guess[None]
        right += float(pair[mine < other].sum() + 0.5 * pair[mine == other].sum())
    if total == 0:
        raise InputError("concordance: no two rows can be compared, so no order can be right")
    return right / total
