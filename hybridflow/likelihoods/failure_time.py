"""Accelerated failure times: positive targets, known or censored, on a logarithmic scale."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from hybridflow.densities.positive import inverse_softplus, softplus
from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.likelihoods.links import tempered
from hybridflow.likelihoods.ranges import expect_one_output, refuse
from hybridflow.specs import Target

_FLOOR = 1e-3
"""Smallest spread, in standard deviations of log y."""


class FailureTime(Likelihood):
    r"""A likelihood of positive numbers whose logarithm is shifted and scaled by the row.

    .. math:: \log y = c + d\,(\mu + \sigma W), \qquad
        \mu = \eta_1, \quad \sigma = \mathrm{floor} + \log(1 + e^{\eta_2})

    with W of a standard form, and c and d the mean and spread of log y that a
    log-normal variable with the mean and spread of y has. Features rescale time.
    Beyond 20 in size, :math:`\mu` is tempered to its logarithm.

    A censored target is scored by the probability of its bounds, and so is one
    on a lattice of step s, by the cell :math:`(y - s/2, y + s/2]`, cut at 0:

    .. math:: -\log P(a < Y \le b) = -\log\bigl(F(b) - F(a)\bigr),
        \qquad -\log P(Y > a) = -\log S(a).

    To write one, define `log_density`, `log_below`, `log_above`, `log_between`
    of W and `standard_start`, the location and scale that give W a mean and a
    standard deviation.

    Parameters
    ----------
    target : Target
        A regression of one output.
    per_row : bool, default=False
        Whether the spread depends on the row; else one is learned for all.

    Raises
    ------
    ConfigError
        If the target has more than one output.

    References
    ----------
    .. [1] The Statistical Analysis of Failure Time Data, J. D. Kalbfleisch and
           R. L. Prentice, 2002
    """

    takes_censored = True

    def __init__(self, target: Target, per_row: bool = False) -> None:
        super().__init__()
        expect_one_output(target)
        location, scale, self.step = target.location[0], target.scale[0], target.step
        variance = math.log1p((scale / location) ** 2) if location > 0 else 1.0
        self.centre = math.log(location) - variance / 2 if location > 0 else 0.0
        self.width = math.sqrt(max(variance, 1e-12))
        self.outputs = 2 if per_row else 1
        shared = torch.tensor(self._raw(self.standard_start(0.0, 1.0)[1]))
        self.shared = None if per_row else nn.Parameter(shared)

    @abstractmethod
    def log_density(self, w: Tensor) -> Tensor:
        """Return the log-density of W."""

    @abstractmethod
    def log_below(self, w: Tensor) -> Tensor:
        """Return log P(W <= w)."""

    @abstractmethod
    def log_above(self, w: Tensor) -> Tensor:
        """Return log P(W > w)."""

    @abstractmethod
    def log_between(self, w: Tensor, gap: Tensor) -> Tensor:
        """Return log P(w < W <= w + gap), for a positive gap."""

    @abstractmethod
    def standard_start(self, mean: float, std: float) -> tuple[float, float]:
        """Return the location and scale that give a mean and a standard deviation."""

    def location_and_scale(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Return location and scale of log y, each of shape (n,)."""
        raw = eta[:, 1] if self.shared is None else self.shared.to(eta.dtype).expand(eta.shape[0])
        location = self.centre + self.width * tempered(eta[:, 0])
        return location, self.width * (_FLOOR + softplus(raw))

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log p(y | eta), float64; -log P of bounds or a cell; 0 where unlabelled."""
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0].to(torch.float64), 1.0)
        location, scale = self.location_and_scale(
            torch.where(observed[:, None], eta.to(torch.float64), 0.0)
        )
        if self.step == 0 and not targets.censored.any():
            return torch.where(observed, -self._at(y, location, scale), 0.0)
        low, high = self._bounds(y, targets)
        exact = low == high
        apart = torch.where(exact, 0.5 * low, low), torch.where(exact, 1.5 * high, high)
        log_prob = self._within(*apart, location, scale)
        if exact.any():
            point = self._at(torch.where(exact, y, 1.0), location, scale)
            log_prob = torch.where(exact, point, log_prob)
        return torch.where(observed, -log_prob, 0.0)

    def _at(self, y: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """Return log p(y)."""
        log = torch.log(y)
        return self.log_density((log - location) / scale) - torch.log(scale) - log

    def _bounds(self, y: Tensor, targets: TargetBatch) -> tuple[Tensor, Tensor]:
        """Return between which numbers each y lies; both are y where it is a known point."""
        low, high = y - self.step / 2, y + self.step / 2
        if targets.lower is not None and targets.upper is not None:
            censored = targets.censored[:, 0]
            low = torch.where(censored, targets.lower[:, 0].to(torch.float64), low)
            high = torch.where(censored, targets.upper[:, 0].to(torch.float64), high)
        return low.clamp(min=0.0), high

    def _within(self, low: Tensor, high: Tensor, location: Tensor, scale: Tensor) -> Tensor:
        """Return log P(low < Y <= high), from 0 on and up to infinity."""
        bounded_below, bounded_above = low > 0, torch.isfinite(high)
        # Where a bound is missing any number will do: no gradient comes from there.
        a = torch.where(bounded_below, low, torch.where(bounded_above, high / 2, 1.0))
        b = torch.where(bounded_above, high, 2 * a)
        start, end = (torch.log(a) - location) / scale, (torch.log(b) - location) / scale
        gap = torch.log1p((b - a) / a) / scale
        neither = torch.zeros_like(start)
        open_below = torch.where(bounded_above, self.log_below(end), neither)
        open_above = torch.where(bounded_above, self.log_between(start, gap), self.log_above(start))
        return torch.where(bounded_below, open_above, open_below)

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the eta of the weighted mean and standard deviation of log y.

        Censored values count as the number between their bounds: training does the rest.
        """
        location, raw = self._moments(targets, weight)
        return torch.tensor([location, raw][: self.outputs], dtype=torch.float64)

    def initialize(self, targets: TargetBatch, weight: Tensor) -> None:
        """Set the spread that all rows share, from the standard deviation of log y."""
        if self.shared is not None:
            self.shared.fill_(self._moments(targets, weight)[1])

    def _moments(self, targets: TargetBatch, weight: Tensor) -> tuple[float, float]:
        """Return the location, and the output that stands for the scale."""
        observed = targets.observed[:, 0] & (targets.values[:, 0] > 0)
        y = torch.where(observed, targets.values[:, 0].to(torch.float64), 1.0)
        v = (torch.log(y) - self.centre) / self.width
        share = torch.where(observed, weight.to(torch.float64), 0.0)
        share = share / share.sum().clamp(min=1e-300)
        mean = (share * v).sum()
        std = (share * (v - mean) ** 2).sum().sqrt()
        location, scale = self.standard_start(mean.item(), std.item())
        return location, self._raw(scale)

    @staticmethod
    def _raw(scale: float) -> float:
        """Return the output that stands for a scale."""
        return inverse_softplus(max(scale - _FLOOR, 1e-2))

    def check(self, targets: TargetBatch) -> None:
        """Raise for times that are not positive, or negative on a lattice.

        Raises
        ------
        InputError
            How many values cannot be scored, and where the first one is.
        """
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0], 1.0)
        wrong = y < 0
        if self.step == 0:
            wrong |= (y == 0) & ~targets.censored[:, 0]
        if targets.lower is not None and targets.upper is not None:
            censored = targets.censored[:, 0]
            wrong &= ~censored
            wrong |= censored & (targets.upper[:, 0] <= 0)
        needs = f"{type(self).__name__} needs {'y > 0' if self.step == 0 else 'y >= 0'}"
        refuse(y, wrong, needs, "values that are not", "remove them, or use head='mixture'")
