"""Gamma functions of large arguments, without the cancellation of their logarithms."""

from __future__ import annotations

import numpy as np
from scipy import special

from hybridflow.laws.base import Floats

_ASYMPTOTIC = 16.0
"""From here on the series is exact to double precision."""

_LOG_ROOT = 0.5 * np.log(2 * np.pi)


def stirling_rest(x: Floats) -> Floats:
    r"""Return what Stirling's formula leaves of the log-gamma function, for x > 0.

    .. math:: s(x) = \log\Gamma(x) - \bigl(x - \tfrac12\bigr) \log x + x
        - \tfrac12 \log 2\pi = \frac{1}{12x} - \frac{1}{360x^3} + \dots

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.laws.stirling import stirling_rest
    >>> 12e8 * stirling_rest(np.array([1e8]))
    array([1.])
    """
    small, large = np.minimum(x, _ASYMPTOTIC), np.maximum(x, _ASYMPTOTIC)
    r = 1 / large**2
    series = 1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))
    below = special.gammaln(small) - (small - 0.5) * np.log(small) + small - _LOG_ROOT
    return np.where(x < _ASYMPTOTIC, below, series / large)


def log_beta_rest(a: Floats, b: Floats) -> Floats:
    r"""Return the logarithm of the beta function, but for its powers.

    .. math:: \log B(a, b) - a \log\frac{a}{a + b} - b \log\frac{b}{a + b}

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.laws.stirling import log_beta_rest
    >>> np.exp(log_beta_rest(np.ones(1), np.ones(1))).round(12)
    array([4.])
    """
    rest = stirling_rest(a) + stirling_rest(b) - stirling_rest(a + b)
    low, high = np.minimum(a, b), np.maximum(a, b)
    return np.asarray(rest + _LOG_ROOT + 0.5 * (np.log1p(low / high) - np.log(low)))
