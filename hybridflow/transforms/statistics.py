"""Weighted statistics that do not change when a row is repeated instead of weighted.

Everything is built on the mid-distribution function of a column,
:math:`F(v) = P(X < v) + P(X = v) / 2`, which depends on the weighted
empirical distribution alone: a weight of k counts as k rows, a weight of 0 as
none, and a common factor of all weights does not matter.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

# Central shares of a normal law and the robust scale each implies; wider ones
# serve columns in which a tie holds the middle.
_LEVELS = (0.25, 0.1, 0.05, 0.02, 0.01)
_WINSOR = 6.0
# Largest share of the rows that one value counts for in a robust scale.
_TIE = 0.05
# Largest part of a central share that one value may hold for the scale to be read off it.
_TIED = 0.6
_ROUNDING = 1e-9


def drop_unweighted(x: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the rows of positive weight in float64, and their weights.

    Parameters
    ----------
    x : Tensor of shape (n, d)
    weight : Tensor of shape (n,) or None
        None counts every row once.

    Returns
    -------
    x : Tensor of shape (m, d)
    weight : Tensor of shape (m,)
    """
    x = x.detach().to(torch.float64)
    if weight is None:
        return x, torch.ones(x.shape[0], dtype=x.dtype, device=x.device)
    weight = weight.detach().to(x)
    positive = weight > 0
    return x[positive], weight[positive]


class MidDistribution:
    """The weighted mid-distribution function of every column.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        float64, at least one row.
    weight : Tensor of shape (n,) or (n, d)
        Positive.
    """

    def __init__(self, x: Tensor, weight: Tensor) -> None:
        self.values, order = torch.sort(x, dim=0)
        self.mass = weight[order] if weight.ndim == 1 else weight.gather(0, order)
        after = self.mass.cumsum(0)
        first = torch.ones_like(self.values, dtype=torch.bool)
        first[1:] = self.values[1:] != self.values[:-1]
        last = torch.ones_like(first)
        last[:-1] = first[1:]
        before = torch.where(first, after - self.mass, 0).cummax(0).values
        upto = torch.where(last, after, torch.inf).flip(0).cummin(0).values.flip(0)
        self.before, self.upto = before / after[-1], upto / after[-1]
        self.levels = (self.before + self.upto) / 2
        self.distinct = first.sum(0)

    def capped(self, share: float) -> MidDistribution:
        """Return the distribution in which no value counts for more than a share of the rows."""
        tie = self.upto - self.before
        return MidDistribution(self.values, self.mass * (share / tie).clamp(max=1))

    def central(self, share: float) -> tuple[Tensor, Tensor]:
        """Return the least and the largest value of the central share of the rows, shape (d,)."""
        level = (1 - share) / 2
        inside = (self.upto > level + _ROUNDING) & (self.before < 1 - level - _ROUNDING)
        low = torch.where(inside, self.values, torch.inf).amin(0)
        return low, torch.where(inside, self.values, -torch.inf).amax(0)

    def quantile(self, level: Tensor) -> Tensor:
        """Return the values at some levels, interpolated between distinct ones.

        Parameters
        ----------
        level : Tensor of shape (k, d)

        Returns
        -------
        Tensor of shape (k, d)
        """
        return _interpolate(level, self.levels, self.values)

    def level(self, value: Tensor) -> Tensor:
        """Return the mid-distribution function at some values, shape (k, d)."""
        return _interpolate(value, self.values, self.levels)


def _interpolate(at: Tensor, grid: Tensor, values: Tensor) -> Tensor:
    """Interpolate column by column, constant beyond the ends; ties of the grid share a value."""
    rows = grid.shape[0]
    above = torch.searchsorted(grid.t().contiguous(), at.t().contiguous()).t()
    above = above.clamp(max=rows - 1)
    below = (above - 1).clamp(min=0)
    low, high = grid.gather(0, below), grid.gather(0, above)
    # Halved first: the difference of two huge values must not overflow.
    width = high / 2 - low / 2
    share = torch.where(width > 0, (at / 2 - low / 2) / width, 1.0).clamp(0, 1)
    return values.gather(0, below) * (1 - share) + values.gather(0, above) * share


def robust_unit(distribution: MidDistribution) -> Tensor:
    """Return a power of two per column that brings its bulk to about one.

    Multiplying by it is exact, and keeps squares of huge or denormal numbers
    within range.

    Parameters
    ----------
    distribution : MidDistribution

    Returns
    -------
    Tensor of shape (d,)
    """
    levels = [*_LEVELS, 0.5, *(1 - level for level in _LEVELS)]
    quantiles = distribution.quantile(_per_column(levels, distribution.values))
    size = quantiles.abs().amax(0)
    size = torch.where(size > 0, size, distribution.values.abs().amax(0))
    _, exponent = torch.frexp(torch.where(size > 0, size, 1.0))
    return torch.ldexp(torch.ones_like(size), -exponent.clamp(-1000, 1000))


def winsorize(x: Tensor, distribution: MidDistribution) -> Tensor:
    """Pull values more than six robust standard deviations out back to there.

    One value counts for a twentieth of the rows at most in the scale, and the
    central share it is read off is the narrowest of which no value holds more
    than three fifths: where most rows share a value, the scale is that of the
    others, not of the step to the next value. A column that is nearly one value
    is left as it is.

    Parameters
    ----------
    x : Tensor of shape (n, d)
    distribution : MidDistribution
        Of x.

    Returns
    -------
    Tensor of shape (n, d)
    """
    (median,) = distribution.quantile(_per_column([0.5], distribution.values))
    distribution = distribution.capped(_TIE)
    tie = (distribution.upto - distribution.before).amax(0)
    spread = torch.full_like(median, torch.inf)
    for level in reversed(_LEVELS):
        low, high = distribution.central(1 - 2 * level)
        scale = (high - low) / (2 * NormalDist().inv_cdf(1 - level))
        spread = torch.where(tie <= _TIED * (1 - 2 * level), scale, spread)
    return torch.minimum(torch.maximum(x, median - _WINSOR * spread), median + _WINSOR * spread)


def moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean and standard deviation of every column.

    A column that is constant up to rounding gets a deviation of 1.

    Parameters
    ----------
    x : Tensor of shape (n, d)
    weight : Tensor of shape (n,)

    Returns
    -------
    mean, std : Tensor of shape (d,)
    """
    share = (weight / weight.sum())[:, None]
    mean = (share * x).sum(0)
    std = (share * (x - mean).square()).sum(0).sqrt()
    rounding = 8 * torch.finfo(x.dtype).eps * x.abs().amax(0)
    return mean, torch.where(std > rounding, std, 1.0)


def _per_column(levels: list[float], values: Tensor) -> Tensor:
    return values.new_tensor(levels)[:, None].expand(-1, values.shape[1])
