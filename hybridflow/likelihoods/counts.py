"""What the likelihoods of counts share: exposure, missing targets, and what a count is."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.likelihoods.links import Log
from hybridflow.likelihoods.ranges import expect_one_output, refuse, warn_of_broken_counts
from hybridflow.specs import Target

_SMALLEST_RATE = 1e-4
"""Rate that training starts from where no event was seen."""


@dataclass(frozen=True)
class CountMoments:
    """What the start of a count family is made of, every sum over rows weighted.

    Parameters
    ----------
    rate : Tensor of shape ()
        Events per exposure, not below 1e-4.
    excess : Tensor of shape ()
        Variance beyond that of a Poisson law of this rate, over the squared
        mean.
    squares : Tensor of shape ()
        The mean of y² over that of y, minus 1, over the exposure that squares
        weigh: for a Poisson law with additional zeros, the rate without them.
    """

    rate: Tensor
    excess: Tensor
    squares: Tensor


class Counts(Likelihood):
    r"""A likelihood of counts, with the logarithmic link.

    .. math:: \log E[y] = \eta_1 + \log \mathrm{exposure}

    Beyond 20 in size, :math:`\eta_1` is tempered to its logarithm, so that no
    rate overflows. With an offset in eta, the rate is per unit of exposure.

    To write one, set `outputs` and define `log_mass`, `law` and `start`.

    Parameters
    ----------
    target : Target
        A regression of one output; counts are not standardised.

    Raises
    ------
    ConfigError
        If the target has more than one output.
    """

    takes_offset = True
    link = Log()

    def __init__(self, target: Target) -> None:
        super().__init__()
        expect_one_output(target)

    @abstractmethod
    def log_mass(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log P(y | eta) of counts, float64 of shape (n,)."""

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log P(y | eta) of shape (n,), float64; 0 where unlabelled."""
        observed = targets.observed[:, 0]
        eta = torch.where(observed[:, None], eta.to(torch.float64), 0.0)
        return torch.where(observed, -self.log_mass(counts_of(targets), eta), 0.0)

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
        y, family = counts_of(targets), type(self).__name__
        refuse(
            y,
            y < 0,
            f"{family} needs y >= 0",
            "negative values",
            "remove them, or use head='gaussian'",
        )
        warn_of_broken_counts(y, family)


def counts_of(targets: TargetBatch) -> Tensor:
    """Return the observed counts, 0 where there is none, float64 of shape (n,)."""
    return torch.where(targets.observed[:, 0], targets.values[:, 0].to(torch.float64), 0.0)


def moments(targets: TargetBatch, weight: Tensor) -> CountMoments:
    """Return the weighted moments of the observed counts."""
    y = counts_of(targets)
    weight = torch.where(targets.observed[:, 0], weight.to(torch.float64), 0.0)
    exposure = torch.ones_like(y) if targets.offset is None else torch.exp(targets.offset)
    total, squared = (weight * exposure).sum(), (weight * exposure**2).sum()
    events = (weight * y).sum()
    rate = (events / total).clamp(min=_SMALLEST_RATE)
    spread = (weight * ((y - rate * exposure) ** 2 - rate * exposure)).sum()
    seen = events.clamp(min=_SMALLEST_RATE * total)
    squares = ((weight * y**2).sum() / seen - 1) * total / squared
    return CountMoments(rate, spread / (rate**2 * squared), squares)
