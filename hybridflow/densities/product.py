"""Independent parts, each a distribution of some of the dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hybridflow.densities.base import Base
from hybridflow.errors import ConfigError


class Product(Base):
    r"""A product of independent distributions.

    .. math:: \log p(z) = \sum_k \log p_k(z_{A_k})

    Parameters
    ----------
    parts : sequence of (Base, sequence of int)
        Each base with the positions :math:`A_k` of its dimensions. Each
        position belongs to one part.

    Raises
    ------
    ConfigError
        If the positions are not those of a row, once each.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import Normal, Product, Uniform
    >>> from hybridflow.specs import Circle, Event
    >>> circle = Uniform(Event(shape=(1,), support=(Circle(period=6.2832),)))
    >>> Product([(Normal(2), [0, 2]), (circle, [1])]).log_prob(torch.zeros(1, 3))
    tensor([-3.6758])
    """

    restore: Tensor

    def __init__(self, parts: Sequence[tuple[Base, Sequence[int]]]) -> None:
        super().__init__()
        order = [i for _, columns in parts for i in columns]
        if sorted(order) != list(range(len(order))):
            raise ConfigError(f"parts: expected each of 0 to {len(order) - 1} once, got {order}")
        self.parts = nn.ModuleList(base for base, _ in parts)
        for k, (_, columns) in enumerate(parts):
            chosen = torch.tensor(list(columns), dtype=torch.int64)
            self.register_buffer(f"columns_{k}", chosen, persistent=False)
        restore = torch.argsort(torch.tensor(order, dtype=torch.int64))
        self.register_buffer("restore", restore, persistent=False)

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row, shape (n,), nats."""
        total = z.new_zeros(z.shape[0])
        for base, columns in self._parts():
            total = total + base.log_prob(z.index_select(1, columns), context)
        return total

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows of shape (n, d)."""
        drawn = [base.sample(n, context, generator) for base, _ in self._parts()]
        return torch.cat(drawn, 1).index_select(1, self.restore)

    def rsample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows of shape (n, d) with the gradients of the parts."""
        drawn = [base.rsample(n, context, generator) for base, _ in self._parts()]
        return torch.cat(drawn, 1).index_select(1, self.restore)

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Initialize each part on its dimensions."""
        for base, columns in self._parts():
            base.initialize(z.index_select(1, columns), context, y, weight)

    def _parts(self) -> list[tuple[Base, Tensor]]:
        return [
            (cast("Base", base), self.get_buffer(f"columns_{k}"))
            for k, base in enumerate(self.parts)
        ]
