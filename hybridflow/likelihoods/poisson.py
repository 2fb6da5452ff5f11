"""Counts, with the logarithmic link."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from hybridflow.errors import ConfigError, InputError, NonIntegerCountWarning
from hybridflow.laws import PoissonLaw
from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.specs import Target

_SMALLEST_RATE = 1e-4
"""Rate that training starts from where no event was seen."""


_LIMIT = 20.0
"""Size of eta from which on it grows like a logarithm."""


def tempered(eta: Tensor) -> Tensor:
    r"""Return eta where it is within a limit L of 20, growing like a logarithm beyond.

    .. math:: \operatorname{sign}(\eta)\,\bigl(L + \log(1 + |\eta| - L)\bigr)
        \quad\text{for } |\eta| > L

    Its exponential is finite for every eta that occurs, and no gradient is zero.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.poisson import tempered
    >>> tempered(torch.tensor([-3.0, 1e4]))
    tensor([-3.0000, 29.2084])
    """
    beyond = (eta.abs() - _LIMIT).clamp(min=0.0)
    return eta.clamp(-_LIMIT, _LIMIT) + eta.sign() * torch.log1p(beyond)


class Poisson(Likelihood):
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
    takes_offset = True

    def __init__(self, target: Target) -> None:
        super().__init__()
        if len(target.names) != 1:
            raise ConfigError(
                f"this head predicts one output, got {len(target.names)}: {list(target.names)}"
            )

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log P(y | eta) of shape (n,), float64; 0 where unlabelled."""
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0].to(torch.float64), 0.0)
        log_rate = tempered(torch.where(observed, eta[:, 0].to(torch.float64), 0.0))
        loss = torch.exp(log_rate) - y * log_rate + torch.lgamma(y + 1)
        return torch.where(observed, loss, 0.0)

    def law(self, eta: Tensor) -> PoissonLaw:
        """Return the Poisson laws."""
        log_rate = tempered(eta.detach()[:, 0].to(torch.float64))
        return PoissonLaw(torch.exp(log_rate).cpu().numpy())

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the logarithm of weighted events per weighted exposure."""
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0].to(torch.float64), 0.0)
        weight = torch.where(observed, weight.to(torch.float64), 0.0)
        exposure = weight if targets.offset is None else weight * torch.exp(targets.offset)
        rate = (weight * y).sum() / exposure.sum()
        return torch.log(rate.clamp(min=_SMALLEST_RATE))[None]

    def check(self, targets: TargetBatch) -> None:
        """Raise for negative counts; warn of those that are not whole.

        Raises
        ------
        InputError
            How many values are negative and where the first one is.

        Warns
        -----
        NonIntegerCountWarning
        """
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0], 0.0)
        negative = (y < 0).nonzero()[:, 0]
        if len(negative):
            first = int(negative[0])
            raise InputError(
                f"Poisson needs y >= 0; {len(negative)} negative values, first at row {first} "
                f"({y[first].item():g}): remove them, or use head='gaussian'"
            )
        broken = (y != y.floor()).nonzero()[:, 0]
        if len(broken):
            first = int(broken[0])
            warnings.warn(
                f"Poisson counts whole numbers; {len(broken)} values of y are not whole, first at "
                f"row {first} ({y[first].item():g}): they are scored by a quasi-likelihood",
                NonIntegerCountWarning,
                stacklevel=2,
            )
