"""The uniform distribution on a box."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.densities.base import Base
from hybridflow.errors import ConfigError
from hybridflow.specs import Circle, Event, Interval, Positive, Real
from hybridflow.transforms.statistics import drop_unweighted

_MARGIN = 0.1
"""Share of the range of the rows that the box of a real dimension adds on either side."""

_PULL = 1000.0
"""Nats per half-width, in training: about one row in `_PULL` would rest outside."""


class Uniform(Base):
    r"""The uniform distribution on a box: 0 inside up to a constant, -inf outside.

    .. math:: \log p(z) = -\sum_j \log(b_j - a_j) \quad\text{if all } a_j \le z_j \le b_j,
        \qquad -\infty \text{ else}

    The box comes from the support of each dimension: an interval is its own
    box, a circle has the box from 0 to its period and no outside (z counts
    modulo the period), and a real dimension has the box from -1 to 1 until `initialize` lays it
    around the rows, with a margin of a tenth of their range on either side. Nothing is
    learned: bounds that could move would shrink onto the rows.

    In training mode a row outside has, in place of -inf, the value at the edge
    less 1000 nats per half-width that it is out, so that gradients bring it back.
    In evaluation mode the density is exactly the formula, and its gradient is zero.

    The image of a flow must lie in the box, or rows that are not training rows
    score -inf: intervals and circles, whose flows map the box onto itself. On
    real dimensions `Logistic` is the same base behind a sigmoid, with no edge.
    The context is accepted and not used.

    Parameters
    ----------
    event : Event
        With real, interval or circle dimensions.

    Raises
    ------
    ConfigError
        If a dimension has another support.

    References
    ----------
    .. [1] Normalizing Flows on Tori and Spheres, D. J. Rezende, G. Papamakarios,
           S. Racaniere, M. S. Albergo, G. Kanwar, P. E. Shanahan and K. Cranmer, 2020

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import Uniform
    >>> from hybridflow.specs import Circle, Event, Interval
    >>> event = Event(shape=(2,), support=(Interval(low=0.0, high=2.0), Circle(period=2.0)))
    >>> base = Uniform(event).eval()
    >>> base.log_prob(torch.tensor([[1.0, 5.0], [2.1, 0.0]]))
    tensor([-1.3863,    -inf])
    """

    low: Tensor
    high: Tensor
    fitted: Tensor
    round: Tensor

    def __init__(self, event: Event) -> None:
        super().__init__()
        supports = event.support * (event.features if len(event.support) == 1 else 1)
        # Numbers, since a tensor that was float32 once has not the width of a circle any more.
        self.known = [_bounds(support) for support in supports]
        self.register_buffer("low", torch.tensor([low for low, _ in self.known]))
        self.register_buffer("high", torch.tensor([high for _, high in self.known]))
        for name, kind in (("fitted", Real), ("round", Circle)):
            chosen = torch.tensor([isinstance(s, kind) for s in supports], dtype=torch.bool)
            self.register_buffer(name, chosen, persistent=False)

    def bounds(self) -> tuple[Tensor, Tensor]:
        """Return the lower and the upper ends of the box, each of shape (d,)."""
        known = self.low.new_tensor(self.known).view(-1, 2)
        low = torch.where(self.fitted, self.low, known[:, 0])
        return low, torch.where(self.fitted, self.high, known[:, 1])

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row, shape (n,), nats."""
        low, high = self.bounds()
        out = torch.relu(low - z) + torch.relu(z - high)
        out = torch.where(self.round, 0.0, out / (high - low)).sum(-1)
        inside = -torch.log(high - low).sum()
        if self.training:
            return inside - 2 * _PULL * out
        # Written so that a gradient exists, and is zero, on either side.
        return torch.where(out > 0, -math.inf, inside + 0 * out)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows of shape (n, d)."""
        return self.rsample(n, context, generator)

    def rsample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows of shape (n, d); there are no parameters that could have gradients."""
        low, high = self.bounds()
        shape = (n, low.shape[0])
        uniform = torch.rand(shape, generator=generator, dtype=low.dtype, device=low.device)
        return torch.lerp(low, high, uniform)

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Lay the box of the real dimensions around the rows of positive weight."""
        z, _ = drop_unweighted(z, weight)
        if z.numel() == 0:
            return
        low, high = z.amin(0), z.amax(0)
        # A constant dimension gets a box of its own size.
        margin = torch.where(high > low, _MARGIN * (high - low), high.abs().clamp(min=1))
        self.low.copy_(torch.where(self.fitted, low - margin, self.low))
        self.high.copy_(torch.where(self.fitted, high + margin, self.high))


def _bounds(support: object) -> tuple[float, float]:
    match support:
        case Real():
            return -1.0, 1.0
        case Interval(low=low, high=high):
            return low, high
        case Circle(period=period):
            return 0.0, period
        case _:
            kind = support.kind if isinstance(support, Positive) else type(support).__name__
            raise ConfigError(
                f"base 'uniform': needs real, interval or circle dimensions, got {kind}; "
                "use base='logistic' or another base of the whole line"
            )
