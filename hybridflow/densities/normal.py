"""The standard normal distribution."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.densities.base import Base


class Normal(Base):
    r"""Independent standard normal dimensions.

    .. math:: \log p(z) = -\tfrac12 \lVert z \rVert^2 - \tfrac d2 \log 2\pi

    Parameters
    ----------
    features : int
        The number d, which may be 0.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import Normal
    >>> Normal(2).log_prob(torch.zeros(1, 2))
    tensor([-1.8379])
    """

    like: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        # Follows the module's dtype and device, which draws take.
        self.register_buffer("like", torch.empty(0), persistent=False)

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row, shape (n,), nats."""
        return -0.5 * (z**2).sum(-1) - 0.5 * self.features * math.log(2 * math.pi)

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows of shape (n, d)."""
        return torch.randn(
            n,
            self.features,
            generator=generator,
            dtype=self.like.dtype,
            device=self.like.device,
        )

    def rsample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows of shape (n, d), which depend on no parameter."""
        return self.sample(n, context, generator)
