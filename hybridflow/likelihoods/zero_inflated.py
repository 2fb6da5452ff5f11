"""Counts with more zeros than their law has."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.densities.positive import softplus
from hybridflow.laws import ZeroInflatedLaw
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.likelihoods.counts import Counts, moments
from hybridflow.likelihoods.links import Logit
from hybridflow.likelihoods.negative_binomial import NegativeBinomial
from hybridflow.likelihoods.poisson import Poisson
from hybridflow.specs import Target

_FEWEST, _MOST = 0.02, 0.98
"""Shares of additional zeros that training starts between."""

_DISPERSION = 0.1
"""Dispersion that training starts from."""


class ZeroInflated(Counts):
    r"""A law of counts, mixed with zeros that have another reason.

    .. math:: P(y) = \pi\,[y = 0] + (1 - \pi)\,P_{\text{counts}}(y), \qquad
        \log\frac{\pi}{1 - \pi} = \eta_2

    :math:`\eta_1` is the logarithm of the rate of those counts, and an offset
    goes there alone: a longer exposure does not make a zero that has another
    reason any less of one.

    Parameters
    ----------
    counts : Poisson or NegativeBinomial
        The law of the counts, with one output: a dispersion that rows share.

    References
    ----------
    .. [1] Zero-Inflated Poisson Regression, with an Application to Defects in
           Manufacturing, D. Lambert, 1992

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Poisson, ZeroInflated
    >>> from hybridflow.specs import Target
    >>> target = Target(kind="regression")
    >>> ZeroInflated(target, Poisson(target)).law(torch.zeros(1, 2)).mean()
    array([0.5])
    """

    outputs = 2

    def __init__(self, target: Target, counts: Poisson | NegativeBinomial) -> None:
        super().__init__(target)
        self.counts = counts

    def log_mass(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log P(y | eta) of shape (n,)."""
        counted = self.counts.log_mass(y, eta[:, :1]) - softplus(eta[:, 1])
        zero = torch.logaddexp(counted, -softplus(-eta[:, 1]))
        return torch.where(y == 0, zero, counted)

    def law(self, eta: Tensor) -> ZeroInflatedLaw:
        """Return the laws with additional zeros."""
        log_odds = eta.detach()[:, 1].to(torch.float64).cpu().numpy()
        return ZeroInflatedLaw(self.counts.law(eta[:, :1]), log_odds)

    def initialize(self, targets: TargetBatch, weight: Tensor) -> None:
        """Start a dispersion that rows share small: moments alone cannot tell it from zeros."""
        if isinstance(self.counts, NegativeBinomial):
            self.counts.dispersion.initialize(torch.tensor(_DISPERSION))

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        r"""Return the rate and the share of zeros with the weighted moments of the counts.

        .. math:: \lambda = \frac{E[y^2]}{E[y]} - 1, \qquad \pi = 1 - \frac{E[y]}{\lambda}
        """
        found = moments(targets, weight)
        rate = torch.maximum(found.squares, found.rate)
        share = (1 - found.rate / rate).clamp(_FEWEST, _MOST)
        return torch.stack([self.link.eta(found.rate / (1 - share)), Logit().eta(share)])
