"""Laws of y beside the y that came."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hybridflow.laws import Law
from hybridflow.metrics.reading import Floats, vector


def negative_log_likelihood(y_true: ArrayLike, law: Law) -> float:
    r"""Return the mean of :math:`-\log p(y \mid x)` over the rows, in nats.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    law : Law
        Of each row, as ``predict_distribution`` returns it. The log-mass of a
        discrete law counts, the log-density of any other, per unit of y.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If the lengths differ.

    Examples
    --------
    >>> from hybridflow.laws import GaussianLaw
    >>> from hybridflow.metrics import negative_log_likelihood
    >>> round(negative_log_likelihood([0.0, 1.0], GaussianLaw([0.0, 0.0], [1.0, 1.0])), 4)
    1.1689
    """
    return float(-law.log_prob(vector(y_true, "y_true", len(law))).mean())


def pit_values(y_true: ArrayLike, law: Law, *, random_state: int | None = None) -> Floats:
    r"""Return the probability integral transform of each row, uniform if the laws are right.

    .. math:: u = F(y^-) + v\,\left(F(y) - F(y^-)\right), \qquad v \sim U(0, 1)

    which is F(y) for a continuous law. For a discrete one it spreads each mass
    evenly, at random.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    law : Law
        Of each row.
    random_state : int, optional
        Seed of v; matters for discrete laws only.

    Returns
    -------
    ndarray of shape (n,)
        From 0 to 1.

    Raises
    ------
    InputError
        If the lengths differ.

    References
    ----------
    Czado, Gneiting, Held: "Predictive Model Assessment for Count Data", 2009.

    Examples
    --------
    >>> from hybridflow.laws import GaussianLaw
    >>> from hybridflow.metrics import pit_values
    >>> pit_values([0.0, 1.0], GaussianLaw([0.0, 0.0], [1.0, 1.0])).round(3)
    array([0.5  , 0.841])
    """
    y = vector(y_true, "y_true", len(law))
    upper = law.cdf(y)
    if law.lattice is None:
        return upper
    lower = law.cdf(y - law.lattice[1] / 2)
    return np.asarray(lower + np.random.default_rng(random_state).random(len(y)) * (upper - lower))


def quantile_calibration_error(
    y_true: ArrayLike, law: Law, *, random_state: int | None = None
) -> float:
    r"""Return how far shares of y below predicted quantiles are from their levels.

    .. math:: \int_0^1 \left|\frac{1}{n} \sum_i 1[u_i \le p] - p\right| dp

    with u from `pit_values`: the mean, over all levels p, of the gap between p
    and the share of rows at or below their quantile of level p. At most 0.5; a
    perfectly calibrated model has about :math:`0.31 / \sqrt n`.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    law : Law
        Of each row.
    random_state : int, optional
        As in `pit_values`.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If the lengths differ.

    References
    ----------
    Kuleshov, Fenner, Ermon: "Accurate Uncertainties for Deep Learning Using
    Calibrated Regression", 2018 (squared, at a few levels).

    Examples
    --------
    >>> from hybridflow.laws import GaussianLaw
    >>> from hybridflow.metrics import quantile_calibration_error
    >>> quantile_calibration_error([0.0], GaussianLaw([0.0], [1.0]))
    0.25
    """
    pit = np.sort(pit_values(y_true, law, random_state=random_state))
    edges = np.concatenate([[0.0], pit, [1.0]])
    share = np.linspace(0, 1, len(pit) + 1)  # of values at or below, between two edges

    def area(p: Floats) -> Floats:
        return np.asarray((p - share) * np.abs(p - share) / 2)

    return float((area(edges[1:]) - area(edges[:-1])).sum())
