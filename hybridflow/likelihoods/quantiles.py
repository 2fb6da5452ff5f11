"""Likelihoods given by quantiles, with exponential tails."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.densities.positive import softplus
from hybridflow.laws import QuantileLaw
from hybridflow.likelihoods.real_valued import RealValued
from hybridflow.specs import Target

LEVELS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Levels of the quantiles that eta gives."""

_MEDIAN = LEVELS.index(0.5)


class Quantiles(RealValued):
    r"""A likelihood whose parameters are quantiles, so that they cannot cross.

    eta holds the median, the raw gaps of the quantiles at the other levels, and
    the raw lengths of the two tails, in standard deviations of y around its mean:

    .. math:: q_{j+1} - q_j = \mathrm{floor}_j + \log(1 + e^{\eta_j}).

    Between the quantiles the cdf is a rational-quadratic spline. The density at
    a quantile is the harmonic mean of the average densities on either side;
    a tail is exponential, and continues the density. So the density is
    continuous: what is learned from a value does not jump as it passes a
    quantile, as with a cdf of straight lines, whose log-density says nothing of
    where its corners are. The mass of a cell of a lattice is a sum of positive
    parts, exact for cells of any width.

    Parameters
    ----------
    target : Target
        A regression of one output.

    References
    ----------
    .. [1] Incremental Spline-based Quantile Regression: Probabilistic Forecasting with
           Incremental Quantile Functions, Y. Park, D. Maddix, F.-X. Aubet, K. Kan,
           J. Gasthaus and Y. Wang, 2022

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Quantiles
    >>> from hybridflow.specs import Target
    >>> likelihood = Quantiles(Target(kind="regression", location=(5.0,), scale=(2.0,)))
    >>> likelihood.law(torch.zeros(1, likelihood.outputs)).quantile(0.5)
    array([5.])
    """

    outputs = len(LEVELS) + 2

    levels: Tensor
    gap_floor: Tensor
    tail_floor: Tensor

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        gaps, tails = _normal_gaps(levels)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("gap_floor", self.floor * gaps, persistent=False)
        self.register_buffer("tail_floor", self.floor * tails, persistent=False)

    def _knots(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the quantiles and the densities at them, each of shape (n, levels)."""
        levels = self.levels.to(eta.dtype)
        heights = levels.diff()
        outer = torch.stack([levels[0], 1 - levels[-1]])
        median, raw = eta[:, :1], eta[:, 1:]
        gaps = self.gap_floor.to(eta.dtype) + softplus(raw[:, : len(heights)])
        tails = self.tail_floor.to(eta.dtype) + softplus(raw[:, len(heights) :])
        below = -gaps[:, :_MEDIAN].flip(1).cumsum(1).flip(1)
        quantiles = median + torch.cat([below, 0 * median, gaps[:, _MEDIAN:].cumsum(1)], 1)
        # How long a unit of probability is, on either side of each quantile.
        lengths = torch.cat([tails[:, :1] / outer[0], gaps / heights, tails[:, 1:] / outer[1]], 1)
        return quantiles, 2 / (lengths[:, 1:] + lengths[:, :-1])

    def log_density(self, v: Tensor, eta: Tensor) -> Tensor:
        """Return the log-density of standardised targets, shape (n, m)."""
        quantiles, densities = self._knots(eta)
        first, last = quantiles[:, :1], quantiles[:, -1:]
        inside = torch.minimum(torch.maximum(v, first), last)
        index = (inside[..., None] >= quantiles[:, None, 1:-1]).sum(-1)
        start, left = quantiles.gather(1, index), densities.gather(1, index)
        right = densities.gather(1, index + 1)
        width = quantiles.diff(dim=1).gather(1, index)
        slope = self.levels.to(v.dtype).diff()[index] / width
        part = ((inside - start) / width).clamp(0, 1)
        rest = 1 - part
        rise = right * part**2 + 2 * slope * part * rest + left * rest**2
        below = _denominator(part, slope, left, right)
        density = torch.log(rise) + 2 * torch.log(slope / below)
        down, up = self._rates(densities)
        return density - down * (inside - v).clamp(min=0) - up * (v - inside).clamp(min=0)

    def log_mass(self, v: Tensor, half: float, eta: Tensor) -> Tensor:
        """Return the log-probability of the cells around v, shape (n,): a sum over segments."""
        quantiles, densities = self._knots(eta)
        low, high = v - half, v + half
        start, end = quantiles[:, :-1], quantiles[:, 1:]
        width, heights = end - start, self.levels.to(v.dtype).diff()
        slope, left, right = heights / width, densities[:, :-1], densities[:, 1:]
        a, b = (((edge - start) / width).clamp(0, 1) for edge in (low, high))
        overlap = (torch.minimum(high, end) - torch.maximum(low, start)).clamp(min=0) / width
        mixed = left * (1 - a) * (1 - b) + right * a * b + slope * (a * (1 - b) + b * (1 - a))
        below = _denominator(a, slope, left, right) * _denominator(b, slope, left, right)
        inside = (heights * slope * overlap * mixed / below).sum(1, keepdim=True)
        down, up = self._rates(densities)
        lowest = (torch.minimum(high, quantiles[:, :1]) - low).clamp(min=0)
        highest = (high - torch.maximum(low, quantiles[:, -1:])).clamp(min=0)
        gap_below = (quantiles[:, :1] - high).clamp(min=0)
        gap_above = (low - quantiles[:, -1:]).clamp(min=0)
        parts = [
            _log_or_nothing(inside),
            math.log(LEVELS[0]) - down * gap_below + _log_share(down * lowest),
            math.log(1 - LEVELS[-1]) - up * gap_above + _log_share(up * highest),
        ]
        return torch.logsumexp(torch.cat(parts, 1), 1)

    def _rates(self, densities: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rates of the lower and the upper tail, each of shape (n, 1)."""
        return densities[:, :1] / LEVELS[0], densities[:, -1:] / (1 - LEVELS[-1])

    def continuous_law(self, eta: Tensor) -> QuantileLaw:
        """Return the laws, in the units of y."""
        quantiles, densities = self._knots(eta)
        return QuantileLaw(
            LEVELS,
            self.location + self.scale * quantiles.cpu().numpy(),
            (densities / self.scale).cpu().numpy(),
        )

    def standard_start(self, mean: float, std: float) -> Tensor:
        """Return the quantiles of a normal variable, and the lengths of its tails."""
        gaps, tails = _normal_gaps(self.levels.cpu())
        raw = torch.cat([gaps, tails]) * max(std, 2 * self.floor)
        raw = raw - self.floor * torch.cat([gaps, tails])
        raw = raw + torch.log(-torch.expm1(-raw))
        return torch.cat([torch.tensor([mean], dtype=torch.float64), raw])


def _normal_gaps(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gaps of the quantiles of the standard normal law, and the mean excess beyond."""
    quantiles = torch.special.ndtri(levels)
    density = torch.exp(-(quantiles[0] ** 2) / 2) / math.sqrt(2 * math.pi)
    excess = density / levels[0] + quantiles[0]
    return quantiles.diff(), torch.stack([excess, excess])


def _denominator(part: Tensor, slope: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return the denominator of a segment of a spline, a sum of positive terms."""
    rest = 1 - part
    return slope * (part**2 + rest**2) + (left + right) * part * rest


def _log_or_nothing(mass: Tensor) -> Tensor:
    """Return the logarithm of a mass, -inf without a gradient where there is none."""
    some = mass > 0
    return torch.where(some, torch.log(torch.where(some, mass, 1.0)), -math.inf)


def _log_share(exponent: Tensor) -> Tensor:
    """Return log(1 - exp(-exponent)), -inf without a gradient where the exponent is 0."""
    some = exponent > 0
    return torch.where(some, torch.log(-torch.expm1(-torch.where(some, exponent, 1.0))), -math.inf)
