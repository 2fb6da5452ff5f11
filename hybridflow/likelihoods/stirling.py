"""Gamma functions of large arguments, without the cancellation of their logarithms."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ASYMPTOTIC = 16.0
"""From here on the series is exact to double precision."""

_LOG_ROOT = 0.5 * math.log(2 * math.pi)


def stirling_rest(x: Tensor) -> Tensor:
    r"""Return what Stirling's formula leaves of the log-gamma function, for x > 0.

    .. math:: s(x) = \log\Gamma(x) - \bigl(x - \tfrac12\bigr) \log x + x
        - \tfrac12 \log 2\pi = \frac{1}{12x} - \frac{1}{360x^3} + \dots

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.stirling import stirling_rest
    >>> stirling_rest(torch.tensor([1e8], dtype=torch.float64)) * 12e8
    tensor([1.0000], dtype=torch.float64)
    """
    small, large = x.clamp(max=_ASYMPTOTIC), x.clamp(min=_ASYMPTOTIC)
    r = 1 / large**2
    series = 1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))
    below = torch.lgamma(small) - (small - 0.5) * torch.log(small) + small - _LOG_ROOT
    return torch.where(x < _ASYMPTOTIC, below, series / large)


def log_beta_rest(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the logarithm of the beta function, but for its powers.

    .. math:: \log B(a, b) - a \log\frac{a}{a + b} - b \log\frac{b}{a + b}

    What is left out is as large as a and b; where it meets the powers of a
    probability it is combined with them first.

    Parameters
    ----------
    a, b : Tensor
        Positive, float64.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.stirling import log_beta_rest
    >>> log_beta_rest(*torch.ones(2, 1, dtype=torch.float64)).exp().round(decimals=9)
    tensor([4.], dtype=torch.float64)
    """
    rest = stirling_rest(a) + stirling_rest(b) - stirling_rest(a + b)
    # log(a + b) - log(a) - log(b), by the larger of both
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return rest + _LOG_ROOT + 0.5 * (torch.log1p(low / high) - torch.log(low))
