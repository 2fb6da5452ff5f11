"""Temperature: one number that makes probabilities bolder or more cautious."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax

Floats = NDArray[np.float64]

_MOST = 20.0  # the temperature lies between 1 / 20 and 20
_LOWEST = math.log(np.finfo(np.float64).tiny)


def tempered(log_probabilities: Floats, temperature: float) -> Floats:
    r"""Return log-probabilities at another temperature.

    .. math:: \log p_k / T - \log \sum_j \exp(\log p_j / T)

    Parameters
    ----------
    log_probabilities : ndarray of shape (n, k)
    temperature : float
        Above 1 is more cautious, below 1 bolder; 1 returns the input.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.calibration import tempered
    >>> np.exp(tempered(np.log([[0.8, 0.2]]), 2.0)).round(3)
    array([[0.667, 0.333]])
    """
    if temperature == 1:
        return log_probabilities
    return np.asarray(log_softmax(log_probabilities / temperature, axis=1))


def fit_temperature(log_probabilities: Floats, codes: ArrayLike, weight: ArrayLike) -> float:
    r"""Return the temperature of the least log-loss, or 1 if it does not help.

    It helps if the mean gain in log-loss over the rows is larger than its
    standard error. Where 1 is the right temperature that happens once in
    twenty times: the gain at the best temperature T is about
    :math:`I (1/T - 1)^2 / 2` for rows of Fisher information I, with standard
    error :math:`|1/T - 1| \sqrt{I / n}`, so that their ratio is half of a
    standard normal.

    Of n rows, 1 / (n + 2) counts for the other classes: a few rows that are
    all right do not prove that no row is ever wrong.

    Parameters
    ----------
    log_probabilities : ndarray of shape (n, k)
        Of rows that the model was not trained on.
    codes : array-like of int of shape (n,)
        Column of the true class.
    weight : array-like of shape (n,)
        How many rows each counts for.

    Returns
    -------
    float
        Between 0.05 and 20.

    References
    ----------
    Guo, Pleiss, Sun, Weinberger: "On Calibration of Modern Neural Networks", 2017.

    Platt: "Probabilistic Outputs for Support Vector Machines and Comparisons to
    Regularized Likelihood Methods", 1999 (the share of the other classes).

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.calibration import fit_temperature
    >>> bold = np.log(np.tile([0.99, 0.01], (100, 1)))
    >>> round(fit_temperature(bold, np.repeat([0, 1], [80, 20]), np.ones(100)), 2)
    3.4
    """
    weights = np.asarray(weight, dtype=np.float64)
    used = weights > 0
    # What underflowed to nothing costs a lot, but not everything.
    logs = np.maximum(np.asarray(log_probabilities)[used], _LOWEST)
    chosen, weights = np.asarray(codes)[used], weights[used]
    if len(chosen) < 2:
        return 1.0
    total = weights.sum()
    doubt = 1 / (total + 2)
    target = np.full_like(logs, doubt / max(1, logs.shape[1] - 1))
    target[np.arange(len(chosen)), chosen] = 1 - doubt
    truth = (target * logs).sum(1)

    def slope(inverse: float) -> float:
        """Return the derivative of the summed log-loss, which is convex in 1 / T."""
        expected = (np.exp(log_softmax(inverse * logs, axis=1)) * logs).sum(1)
        return float(weights @ (expected - truth))

    # A class without a held-out row would only ever lose by bolder probabilities.
    boldest = _MOST if len(np.unique(chosen)) == logs.shape[1] else 1.0
    if slope(boldest) <= 0:
        inverse = boldest
    elif slope(1 / _MOST) >= 0:
        inverse = 1 / _MOST
    else:
        inverse = float(brentq(slope, 1 / _MOST, boldest, xtol=1e-10))
    gain = (target * (log_softmax(inverse * logs, axis=1) - log_softmax(logs, axis=1))).sum(1)
    mean = weights @ gain / total
    error = math.sqrt(weights @ (gain - mean) ** 2 / total / total)
    return 1 / inverse if mean > error else 1.0
