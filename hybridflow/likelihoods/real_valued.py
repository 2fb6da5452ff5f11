"""What the likelihoods of real numbers share: units, missing targets, and lattices."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from hybridflow.densities.positive import inverse_softplus, softplus
from hybridflow.laws import Discretized, Law
from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.likelihoods.ranges import expect_one_output
from hybridflow.specs import Target

_SMALLEST = 1e-3
"""Floor of a spread, in standard deviations of y."""

_CELL = 4.0
"""Widest cell of a lattice, in units of the smallest spread."""


class RealValued(Likelihood):
    r"""A likelihood of real numbers.

    Families see :math:`v = (y - \mathrm{location}) / \mathrm{scale}`; what is
    reported is in the units of y:

    .. math:: -\log p(y) = -\log p(v) + \log \mathrm{scale}.

    A target on a lattice of step s is scored by the mass of its cell,

    .. math:: -\log P(y) = -\log \int_{y - s/2}^{y + s/2} p(u)\,du.

    No spread may be smaller than a quarter of the cell: then a normal value that
    is known for sure still has 95 % of the mass in its cell.

    To write one, set `outputs` and define `log_density`, `log_mass`,
    `continuous_law` and `standard_start`; `spread` is the link of a scale.

    Parameters
    ----------
    target : Target
        A regression of one output.

    Raises
    ------
    ConfigError
        If the target has more than one output.
    """

    def __init__(self, target: Target) -> None:
        super().__init__()
        expect_one_output(target)
        self.location, self.scale, self.step = target.location[0], target.scale[0], target.step
        self.floor = max(_SMALLEST, self.step / self.scale / _CELL)

    @abstractmethod
    def log_density(self, v: Tensor, eta: Tensor) -> Tensor:
        """Return the log-density of standardised targets.

        Parameters
        ----------
        v : Tensor of shape (n, m)
            Several values for every row, float64.
        eta : Tensor of shape (n, k)
            Float64.

        Returns
        -------
        Tensor of shape (n, m)
        """

    @abstractmethod
    def log_mass(self, v: Tensor, half: float, eta: Tensor) -> Tensor:
        """Return the log-probability of the cells of standardised targets.

        Parameters
        ----------
        v : Tensor of shape (n, 1)
            The middles of the cells, float64.
        half : float
            Half of their width.
        eta : Tensor of shape (n, k)
            Float64.

        Returns
        -------
        Tensor of shape (n,)
        """

    @abstractmethod
    def continuous_law(self, eta: Tensor) -> Law:
        """Return the law of the density, in the units of y, from a detached float64 eta."""

    @abstractmethod
    def standard_start(self, mean: float, std: float) -> Tensor:
        """Return the eta for standardised targets of this mean and standard deviation."""

    def spread(self, raw: Tensor) -> Tensor:
        """Return the positive scale that an output stands for, in standard deviations of y."""
        return self.floor + softplus(raw)

    def raw_spread(self, spread: float) -> float:
        """Return the output that stands for a scale."""
        return inverse_softplus(max(spread - self.floor, 1e-3))

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log p(y | eta), or -log P(y | eta) on a lattice, float64; 0 where unlabelled."""
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0].to(torch.float64), self.location)
        v = ((y - self.location) / self.scale)[:, None]
        eta = torch.where(observed[:, None], eta.to(torch.float64), 0.0)
        if self.step > 0:
            log_prob = self.log_mass(v, self.step / self.scale / 2, eta)
        else:
            log_prob = self.log_density(v, eta)[:, 0] - math.log(self.scale)
        return torch.where(observed, -log_prob, 0.0)

    def law(self, eta: Tensor) -> Law:
        """Return what eta implies for y, in the units of y; rounded to the lattice if any."""
        with torch.no_grad():
            law = self.continuous_law(eta.detach().to(torch.float64))
        return Discretized(law, self.step) if self.step > 0 else law

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the eta of the weighted mean and standard deviation."""
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0].to(torch.float64), self.location)
        v = (y - self.location) / self.scale
        share = torch.where(observed, weight.to(torch.float64), 0.0)
        share = share / share.sum()
        mean = (share * v).sum()
        std = (share * (v - mean) ** 2).sum().sqrt()
        return self.standard_start(mean.item(), std.item()).to(v.device)
