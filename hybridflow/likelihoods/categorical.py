"""Classes, with the softmax link; two of them with the logistic link."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.densities.positive import softplus
from hybridflow.errors import ConfigError
from hybridflow.laws import CategoricalLaw
from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.likelihoods.classes import class_shares, nll_of_classes
from hybridflow.specs import Target


class Categorical(Likelihood):
    r"""A categorical likelihood.

    .. math:: P(y = j) = \frac{e^{\eta_j}}{\sum_l e^{\eta_l}}, \qquad
        \text{for two classes}\quad P(y = 1) = \frac{1}{1 + e^{-\eta}}

    Two classes have one output, more have one each.

    Parameters
    ----------
    target : Target
        With at least two classes.

    Raises
    ------
    ConfigError
        If the target has fewer classes.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Categorical
    >>> from hybridflow.specs import Target
    >>> likelihood = Categorical(Target(kind="classification", classes=("no", "yes")))
    >>> likelihood.law(torch.zeros(1, 1)).probabilities
    array([[0.5, 0.5]])
    """

    def __init__(self, target: Target) -> None:
        super().__init__()
        if len(target.classes) < 2:
            raise ConfigError(
                f"a categorical head needs at least two classes, got {list(target.classes)!r}"
            )
        self.classes = target.classes
        self.outputs = 1 if len(self.classes) == 2 else len(self.classes)

    def log_probabilities(self, eta: Tensor) -> Tensor:
        """Return the logarithms of the class probabilities, float64 of shape (n, classes)."""
        eta = eta.to(torch.float64)
        if self.outputs == 1:
            return torch.cat([-softplus(eta), -softplus(-eta)], 1)
        return torch.log_softmax(eta, 1)

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log P(y | eta) of shape (n,), float64; 0 where unlabelled."""
        return nll_of_classes(self.log_probabilities, eta, targets)

    def law(self, eta: Tensor) -> CategoricalLaw:
        """Return the class probabilities."""
        logs = self.log_probabilities(eta.detach()).cpu()
        return CategoricalLaw(logs.exp().numpy(), self.classes, logs.numpy())

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the log-odds of the weighted class frequencies, slightly smoothed."""
        logs = torch.log(class_shares(targets, weight, len(self.classes)))
        return logs[1:] - logs[:1] if self.outputs == 1 else logs - logs.mean()
