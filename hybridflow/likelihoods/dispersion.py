"""A positive parameter beside the mean: one for every row, or one that all rows share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridflow.likelihoods.links import tempered, untempered

_LIMIT = 12.0
"""Size from which on the logarithm is tempered: e^12 is some 160,000."""

_START = 8.0
"""Largest logarithm that training starts from."""


class Dispersion(nn.Module):
    r"""The logarithm of a dispersion, or of a precision.

    .. math:: \log\phi = \eta_j \quad\text{or}\quad \log\phi = \theta

    with a column of eta, or with one learned number. Beyond 12 in size it is
    tempered to its logarithm.

    Parameters
    ----------
    per_row : bool
        Whether it takes a column of eta.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.dispersion import Dispersion
    >>> Dispersion(per_row=True)(torch.tensor([[0.5], [-2.0]]))
    tensor([ 0.5000, -2.0000])
    """

    def __init__(self, per_row: bool) -> None:
        super().__init__()
        self.outputs = 1 if per_row else 0
        self.shared = None if per_row else nn.Parameter(torch.zeros(()))

    def forward(self, eta: Tensor) -> Tensor:
        """Return the logarithms of shape (n,), from the columns of eta that are its own."""
        if self.shared is None:
            return tempered(eta[:, 0], _LIMIT)
        return tempered(self.shared.to(eta.dtype), _LIMIT).expand(eta.shape[0])

    def start(self, value: Tensor) -> Tensor:
        """Return the eta, of shape (1,) or (0,), that stands for a value."""
        return _predictor(value).expand(self.outputs)

    def initialize(self, value: Tensor) -> None:
        """Give the number that all rows share a value."""
        if self.shared is not None:
            with torch.no_grad():
                self.shared.copy_(_predictor(value))


def _predictor(value: Tensor) -> Tensor:
    smallest = torch.finfo(torch.float64).tiny
    return untempered(torch.log(value.clamp(min=smallest)).clamp(-_START, _START), _LIMIT)
