r"""Fixed maps from a bounded support to the real line, so that samples never leave it.

A flow on the real line behind such a layer has its whole mass on the support.
A value on a bound or beyond it has density 0: its ``ladj`` is :math:`-\infty`,
while z stays finite, so that a prediction can still be made from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.transforms.base import Transform
from hybridflow.transforms.statistics import drop_unweighted


class PositiveToReal(Transform):
    r"""Take the logarithm of positive features.

    .. math:: z = \log x, \qquad \mathrm{ladj} = -\sum_i \log x_i

    The logarithm and not the inverse of softplus, which is a straight line far
    out: what is positive often has tails like a power or a log-normal law, and a
    normal latent behind a straight line calls the next large value impossible
    (ten times the largest of a log-normal sample: 60 nats too low). Where tails
    are lighter than that, the logarithm only makes them a little heavier.
    Its image of every positive number is tame (:math:`|z| < 750`), and a factor
    of all values shifts z, which the standardising behind it takes out.

    Computes in float64, whatever the dtype of x. `inverse` returns positive
    normal numbers of the dtype of z, the nearest ones where the exponential is
    too small or too large for it.

    Parameters
    ----------
    features : int
    margin : sequence of float, optional
        For each feature the number that is read in place of one that is not
        positive; where it is 0, and by default, the smallest positive one that
        `initialize` met.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import PositiveToReal
    >>> log = PositiveToReal(1)
    >>> log(torch.tensor([[1.0], [0.0]]))
    (tensor([[0.],
            [0.]]), tensor([0., -inf]))
    >>> log.inverse(torch.tensor([[-1e8]]))[0] > 0
    tensor([[True]])
    """

    nearest: Tensor
    fitted: Tensor

    def __init__(self, features: int, margin: Sequence[float] | None = None) -> None:
        super().__init__()
        given = _margins(features, margin)
        self.register_buffer("nearest", torch.where(given > 0, given, 1.0))
        self.register_buffer("fitted", given == 0, persistent=False)

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Note the smallest positive number of each feature."""
        x, _ = drop_unweighted(x, weight)
        if x.numel() == 0:
            return
        smallest = torch.where(x > 0, x, torch.inf).amin(0)
        found = self.fitted & smallest.isfinite()
        self.nearest.copy_(torch.where(found, smallest, self.nearest))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take the logarithm."""
        value = x.to(self.nearest)
        inside = value > 0
        z = torch.log(torch.where(inside, value, self.nearest))
        ladj = torch.where(inside, -z, -torch.inf).sum(1)
        return z.to(x.dtype), ladj.to(x.dtype)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take the exponential."""
        range_ = torch.finfo(z.dtype)
        # Limited before the exponential, whose infinity would make gradients NaN.
        limited = z.to(self.nearest).clamp(math.log(range_.tiny), math.log(range_.max) - 1e-3)
        # The rounding of the logarithm may fall below the smallest normal number.
        x = torch.exp(limited).to(z.dtype).clamp(min=range_.tiny)
        return x, z.sum(1)


class IntervalToReal(Transform):
    r"""Take the log-odds of where a feature lies between its bounds.

    .. math:: z = \log\frac{x - a}{b - x}, \qquad
        \mathrm{ladj} = \sum_i \log\frac{b_i - a_i}{(x_i - a_i)(b_i - x_i)}

    Distances are taken from both bounds, so that nothing cancels near either.
    Computes in float64, whatever the dtype of x. `inverse` returns numbers
    strictly between the bounds, also where rounding would reach one.

    Parameters
    ----------
    low, high : sequence of float
        The bounds a and b of each feature.
    margin : sequence of float, optional
        For each feature how far from a bound a number is read that lies on it
        or beyond; where it is 0, and by default, it is read as the one nearest
        to that bound that `initialize` met.

    Raises
    ------
    ConfigError
        If the bounds are not as many, or not in order.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import IntervalToReal
    >>> logit = IntervalToReal(low=[0.0], high=[10.0])
    >>> logit(torch.tensor([[5.0]]))[0]
    tensor([[0.]])
    >>> logit.inverse(torch.tensor([[1e8]]))[0] < 10
    tensor([[True]])
    """

    low: Tensor
    high: Tensor
    nearest: Tensor
    fitted: Tensor

    def __init__(
        self, low: Sequence[float], high: Sequence[float], margin: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if len(low) != len(high) or any(a >= b for a, b in zip(low, high, strict=True)):
            raise ConfigError(
                f"low and high: expected pairs in order, got {tuple(low)} and {tuple(high)}"
            )
        given = _margins(len(low), margin)
        bottom, top = (torch.tensor(list(ends), dtype=torch.float64) for ends in (low, high))
        middle = bottom / 2 + top / 2
        ends = torch.stack([bottom + given, top - given])
        self.register_buffer("low", bottom, persistent=False)
        self.register_buffer("high", top, persistent=False)
        self.register_buffer("nearest", torch.where(given > 0, ends, middle))
        self.register_buffer("fitted", given == 0, persistent=False)

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Note the smallest and the largest number of each feature within its bounds."""
        x, _ = drop_unweighted(x, weight)
        if x.numel() == 0:
            return
        inside = (x > self.low) & (x < self.high)
        ends = torch.stack(
            [
                torch.where(inside, x, torch.inf).amin(0),
                torch.where(inside, x, -torch.inf).amax(0),
            ]
        )
        self.nearest.copy_(torch.where(self.fitted & ends.isfinite(), ends, self.nearest))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take the log-odds."""
        value = x.to(self.nearest)
        inside = (value > self.low) & (value < self.high)
        stand_in = torch.where(value <= self.low, self.nearest[0], self.nearest[1])
        value = torch.where(inside, value, stand_in)
        below, above = torch.log(value - self.low), torch.log(self.high - value)
        ladj = torch.log(self.high - self.low) - below - above
        ladj = torch.where(inside, ladj, -torch.inf).sum(1)
        return (below - above).to(x.dtype), ladj.to(x.dtype)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Go back to where the odds are."""
        size = z.to(self.nearest).abs()
        width = self.high - self.low
        distance = width * torch.sigmoid(-size)  # from the nearer bound
        x = torch.where(z < 0, self.low + distance, self.high - distance).to(z.dtype)
        low, high = self.low.to(z.dtype), self.high.to(z.dtype)
        x = torch.minimum(torch.maximum(x, torch.nextafter(low, high)), torch.nextafter(high, low))
        ladj = torch.log(width) - size - 2 * torch.log1p(torch.exp(-size))
        return x, ladj.sum(1).to(z.dtype)


def _margins(features: int, margin: Sequence[float] | None) -> Tensor:
    given = [0.0] * features if margin is None else list(margin)
    if len(given) != features or any(not value >= 0 for value in given):
        raise ConfigError(f"margin: expected {features} numbers of at least 0, got {margin}")
    return torch.tensor(given, dtype=torch.float64)
