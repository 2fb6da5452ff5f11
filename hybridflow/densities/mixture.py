"""Mixtures of diagonal Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hybridflow.densities.base import Base
from hybridflow.densities.positive import inverse_softplus, softplus
from hybridflow.errors import ConfigError
from hybridflow.transforms.implicit import attach_gradient

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

    def component_log_prob(self, z: Tensor) -> Tensor:
        """Return log of weight times density of each component, shape (n, K), nats."""
        logs, stds = self._components()
        t = (z[:, None, :] - self.means) / stds
        parts = logs - torch.log(stds).sum(-1) - 0.5 * (t**2).sum(-1)
        return parts - 0.5 * z.shape[1] * math.log(2 * math.pi)

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row, shape (n,), nats."""
        return torch.logsumexp(self.component_log_prob(z), 1)

    @torch.no_grad()
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

    def rsample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Draw rows of shape (n, d) with gradients, those to the weights included.

        The rows are those of `sample`. Which component a row comes from cannot
        be differentiated, but the row is also the image of uniform numbers
        under the inverse of the conditional distribution functions

        .. math:: u_j = \sum_k w_k(z_1, \dots, z_{j-1})\,
            \Phi\Bigl(\frac{z_j - \mu_{kj}}{\sigma_{kj}}\Bigr),

        with w the posterior weights: their implicit gradients are exact.

        References
        ----------
        Michael Figurnov, Shakir Mohamed, Andriy Mnih. Implicit Reparameterization
        Gradients. 2018.
        """
        rows = self.sample(n, context, generator)
        return attach_gradient(self._uniforms, rows, rows, self._solve_adjoint)[0]

    def _conditionals(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return, of shape (n, K, d), weights given the dimensions before, t and deviations."""
        logs, stds = self._components()
        t = (z[:, None, :] - self.means) / stds
        each = -0.5 * t.square() - torch.log(stds)
        before = torch.cat([torch.zeros_like(each[..., :1]), each[..., :-1]], 2).cumsum(2)
        return torch.softmax(logs[:, None] + before, 1), t, stds

    def _uniforms(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the conditional distribution functions (n, d), less 1 beyond the median."""
        weights, t, _ = self._conditionals(z)
        below = (weights * torch.special.ndtr(t)).sum(1)
        above = (weights * torch.special.ndtr(-t)).sum(1)
        return torch.where(below < above, below, -above), self.log_prob(z)

    def _solve_adjoint(self, g: Tensor, u: Tensor, z: Tensor) -> Tensor:
        r"""Solve :math:`J^T \lambda = g` for the triangular :math:`J = \partial u/\partial z`.

        .. math:: \lambda_i = \frac{1}{p(z_i \mid z_{<i})} \Bigl(g_i - \sum_k s_{ki}
            \sum_{m>i} \lambda_m w_{km} (\Phi_{km} - u_m)\Bigr),
            \qquad s_{ki} = \frac{\partial}{\partial z_i} \log N(z_i \mid \mu_{ki}, \sigma_{ki}^2)
        """
        with torch.no_grad():
            weights, t, stds = self._conditionals(z)
            densities = torch.exp(-0.5 * t.square()) / (math.sqrt(2 * math.pi) * stds)
            density = (weights * densities).sum(1)
            below = u[:, None] >= 0
            reached = torch.where(below, torch.special.ndtr(t), -torch.special.ndtr(-t))
            shifts = weights * (reached - u[:, None])
            scores = -t / stds
            later = torch.zeros_like(weights[..., 0])
            solved = torch.empty_like(g)
            for i in range(g.shape[1] - 1, -1, -1):
                solved[:, i] = (g[:, i] - (scores[..., i] * later).sum(1)) / density[:, i]
                later += solved[:, i, None] * shifts[..., i]
        return solved

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
