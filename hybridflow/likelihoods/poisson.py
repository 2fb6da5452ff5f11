"""Counts whose variance is their mean."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.laws import PoissonLaw
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.likelihoods.counts import Counts, moments


class Poisson(Counts):
    r"""A Poisson likelihood.

    .. math:: -\log P(y) = \lambda - y \log\lambda + \log\Gamma(y + 1), \qquad
        \log\lambda = \eta

    Beyond 20 in size, eta is tempered to its logarithm, so that no rate
    overflows. With an offset in eta, the rate is per unit of exposure.

    Parameters
    ----------
    target : Target
        A regression of one output; counts are not standardised.

    Raises
    ------
    ConfigError
        If the target has more than one output.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Poisson
    >>> from hybridflow.specs import Target
    >>> Poisson(Target(kind="regression")).law(torch.tensor([[0.0]])).rate
    array([1.])
    """

    outputs = 1

    def log_mass(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log P(y | eta) of shape (n,)."""
        log_rate = self.link.log_mean(eta[:, 0])
        return y * log_rate - torch.exp(log_rate) - torch.lgamma(y + 1)

    def law(self, eta: Tensor) -> PoissonLaw:
        """Return the Poisson laws."""
        log_rate = self.link.log_mean(eta.detach()[:, 0].to(torch.float64))
        return PoissonLaw(torch.exp(log_rate).cpu().numpy())

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the logarithm of weighted events per weighted exposure."""
        return self.link.eta(moments(targets, weight).rate)[None]
