"""Independent dimensions with a learned location and scale: normal, Laplace, logistic."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hybridflow.densities.base import Base
from hybridflow.densities.positive import inverse_softplus, softplus
from hybridflow.transforms.statistics import drop_unweighted, moments

_SMALLEST = 1e-3
"""Floor of a scale: no dimension may shrink onto one value."""


class LocationScale(Base, ABC):
    r"""Independent dimensions of one symmetric law, each shifted and stretched.

    .. math:: \log p(z) = \sum_j \log f\Bigl(\frac{z_j - m_j}{s_j}\Bigr) - \log s_j

    with f the density of a *standard* law of location 0 and scale 1. Locations m and
    scales s are learned; they start at 0 and 1, and `initialize` gives the law
    the weighted mean and standard deviation of the rows. The context is accepted
    and not used.

    To write one, set `deviation` and define `standard_log_prob` and `standard_draws`.

    Parameters
    ----------
    features : int
        Number of dimensions, which may be 0.
    """

    deviation: float
    """Standard deviation of the standard law."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.location = nn.Parameter(torch.zeros(features))
        self.raw_scale = nn.Parameter(torch.full((features,), inverse_softplus(1 - _SMALLEST)))

    @abstractmethod
    def standard_log_prob(self, t: Tensor) -> Tensor:
        """Return log f(t) elementwise."""

    @abstractmethod
    def standard_draws(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Return draws from f, shape (n, d), in any dtype."""

    def scale(self) -> Tensor:
        """Return the scales of the dimensions, shape (d,)."""
        return _SMALLEST + softplus(self.raw_scale)

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row, shape (n,), nats."""
        scale = self.scale()
        t = (z - self.location) / scale
        return (self.standard_log_prob(t) - torch.log(scale)).sum(-1)

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
        """Draw rows of shape (n, d) with gradients to locations and scales."""
        return self.location + self.scale() * self.standard_draws(n, generator).to(self.location)

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Take the weighted mean and standard deviation of the rows."""
        z, weight = drop_unweighted(z, weight)
        if z.numel() == 0:
            return
        mean, std = moments(z, weight)
        excess = (std / self.deviation - _SMALLEST).clamp(min=_SMALLEST)
        with torch.no_grad():
            self.location.copy_(mean)
            self.raw_scale.copy_(excess + torch.log(-torch.expm1(-excess)))


class DiagonalNormal(LocationScale):
    r"""Independent normal dimensions with learned means and standard deviations.

    .. math:: \log p(z) = \sum_j -\frac{(z_j - m_j)^2}{2 s_j^2} - \log s_j - \tfrac12\log 2\pi

    Parameters
    ----------
    features : int
        Number of dimensions, which may be 0.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import DiagonalNormal
    >>> DiagonalNormal(2).log_prob(torch.zeros(1, 2)).detach()
    tensor([-1.8379])
    """

    deviation = 1.0

    def standard_log_prob(self, t: Tensor) -> Tensor:
        """Return the log-density of N(0, 1)."""
        return -0.5 * t**2 - 0.5 * math.log(2 * math.pi)

    def standard_draws(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw from N(0, 1), in the dtype of the module."""
        like = self.location
        shape = (n, like.shape[0])
        return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)


class Laplace(LocationScale):
    r"""Independent Laplace dimensions with learned medians and scales.

    .. math:: \log p(z) = \sum_j -\frac{|z_j - m_j|}{s_j} - \log 2 s_j

    Tails that fall exponentially, and a peak in the middle.

    Parameters
    ----------
    features : int
        Number of dimensions, which may be 0.

    References
    ----------
    .. [1] The Laplace Distribution and Generalizations, S. Kotz, T. J. Kozubowski
           and K. Podgorski, 2001

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import Laplace
    >>> Laplace(1).log_prob(torch.zeros(1, 1)).detach()  # -log 2
    tensor([-0.6931])
    """

    deviation = math.sqrt(2)

    def standard_log_prob(self, t: Tensor) -> Tensor:
        """Return ``-abs(t) - log 2``."""
        return -t.abs() - math.log(2)

    def standard_draws(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw an exponential and give it a sign, in float64."""
        uniform, side = _uniform(2, n, self.location, generator)
        return -torch.log1p(-uniform) * torch.where(side < 0.5, -1.0, 1.0)


class Logistic(LocationScale):
    r"""Independent logistic dimensions with learned means and scales.

    .. math:: \log p(z) = \sum_j -t_j - 2 \log\bigl(1 + e^{-t_j}\bigr) - \log s_j,
        \qquad t_j = \frac{z_j - m_j}{s_j}

    Smooth in the middle with tails that fall exponentially. Its image under
    :math:`1 / (1 + e^{-t})` is uniform on (0, 1): it is the uniform base of
    flows whose latent fills the whole line.

    Parameters
    ----------
    features : int
        Number of dimensions, which may be 0.

    References
    ----------
    .. [1] NICE: Non-linear Independent Components Estimation, L. Dinh, D. Krueger
           and Y. Bengio, 2014

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import Logistic
    >>> Logistic(1).log_prob(torch.zeros(1, 1)).detach()  # -log 4
    tensor([-1.3863])
    """

    deviation = math.pi / math.sqrt(3)

    def standard_log_prob(self, t: Tensor) -> Tensor:
        """Return the log-density, which is even in t."""
        size = t.abs()
        return -size - 2 * torch.log1p(torch.exp(-size))

    def standard_draws(self, n: int, generator: torch.Generator | None) -> Tensor:
        """Draw log(u / (1 - u)) with u uniform, in float64."""
        # Zero, which comes once in 2^53 draws, has no logarithm.
        uniform = _uniform(1, n, self.location, generator)[0].clamp(min=2.0**-54)
        return torch.log(uniform) - torch.log1p(-uniform)


def _uniform(copies: int, n: int, location: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return uniforms on [0, 1) of shape (copies, n, d).

    In float64: float32 has none below 6e-8, which would cut the tails.
    """
    shape = (copies, n, location.shape[0])
    return torch.rand(shape, generator=generator, dtype=torch.float64, device=location.device)
