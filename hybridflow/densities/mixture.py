"""Mixtures of diagonal Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hybridflow.densities.base import Base
from hybridflow.densities.positive import inverse_softplus, softplus
from hybridflow.errors import ConfigError

_SMALLEST = 1e-3
"""Floor of a component's standard deviation: no component may shrink onto a row."""


class Mixture(Base):
    r"""A mixture of normal distributions with diagonal covariances.

    .. math:: p(z) = \sum_{k=1}^K \pi_k \prod_j N(z_j \mid \mu_{kj}, \sigma_{kj}^2)

    Weights, means and spreads are learned. The means start at quasi-random
    normal points (a Sobol sequence), which `initialize` moves and stretches
    over the rows.

    Parameters
    ----------
    features : int
        Number of dimensions, which may be 0.
    components : int, default=8
        The number K.

    Raises
    ------
    ConfigError
        If `components` is below 1.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import Mixture
    >>> Mixture(2, components=4).sample(3).shape
    torch.Size([3, 2])
    """

    def __init__(self, features: int, components: int = 8) -> None:
        super().__init__()
        if components < 1:
            raise ConfigError(f"components must be at least 1, got {components}")
        points = _normal_points(components, features)
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(points.to(torch.get_default_dtype()))
        within = torch.sqrt(1 - points.square().mean(0)).clamp(min=0.5)
        raw = torch.tensor([_raw(value) for value in within.tolist()])
        self.raw = nn.Parameter(raw.expand(components, features).clone())

    def _components(self) -> tuple[Tensor, Tensor]:
        """Return log-weights of shape (K,) and standard deviations of shape (K, d)."""
        return torch.log_softmax(self.logits, 0), _SMALLEST + softplus(self.raw)

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row, shape (n,), nats."""
        logs, stds = self._components()
        t = (z[:, None, :] - self.means) / stds
        parts = logs - torch.log(stds).sum(-1) - 0.5 * (t**2).sum(-1)
        return torch.logsumexp(parts, 1) - 0.5 * z.shape[1] * math.log(2 * math.pi)

    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows of shape (n, d)."""
        logs, stds = self._components()
        if n == 0:
            return self.means[:0]
        chosen = torch.multinomial(logs.exp(), n, replacement=True, generator=generator)
        noise = torch.randn(
            n,
            self.means.shape[1],
            generator=generator,
            dtype=self.means.dtype,
            device=self.means.device,
        )
        return self.means[chosen] + stds[chosen] * noise

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Give each dimension of the mixture about the weighted mean and spread of the rows."""
        if weight is None:
            weight = torch.ones(len(z), dtype=torch.float64, device=z.device)
        share = (weight.to(torch.float64) / weight.sum())[:, None]
        mean = (share * z).sum(0)
        std = torch.sqrt((share * (z - mean) ** 2).sum(0)).clamp(min=10 * _SMALLEST)
        points = _normal_points(*self.means.shape).to(z.device)
        within = torch.sqrt(1 - points.square().mean(0)).clamp(min=0.5)
        raw = [_raw(value) for value in (std * within).tolist()]
        with torch.no_grad():
            self.logits.zero_()
            self.means.copy_(mean + std * points)
            self.raw.copy_(torch.tensor(raw, dtype=torch.float64))


def _normal_points(components: int, features: int) -> Tensor:
    """Return well-spread points of mean 0 and variance about 1/2, float64."""
    if features == 0 or components == 1:
        return torch.zeros(components, features, dtype=torch.float64)
    engine = torch.quasirandom.SobolEngine(features)  # type: ignore[no-untyped-call]
    # The first two points, 0 and 1/2 in every dimension, tell no dimensions apart.
    engine.fast_forward(2)  # type: ignore[no-untyped-call]
    points: Tensor = torch.special.ndtri(engine.draw(components, dtype=torch.float64))
    return (points - points.mean(0)) * math.sqrt(0.5)


def _raw(std: float) -> float:
    return inverse_softplus(std - _SMALLEST)
