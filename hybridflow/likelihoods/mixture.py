"""Mixtures of normal likelihoods."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.laws import GaussianLaw, MixtureLaw
from hybridflow.likelihoods.continuous import Continuous
from hybridflow.specs import Target


class MixtureOfGaussians(Continuous):
    r"""A mixture density: any shape, from skew to several modes.

    .. math:: y \sim \sum_{j=1}^m \pi_j\, N(\mu_j, \sigma_j^2)

    with eta holding the m logits of the weights, the m means and the m raw
    spreads, in standard deviations of y around its mean.

    Parameters
    ----------
    target : Target
        A regression of one output.
    components : int, default=3
        The number m.

    References
    ----------
    .. [1] Mixture Density Networks, C. M. Bishop, 1994

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import MixtureOfGaussians
    >>> from hybridflow.specs import Target
    >>> likelihood = MixtureOfGaussians(Target(kind="regression"), components=2)
    >>> likelihood.law(torch.tensor([[0.0, 0.0, -1.0, 3.0, 0.0, 0.0]])).mean()
    array([1.])
    """

    def __init__(self, target: Target, components: int = 3) -> None:
        super().__init__(target)
        if components < 1:
            raise ConfigError(f"components must be at least 1, got {components}")
        self.components = components
        self.outputs = 3 * components

    def _components(self, eta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-weights, means and standard deviations, each of shape (n, m)."""
        logits, means, raw = torch.split(eta, self.components, 1)
        return torch.log_softmax(logits, 1), means, self.spread(raw)

    def log_density(self, v: Tensor, eta: Tensor) -> Tensor:
        """Return the log-density of standardised targets, shape (n, m)."""
        logs, means, stds = (part[:, None, :] for part in self._components(eta))
        parts = logs - torch.log(stds) - 0.5 * ((v[..., None] - means) / stds) ** 2
        return torch.logsumexp(parts, -1) - 0.5 * math.log(2 * math.pi)

    def continuous_law(self, eta: Tensor) -> MixtureLaw:
        """Return the mixtures, in the units of y."""
        means, stds = (part.cpu().numpy() for part in self._components(eta)[1:])
        laws = [
            GaussianLaw(self.location + self.scale * mean, self.scale * std)
            for mean, std in zip(means.T, stds.T, strict=True)
        ]
        weights = torch.softmax(eta[:, : self.components], 1).cpu().numpy()
        return MixtureLaw(laws, weights)

    def standard_start(self, mean: float, std: float) -> Tensor:
        """Return equal weights and means at normal quantiles, of this mean and spread in all."""
        levels = (torch.arange(self.components, dtype=torch.float64) + 0.5) / self.components
        offsets = torch.special.ndtri(levels) / 2
        within = max(1 - offsets.square().mean().item(), 0.1)
        raw = torch.full_like(offsets, self.raw_spread(std * math.sqrt(within)))
        return torch.cat([torch.zeros_like(offsets), mean + std * offsets, raw])
