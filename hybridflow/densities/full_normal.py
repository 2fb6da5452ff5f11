"""The normal distribution with a learned mean and a full covariance."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hybridflow.densities.base import Base
from hybridflow.densities.positive import inverse_softplus, softplus
from hybridflow.transforms.statistics import drop_unweighted, moments

_SMALLEST = 1e-3
"""Floor of the diagonal of the whitening factor."""

_RIDGE = 1e-4
"""Added to the variances of a start, in units of each dimension's variance."""


class FullNormal(Base):
    r"""A normal distribution with a learned mean and a full covariance.

    .. math:: \log p(z) = -\tfrac12 \lVert A (z - m) \rVert^2 + \sum_j \log A_{jj}
        - \tfrac d2 \log 2\pi, \qquad \Sigma^{-1} = A^\top A

    with a lower triangular *whitening* factor A of positive diagonal: the density
    takes one product and no decomposition. Starts as the standard normal;
    `initialize` gives it the weighted mean and covariance of the rows. The
    context is accepted and not used.

    Parameters
    ----------
    features : int
        The number d, which may be 0.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import FullNormal
    >>> base = FullNormal(2)
    >>> base.initialize(torch.tensor([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [1.0, 1.0]]))
    >>> base.covariance().detach().round(decimals=2)
    tensor([[0.7500, 0.5000],
            [0.5000, 1.0000]])
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.location = nn.Parameter(torch.zeros(features))
        self.raw_diagonal = nn.Parameter(torch.full((features,), inverse_softplus(1 - _SMALLEST)))
        self.below = nn.Parameter(torch.zeros(features, features))

    def _factor(self) -> tuple[Tensor, Tensor]:
        """Return A, lower triangular of shape (d, d), and its diagonal."""
        diagonal = _SMALLEST + softplus(self.raw_diagonal)
        return torch.tril(self.below, -1) + torch.diag(diagonal), diagonal

    def covariance(self) -> Tensor:
        """Return the covariance matrix, shape (d, d)."""
        factor, _ = self._factor()
        identity = torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        root: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
        return root @ root.t()

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row, shape (n,), nats."""
        factor, diagonal = self._factor()
        t = (z - self.location) @ factor.t()
        normaliser = torch.log(diagonal).sum() - 0.5 * z.shape[1] * math.log(2 * math.pi)
        return normaliser - 0.5 * (t**2).sum(-1)

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
        """Draw rows of shape (n, d) with gradients to mean and covariance."""
        like = self.location
        shape = (n, like.shape[0])
        t = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
        factor, _ = self._factor()
        spread: Tensor = torch.linalg.solve_triangular(factor, t.t(), upper=False)
        return self.location + spread.t()

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Take the weighted mean and covariance of the rows, a little of a ridge added."""
        z, weight = drop_unweighted(z, weight)
        if z.numel() == 0:
            return
        mean, std = moments(z, weight)
        t = (z - mean) / std
        correlation = t.t() @ ((weight / weight.sum())[:, None] * t)
        correlation.diagonal().add_(_RIDGE)
        lower = torch.linalg.cholesky(correlation)
        identity = torch.eye(len(mean), dtype=t.dtype, device=t.device)
        factor = torch.linalg.solve_triangular(lower, identity, upper=False) / std
        excess = (factor.diagonal() - _SMALLEST).clamp(min=_SMALLEST)
        with torch.no_grad():
            self.location.copy_(mean)
            self.below.copy_(torch.tril(factor, -1))
            self.raw_diagonal.copy_(excess + torch.log(-torch.expm1(-excess)))
