"""Positive parameters: smooth links and degrees of freedom, in exportable operations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_SHIFT = 16
"""From here on the asymptotic series is exact to double precision."""


def softplus(x: Tensor) -> Tensor:
    r"""Return :math:`\log(1 + e^x)` by operations that every ONNX runtime has in float64.

    .. math:: \tfrac12 (x + |x|) + \log(1 + e^{-|x|})

    Written with :math:`|x|`, whose derivative at 0 is taken as 0, it has the
    right derivative of 1/2 there; a relu in its place would give 0.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities.positive import softplus
    >>> softplus(torch.tensor([0.0, 100.0]))
    tensor([  0.6931, 100.0000])
    """
    size = x.abs()
    return (x + size) / 2 + torch.log1p(torch.exp(-size))


def inverse_softplus(y: float) -> float:
    """Return the x with ``softplus(x) == y`` for y > 0."""
    return y + math.log(-math.expm1(-y))


def log_gamma_step(x: Tensor) -> Tensor:
    r"""Return :math:`\log\Gamma(x + \frac12) - \log\Gamma(x)` for x > 0.

    The recurrence of the gamma function up to :math:`y = x + 16`, where

    .. math:: \tfrac12 \log y - \tfrac{1}{8y} + \tfrac{1}{192y^3} - \tfrac{1}{640y^5}
        + \tfrac{17}{14336y^7} - \tfrac{31}{18432y^9}

    is exact to double precision: ONNX has no gamma function.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities.positive import log_gamma_step
    >>> log_gamma_step(torch.tensor([0.5], dtype=torch.float64)).exp() ** -2  # 1 / sqrt(pi)
    tensor([3.1416], dtype=torch.float64)
    """
    steps = x[..., None] + torch.arange(_SHIFT, dtype=x.dtype, device=x.device)
    y = x + _SHIFT
    r = 1 / y**2
    tail = (-1 / 8 + r * (1 / 192 + r * (-1 / 640 + r * (17 / 14336 - r * 31 / 18432)))) / y
    return 0.5 * torch.log(y) + tail - torch.log1p(0.5 / steps).sum(-1)


class Degrees(nn.Module):
    r"""Degrees of freedom that are learned, between two bounds.

    .. math:: \frac{1}{\nu} = \frac1{\mathrm{high}} +
        \Bigl(\frac1{\mathrm{low}} - \frac1{\mathrm{high}}\Bigr)\,\mathrm{sigmoid}(r)

    The reciprocal is what the shape of a t distribution is smooth in: 0 is the
    normal distribution.

    Parameters
    ----------
    count : int
        How many.
    low : float
        Lower bound.
    high : float, default=100
        Upper bound.
    start : float, default=8
        First value of all of them.

    Examples
    --------
    >>> from hybridflow.densities.positive import Degrees
    >>> Degrees(1, low=2.0)().round(decimals=3).tolist()
    [8.0]
    """

    def __init__(self, count: int, low: float, high: float = 100.0, start: float = 8.0) -> None:
        super().__init__()
        self.low, self.high = low, high
        share = (1 / start - 1 / high) / (1 / low - 1 / high)
        self.raw = nn.Parameter(torch.full((count,), math.log(share / (1 - share))))

    def forward(self) -> Tensor:
        """Return the degrees of freedom, shape (count,)."""
        share = torch.sigmoid(self.raw)
        return 1 / (1 / self.high + (1 / self.low - 1 / self.high) * share)
