"""p-values by rank among held-out rows, and what becomes of several of them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp

from hybridflow.calibration import Fold

Floats = NDArray[np.float64]

_ROUNDING = 1e-9  # relative: a row computed again must not rank behind itself
_TAIL = 0.1  # share of the reference rows whose excess gives the scale of the tail
_FEWEST = 5  # rows of the tail, where there are as many
_PRIOR = 0.02


def conformal_pvalue(reference: Fold, conformity: ArrayLike) -> Floats:
    r"""Return the share of rows, the new one included, that are at least as strange.

    .. math:: p = \frac{1 + \sum_i w_i\, 1[c_i \le c]}{1 + \sum_i w_i}

    If the new row and the reference rows are exchangeable, and the score was not
    fitted to the latter, :math:`P(p \le \alpha) \le \alpha` for every α. Scores that
    are equal up to rounding count as equal.

    Parameters
    ----------
    reference : Fold
        Conformities c of held-out rows, and the number of rows that each counts for.
    conformity : array-like of shape (n,)
        The lower, the stranger; may be minus infinity.

    Returns
    -------
    ndarray of shape (n,)
        Between 1 / (W + 1) and 1.

    References
    ----------
    Vovk, Gammerman, Shafer: "Algorithmic Learning in a Random World", 2005.
    Bates, Candès, Lei, Romano, Sesia: "Testing for Outliers with Conformal
    p-values", 2023.

    Examples
    --------
    >>> from hybridflow.calibration import Fold
    >>> from hybridflow.novelty import conformal_pvalue
    >>> reference = Fold(members=(0,), scores=(-4.0, -3.0, -2.0, -1.0))
    >>> conformal_pvalue(reference, [-9.0, -3.0, 0.0])
    array([0.2, 0.6, 1. ])
    """
    values = np.asarray(conformity, dtype=np.float64)
    finite = np.where(np.isfinite(values), values, 0.0)
    mass = reference.mass(values + _ROUNDING * (1 + np.abs(finite)))
    return np.asarray((1 + mass) / (1 + reference.counts.sum()))


def log_tail(reference: Fold, conformity: ArrayLike) -> Floats:
    r"""Return a smooth, strictly monotone stand-in for the logarithm of the p-value.

    Between reference rows it interpolates, from above, and beyond the strangest it
    continues as an exponential tail, whose scale is the mean excess over the tenth
    of the rows that are strangest. It ranks rows that all lie beyond every held-out
    one. Out there it is no p-value: how fast probabilities fall is assumed, not known.

    Parameters
    ----------
    reference : Fold
    conformity : array-like of shape (n,)

    Returns
    -------
    ndarray of shape (n,)
        Below 0; minus infinity for minus infinity.

    References
    ----------
    Siffer, Fouque, Termier, Largouet: "Anomaly Detection in Streams with Extreme
    Value Theory", 2017.

    Examples
    --------
    >>> from hybridflow.calibration import Fold
    >>> from hybridflow.novelty import log_tail
    >>> reference = Fold(members=(0,), scores=(-4.0, -3.0, -2.0, -1.0))
    >>> log_tail(reference, [-40.0, -5.0, -1.0]).round(2)
    array([-19.1 ,  -1.6 ,  -0.18])
    """
    known, counts = np.asarray(reference.scores), reference.counts
    values = np.asarray(conformity, dtype=np.float64)
    if len(known) == 0:
        return np.where(values < 0, -np.log1p(np.abs(values)), -1 / (2 + values))
    distinct, first = np.unique(known, return_index=True)
    total = counts.sum()
    each = np.add.reduceat(counts, first)
    mass = each.cumsum()
    level = np.log((1 + mass) / (2 + total))
    # By weight, so that a weight is as good as a repetition.
    edge = int(np.searchsorted(mass, max(_FEWEST, _TAIL * total), side="right"))
    edge = min(edge, len(distinct) - 1)
    scale = 1.0
    if edge:
        scale = float(np.average(distinct[edge] - distinct[:edge], weights=each[:edge]))
    inside = np.interp(values, distinct, level)
    with np.errstate(over="ignore"):
        below = np.minimum((values - distinct[0]) / scale, 0.0)
        above = np.exp(-np.maximum((values - distinct[-1]) / scale, 0.0))
    return np.asarray(np.where(values > distinct[-1], inside * above, inside + below))


def harmonic_mean(log_p: ArrayLike) -> Floats:
    r"""Return the logarithm of the harmonic mean of K p-values, along the first axis.

    .. math:: \bar p = K \Big/ \sum_k 1 / p_k

    The smallest count most, and dependence between them does little harm. Exactly,
    :math:`P(\bar p \le \alpha) \le a_K\, \alpha` whatever the dependence, with
    :math:`a_K` of `worst_case`; for p-values of one and the same row under models that
    are alike, which is what it is used for here, the level is about α.

    Parameters
    ----------
    log_p : array-like of shape (K, n)

    Returns
    -------
    ndarray of shape (n,)

    References
    ----------
    Wilson: "The Harmonic Mean p-value for Combining Dependent Tests", 2019.
    Vovk, Wang: "Combining p-values via Averaging", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.novelty import harmonic_mean
    >>> np.exp(harmonic_mean(np.log([[0.5, 0.01], [0.5, 0.5]]))).round(4)
    array([0.5   , 0.0196])
    """
    each = np.asarray(log_p, dtype=np.float64)
    return np.asarray(math.log(len(each)) - logsumexp(-each, axis=0))


def worst_case(count: int) -> float:
    r"""Return the factor by which a harmonic mean of K p-values may be too small at most.

    .. math::
        a_K = \frac{(y + K)^2}{(y + 1) K}, \qquad y^2 = K ((y + 1) \ln(y + 1) - y)

    with y positive, and 0 for K = 2.

    References
    ----------
    Vovk, Wang: "Combining p-values via Averaging", 2020.

    Examples
    --------
    >>> from hybridflow.novelty import worst_case
    >>> [round(worst_case(k), 2) for k in (1, 2, 3, 10)]
    [1.0, 2.0, 2.75, 4.56]
    """
    if count < 3:
        return float(count)
    y = brentq(
        lambda y: y * y - count * ((y + 1) * math.log1p(y) - y), 1e-3, 10.0 * count, xtol=1e-10
    )
    return float((y + count) ** 2 / ((y + 1) * count))


def rows_needed(alpha: float) -> int:
    """Return how many held-out rows it takes for a p-value as small as `alpha`.

    Examples
    --------
    >>> from hybridflow.novelty import rows_needed
    >>> rows_needed(0.05), rows_needed(0.01)
    (19, 99)
    """
    return math.ceil((1 - 1e-12) / alpha) - 1


def novelty_share(log_p: ArrayLike, prior: float = _PRIOR) -> Floats:
    r"""Return a probability that rows are novel, from p-values and a prior.

    .. math::
        \nu = \frac{\pi}{\pi + (1 - \pi) B}, \qquad
        B = -e\,p \ln p \text{ if } p < 1/e, \text{ else } 1

    B is the least that the odds for a usual row can be, over a wide class of
    alternatives, so this is the most that the p-value can say for novelty.

    Parameters
    ----------
    log_p : array-like of shape (n,)
    prior : float, default=0.02
        π, the share of novel rows that is expected before looking.

    Returns
    -------
    ndarray of shape (n,)
        Between the prior and 1.

    References
    ----------
    Sellke, Bayarri, Berger: "Calibration of p Values for Testing Precise Null
    Hypotheses", 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.novelty import novelty_share
    >>> novelty_share(np.log([0.5, 0.05, 0.001])).round(2)
    array([0.02, 0.05, 0.52])
    """
    log_p = np.asarray(log_p, dtype=np.float64)
    small = np.minimum(log_p, -1.0)
    with np.errstate(invalid="ignore"):
        bound = np.where(np.isneginf(small), 0.0, -small * np.exp(1 + small))
    return np.asarray(prior / (prior + (1 - prior) * bound))
