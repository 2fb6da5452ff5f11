"""Counts whose variance grows with the square of their mean."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.densities.positive import softplus
from hybridflow.laws import NegativeBinomialLaw
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.likelihoods.counts import Counts, moments
from hybridflow.likelihoods.dispersion import Dispersion
from hybridflow.likelihoods.stirling import log_beta_rest
from hybridflow.specs import Target

SMALLEST_EXCESS = 1e-2
"""Dispersion that training starts from where the variance is no larger than the mean."""


def log_negative_binomial(y: Tensor, log_mean: Tensor, log_dispersion: Tensor) -> Tensor:
    r"""Return the log-mass of counts under a negative binomial law.

    .. math:: \log P(y) = -\log(y + r) - \log B(r, y + 1)
        + r \log\frac{r}{r + \mu} + y \log\frac{\mu}{r + \mu}, \qquad r = \frac1\alpha

    with the powers of the beta function combined with those of the
    probabilities, so that nothing is lost on the way to the Poisson law,
    :math:`\alpha \to 0`.

    Parameters
    ----------
    y, log_mean, log_dispersion : Tensor of shape (n,)
        Float64.

    Returns
    -------
    Tensor of shape (n,)

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.negative_binomial import log_negative_binomial
    >>> log_negative_binomial(*torch.zeros(3, 1, dtype=torch.float64)).exp()
    tensor([0.5000], dtype=torch.float64)
    """
    r, odds = torch.exp(-log_dispersion), log_mean + log_dispersion
    more = y + 1
    powers = r * (torch.log1p(more / r) - softplus(odds))
    powers = powers + more * torch.log1p(r / more) - y * softplus(-odds)
    return powers - log_beta_rest(r, more) - torch.log(y + r)


class NegativeBinomial(Counts):
    r"""A negative binomial likelihood.

    .. math:: E[y] = \mu, \qquad \operatorname{Var}[y] = \mu + \alpha\mu^2, \qquad
        \log\mu = \eta_1, \quad \log\alpha = \eta_2

    A Poisson law whose rate varies between rows of the same features, by a
    gamma law with the squared coefficient of variation :math:`\alpha`. Beyond
    20 and 12 in size the predictors are tempered to their logarithms. With an
    offset in :math:`\eta_1`, the rate is per unit of exposure.

    Parameters
    ----------
    target : Target
        A regression of one output; counts are not standardised.
    per_row : bool, default=True
        Whether the dispersion depends on the row; else one is learned for all.

    Raises
    ------
    ConfigError
        If the target has more than one output.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import NegativeBinomial
    >>> from hybridflow.specs import Target
    >>> NegativeBinomial(Target(kind="regression")).law(torch.zeros(1, 2)).std() ** 2
    array([2.])
    """

    def __init__(self, target: Target, per_row: bool = True) -> None:
        super().__init__(target)
        self.dispersion = Dispersion(per_row)
        self.outputs = 1 + self.dispersion.outputs

    def _logs(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithms of mean and dispersion, each of shape (n,)."""
        return self.link.log_mean(eta[:, 0]), self.dispersion(eta[:, 1:])

    def log_mass(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log P(y | eta) of shape (n,)."""
        return log_negative_binomial(y, *self._logs(eta))

    def law(self, eta: Tensor) -> NegativeBinomialLaw:
        """Return the negative binomial laws."""
        with torch.no_grad():
            logs = self._logs(eta.detach().to(torch.float64))
        return NegativeBinomialLaw(*(torch.exp(log).cpu().numpy() for log in logs))

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return what gives weighted events per exposure, and their variance."""
        found = moments(targets, weight)
        dispersion = self.dispersion.start(found.excess.clamp(min=SMALLEST_EXCESS))
        return torch.cat([self.link.eta(found.rate)[None], dispersion])

    def initialize(self, targets: TargetBatch, weight: Tensor) -> None:
        """Start a dispersion that rows share from their variance."""
        excess = moments(targets, weight).excess
        self.dispersion.initialize(excess.clamp(min=SMALLEST_EXCESS))
