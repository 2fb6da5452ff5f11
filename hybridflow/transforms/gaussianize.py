"""A fitted monotone map from the quantiles of each feature to those of a normal."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.transforms.base import Transform
from hybridflow.transforms.scale import Standardize
from hybridflow.transforms.segment import rational_quadratic, rational_quadratic_inverse
from hybridflow.transforms.statistics import MidDistribution, drop_unweighted

_FEWEST = 4  # knots; below, the map is affine
_STEEPEST = 20.0  # normal deviations per deviation of the feature
_OUTER_LEVEL = 0.005
_ROWS_OUTSIDE = 3.0
_FAR = 6.0  # deviations
_TRUST = 100.0  # distinct values for which the quantiles count half


class Gaussianize(Transform):
    r"""Bend each feature so that its quantiles are those of a standard normal.

    .. math:: z = g(s(x)), \qquad g(u_k) = \Phi^{-1}(F(u_k))

    with s a fitted `Standardize`, F the mid-distribution function of a feature
    and g a monotone rational-quadratic spline through its knots with a
    continuous derivative and linear tails: smooth, with an exact
    log-determinant and a closed-form inverse.

    Knots lie evenly in z. A feature of m distinct values gets
    :math:`2 m^{1/3}` of them, `knots` at most, and is left affine if these are
    fewer than four; the knots are shrunk towards :math:`z = u`, taken to be no further
    out than 6, by :math:`100 / (100 + m)`. The tails are never steeper than that line. Knots
    that would make g steeper than 20 are merged, so near-ties cannot create an
    unbounded density. Computes in float64, whatever the dtype of x.

    Parameters
    ----------
    features : int
    knots : int, default=32
        Most knots of a feature.

    Raises
    ------
    ConfigError
        If `knots` is below 4.

    References
    ----------
    Scott Chen, Ramesh Gopinath. Gaussianization. 2000.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Gaussianize
    >>> skewed = torch.linspace(-2, 2, 5000)[:, None].exp()
    >>> bend = Gaussianize(1)
    >>> bend.initialize(skewed)
    >>> bend(skewed.median()[None, None])[0].abs().item() < 0.05
    True
    """

    position: Tensor
    normal: Tensor
    slope: Tensor

    def __init__(self, features: int, knots: int = 32) -> None:
        super().__init__()
        if knots < _FEWEST:
            raise ConfigError(f"knots: expected at least {_FEWEST}, got {knots}")
        self.standardize = Standardize(features)
        line = torch.linspace(-1, 1, knots, dtype=torch.float64)[:, None].repeat(1, features)
        self.register_buffer("position", line.clone())
        self.register_buffer("normal", line.clone())
        self.register_buffer("slope", torch.ones_like(line))

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Fit the knots to the rows."""
        x, weight = drop_unweighted(x, weight)
        if x.numel() == 0:
            return
        self.standardize.initialize(x, weight=weight)
        distribution = MidDistribution(self.standardize(x)[0], weight)
        position, normal = _merge(*_quantile_knots(distribution, self.position.shape[0]))
        secant = (normal[1:] - normal[:-1]) / (position[1:] - position[:-1])
        self.position.copy_(position)
        self.normal.copy_(normal)
        # Geometric means: the log-density bends as little as possible.
        inner = (secant[1:] * secant[:-1]).sqrt()
        # A tail steeper than the affine map would call the next extreme row impossible.
        ends = secant[[0, -1]].clamp(max=1.0)
        self.slope.copy_(torch.cat([ends[:1], inner, ends[1:]]))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map quantiles to normal quantiles."""
        scaled, ladj = self.standardize(x.to(self.position))
        inside, beyond = self._clamp(scaled, self.position)
        start, width, base, height, left, right = self._segment(inside, self.position)
        part = ((inside - start) / width).clamp(0, 1)
        share, log_slope = rational_quadratic(part, height / width, left, right)
        z = base + height * share + beyond * self._end_slope(beyond)
        return z.to(x.dtype), (ladj + log_slope.sum(1)).to(x.dtype)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map normal quantiles to quantiles."""
        latent = z.to(self.normal)
        inside, beyond = self._clamp(latent, self.normal)
        start, width, base, height, left, right = self._segment(inside, self.normal)
        slope = height / width
        share = ((inside - base) / height).clamp(0, 1)
        part = rational_quadratic_inverse(share, slope, left, right)
        _, log_slope = rational_quadratic(part, slope, left, right)
        scaled = start + width * part + beyond / self._end_slope(beyond)
        x, ladj = self.standardize.inverse(scaled)
        return x.to(z.dtype), (ladj - log_slope.sum(1)).to(z.dtype)

    def _clamp(self, value: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
        inside = torch.minimum(torch.maximum(value, knots[0]), knots[-1])
        return inside, value - inside

    def _end_slope(self, beyond: Tensor) -> Tensor:
        return torch.where(beyond < 0, self.slope[0], self.slope[-1])

    def _segment(self, value: Tensor, knots: Tensor) -> tuple[Tensor, ...]:
        # One knot at a time: comparing all at once would hold n * d * knots bytes.
        index = torch.zeros_like(value, dtype=torch.int64)
        for knot in knots[1:-1].unbind(0):
            index = index + (value >= knot)
        low = [table.gather(0, index) for table in (self.position, self.normal, self.slope)]
        high = [table.gather(0, index + 1) for table in (self.position, self.normal, self.slope)]
        return low[0], high[0] - low[0], low[1], high[1] - low[1], low[2], high[2]


def _quantile_knots(distribution: MidDistribution, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return positions, normal quantiles, and how many of them each feature uses."""
    distinct = distribution.distinct.to(torch.float64)
    used = (2 * distinct.pow(1 / 3)).round().clamp(max=most)
    outer = (_ROWS_OUTSIDE / distinct).clamp(_OUTER_LEVEL, 0.25)
    reach = -torch.special.ndtri(outer)
    place = torch.arange(most, dtype=torch.float64, device=distinct.device)[:, None]
    even = (2 * place / (used - 1).clamp(min=1) - 1).clamp(max=1) * reach
    position = distribution.quantile(torch.special.ndtr(even))
    # Where a tie clamps the quantile, its normal value is that of the tie's middle.
    normal = torch.special.ndtri(distribution.level(position))
    # Few rows say little about a shape: their knots lie nearer to the straight line. What
    # lies far out stays near: a line to there would outweigh all that the rows say.
    line = position.clamp(-_FAR, _FAR)
    normal = normal + (line - normal) / (1 + distinct / _TRUST)
    return position, normal, used


def _merge(position: Tensor, normal: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the knots between which the map is not too steep; continue the rest as a line."""
    most = position.shape[0]
    rank = torch.arange(most, device=position.device)[:, None]
    keep = torch.zeros_like(position, dtype=torch.bool)
    last_position, last_normal = position[0], normal[0]
    keep[0] = True
    for k in range(1, most):
        gap, rise = position[k] - last_position, normal[k] - last_normal
        keep[k] = (gap > 0) & (rise > 0) & (rise <= _STEEPEST * gap) & (k < used)
        last_position = torch.where(keep[k], position[k], last_position)
        last_normal = torch.where(keep[k], normal[k], last_normal)

    order = torch.argsort((~keep).to(torch.int8), dim=0, stable=True)
    position, normal = position.gather(0, order), normal.gather(0, order)
    count = keep.sum(0)
    # Too few knots: two points of the line z = u, continued below.
    plain = (count < _FEWEST) & (rank < 2)
    line = (2 * rank - 1).to(position)
    position, normal = torch.where(plain, line, position), torch.where(plain, line, normal)
    count = torch.where(count < _FEWEST, 2, count)

    end = (count - 1)[None]
    width = position.gather(0, end) - position.gather(0, end - 1)
    height = torch.minimum(normal.gather(0, end) - normal.gather(0, end - 1), width)
    steps = (rank - end).clamp(min=0)
    position = torch.where(steps > 0, position.gather(0, end) + steps * width, position)
    normal = torch.where(steps > 0, normal.gather(0, end) + steps * height, normal)
    return position, normal
