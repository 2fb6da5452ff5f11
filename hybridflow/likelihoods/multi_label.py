"""Several labels that a row may have or not, with the logistic link."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hybridflow.densities.positive import softplus
from hybridflow.errors import InputError
from hybridflow.laws import CategoricalLaw, ProductLaw
from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.specs import Target

_SMOOTHING = 1e-3
"""Share of 1/2 in the frequencies that training starts from."""


class MultiLabel(Likelihood):
    r"""One Bernoulli likelihood per label, independent given the row.

    .. math:: P(y_i = 1) = \frac{1}{1 + e^{-\eta_i}}

    Cells that are not observed cost nothing; a row may have some that are.

    Parameters
    ----------
    target : Target
        With one output per label.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import MultiLabel
    >>> from hybridflow.specs import Target
    >>> names = ("indoors", "people")
    >>> target = Target(kind="multi-label", names=names, location=(0, 0), scale=(1, 1))
    >>> MultiLabel(target).law(torch.zeros(1, 2)).mean()
    array([[0.5, 0.5]])
    """

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.names = target.names
        self.outputs = len(target.names)

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log P(y | eta) of shape (n,), float64, of the labels that are observed."""
        observed = targets.observed
        y = torch.where(observed, targets.values.to(torch.float64), 0.0)
        eta = torch.where(observed, eta.to(torch.float64), 0.0)
        return torch.where(observed, softplus((1 - 2 * y) * eta), 0.0).sum(1)

    def law(self, eta: Tensor) -> ProductLaw:
        """Return the probabilities of each label, as laws of 0 and 1."""
        eta = eta.detach().to(torch.float64)
        logs = torch.stack([-softplus(eta), -softplus(-eta)], -1).cpu().numpy()
        each = [np.ascontiguousarray(logs[:, i]) for i in range(self.outputs)]
        return ProductLaw([CategoricalLaw(np.exp(log), (0, 1), log) for log in each])

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the log-odds of the weighted frequency of each label, slightly smoothed."""
        share = torch.where(targets.observed, weight.to(torch.float64)[:, None], 0.0)
        y = torch.where(targets.observed, targets.values.to(torch.float64), 0.0)
        total = share.sum(0)
        frequency = torch.where(total > 0, (share * y).sum(0) / total.clamp(min=1e-300), 0.5)
        frequency = (1 - _SMOOTHING) * frequency + _SMOOTHING / 2
        return torch.log(frequency) - torch.log1p(-frequency)

    def check(self, targets: TargetBatch) -> None:
        """Raise for values that are neither 0 nor 1.

        Raises
        ------
        InputError
            The first such value, and where it is.
        """
        y = torch.where(targets.observed, targets.values, 0.0)
        wrong = ((y != 0) & (y != 1)).nonzero()
        if len(wrong):
            row, column = wrong[0].tolist()
            raise InputError(
                f"labels are 0 or 1; {len(wrong)} values of y are not, first "
                f"{y[row, column].item():g} at row {row} of {self.names[column]!r}"
            )
