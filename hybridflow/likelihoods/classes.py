"""What the likelihoods of classes share: picking the class that was seen, and frequencies."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hybridflow.likelihoods.base import TargetBatch

_SMOOTHING = 1e-3
"""Share of a uniform law in the class frequencies that training starts from."""


def nll_of_classes(
    log_probabilities: Callable[[Tensor], Tensor], eta: Tensor, targets: TargetBatch
) -> Tensor:
    """Return -log P(y | eta) of the classes that were seen.

    Parameters
    ----------
    log_probabilities : callable
        From eta to float64 of shape (n, classes).
    eta : Tensor of shape (n, k)
    targets : TargetBatch

    Returns
    -------
    Tensor of shape (n,)
        Float64; 0 where unlabelled.
    """
    observed = targets.observed[:, 0]
    eta = torch.where(observed[:, None], eta, 0.0)
    found = torch.gather(log_probabilities(eta), 1, _codes(targets)[:, None])[:, 0]
    return torch.where(observed, -found, 0.0)


def class_shares(targets: TargetBatch, weight: Tensor, classes: int) -> Tensor:
    """Return the weighted class frequencies, slightly smoothed, float64 of shape (classes,)."""
    weight = torch.where(targets.observed[:, 0], weight.to(torch.float64), 0.0)
    counts = weight.new_zeros(classes).index_add(0, _codes(targets), weight)
    return (counts / counts.sum() + _SMOOTHING / classes) / (1 + _SMOOTHING)


def _codes(targets: TargetBatch) -> Tensor:
    return torch.where(targets.observed[:, 0], targets.values[:, 0], 0.0).to(torch.int64)
