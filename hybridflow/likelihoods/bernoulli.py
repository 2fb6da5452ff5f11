"""Two classes, with any link of a probability."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.laws import CategoricalLaw
from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.likelihoods.classes import class_shares, nll_of_classes
from hybridflow.likelihoods.links import ProbabilityLink
from hybridflow.specs import Target


class Bernoulli(Likelihood):
    r"""A Bernoulli likelihood.

    .. math:: P(y = 1) = F(\eta)

    Parameters
    ----------
    target : Target
        With two classes, of which the second is what happens with F.
    link : ProbabilityLink

    Raises
    ------
    ConfigError
        If the target does not have two classes.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Bernoulli
    >>> from hybridflow.likelihoods.links import Probit
    >>> from hybridflow.specs import Target
    >>> likelihood = Bernoulli(Target(kind="classification", classes=("no", "yes")), Probit())
    >>> likelihood.law(torch.ones(1, 1)).probabilities.round(4)
    array([[0.1587, 0.8413]])
    """

    outputs = 1

    def __init__(self, target: Target, link: ProbabilityLink) -> None:
        super().__init__()
        if len(target.classes) != 2:
            raise ConfigError(
                f"a Bernoulli head needs two classes, got {list(target.classes)[:10]!r}: use "
                "head='categorical', or head='ordinal' if they have an order"
            )
        self.classes = target.classes
        self.link = link

    def log_probabilities(self, eta: Tensor) -> Tensor:
        """Return the logarithms of both probabilities, float64 of shape (n, 2)."""
        x = self.link.limited(eta.to(torch.float64))
        return torch.cat([self.link.log_sf(x), self.link.log_cdf(x)], 1)

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log P(y | eta) of shape (n,), float64; 0 where unlabelled."""
        return nll_of_classes(self.log_probabilities, eta, targets)

    def law(self, eta: Tensor) -> CategoricalLaw:
        """Return the class probabilities."""
        logs = self.log_probabilities(eta.detach()).cpu()
        return CategoricalLaw(logs.exp().numpy(), self.classes, logs.numpy())

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the eta of the weighted class frequencies, slightly smoothed."""
        return self.link.eta(class_shares(targets, weight, 2)[1:])
