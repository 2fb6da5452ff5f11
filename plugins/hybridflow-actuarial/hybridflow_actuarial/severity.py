"""Likelihoods of amounts: generalised Pareto, and a body spliced with such a tail."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from hybridflow.densities.positive import inverse_softplus, softplus
from hybridflow.laws import Discretized, Law, LogNormalLaw
from hybridflow.likelihoods import Likelihood, TargetBatch
from hybridflow.likelihoods.links import Logit, log_ndtr, tempered, untempered
from hybridflow.likelihoods.ranges import expect_one_output, refuse
from hybridflow.likelihoods.tails import log_normal_between, log_normal_density
from hybridflow.specs import Target
from hybridflow.transforms.statistics import MidDistribution
from hybridflow_actuarial.laws import GeneralizedParetoLaw, SplicedLaw

_LEAST, _START = 1e-3, 0.2
"""Smallest tail shape, and the one that training starts from."""

_FLOOR = 1e-3
"""Smallest spread of the logarithm of a body."""


class Severity(Likelihood):
    r"""A likelihood of positive numbers, known or between bounds.

    A known number is scored by its density; one on a lattice of step s, or a
    censored one, by the probability of its cell or bounds,

    .. math:: -\log P(a < Y \le b), \qquad a = y - s/2,\; b = y + s/2.

    To write one, define `log_density`, `log_between` and `continuous_law`.

    Parameters
    ----------
    target : Target
        A regression of one output.
    """

    takes_censored = True

    def __init__(self, target: Target) -> None:
        super().__init__()
        expect_one_output(target)
        self.unit = target.location[0] if target.location[0] > 0 else target.scale[0]
        self.step = target.step
        self.raw_shape = nn.Parameter(torch.tensor(math.log(_START / (1 - _START))))

    @abstractmethod
    def log_density(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log p(y | eta) of positive y, shape (n,)."""

    @abstractmethod
    def log_between(self, low: Tensor, high: Tensor, eta: Tensor) -> Tensor:
        """Return log P(low < Y <= high), for 0 <= low < high, which may be infinite."""

    @abstractmethod
    def continuous_law(self, eta: Tensor) -> Law:
        """Return the law of the density from a detached float64 eta."""

    def shape(self) -> Tensor:
        """Return the shape of the tail, between 0.001 and 1, float64: every mean is finite."""
        return _LEAST + (1 - _LEAST) * torch.sigmoid(self.raw_shape.to(torch.float64))

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log p(y | eta), float64; -log P of bounds or a cell; 0 where unlabelled."""
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0].to(torch.float64), self.unit)
        eta = torch.where(observed[:, None], eta.to(torch.float64), 0.0)
        low, high = (y - self.step / 2).clamp(min=0.0), y + self.step / 2
        if targets.lower is not None and targets.upper is not None:
            censored = targets.censored[:, 0]
            low = torch.where(censored, targets.lower[:, 0].to(torch.float64).clamp(min=0.0), low)
            high = torch.where(censored, targets.upper[:, 0].to(torch.float64), high)
        known = low == high
        # Where the other branch counts any bounds will do: no gradient comes from there.
        between = self.log_between(low, torch.where(known, low + self.unit, high), eta)
        at = self.log_density(torch.where(known, y, self.unit), eta)
        return torch.where(observed, -torch.where(known, at, between), 0.0)

    def law(self, eta: Tensor) -> Law:
        """Return what eta implies for y; rounded to the lattice if any."""
        with torch.no_grad():
            law = self.continuous_law(eta.detach().to(torch.float64))
        return Discretized(law, self.step) if self.step > 0 else law

    def observed(self, targets: TargetBatch, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positive observed targets and their weights, for a start."""
        y = targets.values[:, 0].to(torch.float64)
        rows = targets.observed[:, 0] & (y > 0) & (weight > 0)
        return y[rows], weight[rows].to(torch.float64)

    def check(self, targets: TargetBatch) -> None:
        """Raise for amounts that are not positive, or negative on a lattice.

        Raises
        ------
        InputError
            How many values cannot be scored, and where the first one is.
        """
        y = torch.where(targets.observed[:, 0], targets.values[:, 0].to(torch.float64), self.unit)
        wrong = (y < 0 if self.step else y <= 0) & ~targets.censored[:, 0]
        needs = f"{type(self).__name__} needs {'y >= 0' if self.step else 'y > 0'}"
        refuse(y, wrong, needs, "values that are not", "remove them, or use head='mixture'")


class GeneralizedPareto(Severity):
    r"""A generalised Pareto likelihood: what exceeds a high threshold.

    .. math:: P(Y > y) = \Bigl(1 + \frac{\xi y}{\sigma}\Bigr)^{-1/\xi}, \qquad
        \sigma = m\,e^{\eta}

    with the mean m of y as the unit, and one learned shape for all rows.

    Parameters
    ----------
    target : Target
        A regression of one output, of amounts above the threshold.

    References
    ----------
    .. [1] Statistical Inference Using Extreme Order Statistics, J. Pickands, 1975
    """

    outputs = 1

    def log_density(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log p(y | eta)."""
        scale, shape = self._scale(eta), self.shape()
        return log_pareto_sf(y, scale, shape) * (1 + shape) - torch.log(scale)

    def log_between(self, low: Tensor, high: Tensor, eta: Tensor) -> Tensor:
        """Return log P(low < Y <= high)."""
        return log_pareto_between(low, high, self._scale(eta), self.shape())

    def continuous_law(self, eta: Tensor) -> GeneralizedParetoLaw:
        """Return the generalised Pareto laws."""
        scale = self._scale(eta)
        return GeneralizedParetoLaw(scale.numpy(force=True), _row(self.shape(), scale))

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the eta with the weighted mean of y."""
        y, weight = self.observed(targets, weight)
        return untempered(torch.log((1 - _START) * _mean(y, weight, self.unit) / self.unit))[None]

    def _scale(self, eta: Tensor) -> Tensor:
        return self.unit * torch.exp(tempered(eta[:, 0]))


class Spliced(Severity):
    r"""A log-normal body below a threshold, and a generalised Pareto tail beyond it.

    .. math:: p(y) = (1 - \pi) \frac{f(y)}{F(u)}\;[y \le u] + \pi\,g(y - u)\;[y > u]

    The location of the body is linear in :math:`\eta_1`, the log-odds of the
    tail are :math:`\eta_2`, the logarithm of its scale is linear in
    :math:`\eta_3`; the spread of the body and the shape of the tail are
    learned, the same for all rows. The threshold is a quantile of the training
    rows.

    Parameters
    ----------
    target : Target
        A regression of one output.
    level : float
        Share of the rows below the threshold.

    References
    ----------
    .. [1] Loss Models, S. A. Klugman, H. H. Panjer and G. E. Willmot, 2012
    """

    outputs = 3
    threshold: Tensor

    def __init__(self, target: Target, level: float) -> None:
        super().__init__(target)
        self.level = level
        self.raw_spread = nn.Parameter(torch.tensor(inverse_softplus(1.0)))
        self.register_buffer("threshold", torch.tensor(2 * self.unit, dtype=torch.float64))

    def log_density(self, y: Tensor, eta: Tensor) -> Tensor:
        """Return log p(y | eta)."""
        location, spread, log_body, log_tail, scale = self._parts(eta)
        u, shape = self.threshold.double(), self.shape()
        log = torch.log(torch.minimum(y, u))
        body = log_normal_density((log - location) / spread) - torch.log(spread) - log
        tail = log_pareto_sf((y - u).clamp(min=0.0), scale, shape) * (1 + shape) - torch.log(scale)
        return torch.where(y <= u, log_body + body, log_tail + tail)

    def log_between(self, low: Tensor, high: Tensor, eta: Tensor) -> Tensor:
        """Return log P(low < Y <= high), the sum of its parts on either side."""
        location, spread, log_body, log_tail, scale = self._parts(eta)
        u = self.threshold.double()
        has_body, has_tail = low < u, high > u
        # Where a side has no part any bounds will do: no gradient comes from there.
        a, b = torch.where(has_body, low, u / 2), torch.where(has_body, torch.minimum(high, u), u)
        positive = torch.where(a > 0, a, b / 2)
        start, end = (torch.log(positive) - location) / spread, (torch.log(b) - location) / spread
        gap = torch.log1p((b - positive) / positive) / spread
        body = torch.where(a > 0, log_normal_between(start, gap), log_ndtr(end))
        c = torch.where(has_tail, (low - u).clamp(min=0.0), 0.0)
        d = torch.where(has_tail, high - u, self.unit)
        tail = log_pareto_between(c, d, scale, self.shape())
        return torch.logaddexp(
            torch.where(has_body, log_body + body, -torch.inf),
            torch.where(has_tail, log_tail + tail, -torch.inf),
        )

    def continuous_law(self, eta: Tensor) -> SplicedLaw:
        """Return the spliced laws."""
        location, spread, _, _, scale = self._parts(eta)
        body = LogNormalLaw(location.numpy(force=True), _row(spread, location))
        tail = GeneralizedParetoLaw(scale.numpy(force=True), _row(self.shape(), scale))
        return SplicedLaw(body, tail, float(self.threshold), eta[:, 1].numpy(force=True))

    def _parts(self, eta: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return location and spread of the body, the logarithms of both shares, the tail's scale.

        That of the body is divided by the mass that the threshold leaves it.
        """
        location = math.log(self.unit) + tempered(eta[:, 0])
        spread = _FLOOR + softplus(self.raw_spread.to(torch.float64))
        kept = log_ndtr((torch.log(self.threshold.double()) - location) / spread)
        scale = self.unit * torch.exp(tempered(eta[:, 2]))
        logit = Logit()
        return location, spread, logit.log_sf(eta[:, 1]) - kept, logit.log_cdf(eta[:, 1]), scale

    def initialize(self, targets: TargetBatch, weight: Tensor) -> None:
        """Set the threshold, and the spread of the body from the rows below it."""
        y, weight = self.observed(targets, weight)
        if len(y) == 0:
            return
        level = y.new_tensor([[self.level]])
        self.threshold.copy_(MidDistribution(y[:, None], weight).quantile(level)[0, 0])
        _, spread = self._body(y, weight)
        self.raw_spread.fill_(inverse_softplus(max(spread - _FLOOR, 1e-2)))

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the eta of the moments on either side of the threshold."""
        y, weight = self.observed(targets, weight)
        u = self.threshold.double()
        above = y > u
        share = (_mean(above.double(), weight, 1 - self.level)).clamp(0.01, 0.99)
        excess = (1 - _START) * _mean((y - u)[above], weight[above], self.unit)
        location, _ = self._body(y, weight)
        etas = [
            y.new_tensor(location - math.log(self.unit)),
            Logit().eta(share),
            torch.log(excess / self.unit),
        ]
        return untempered(torch.stack(etas))

    def _body(self, y: Tensor, weight: Tensor) -> tuple[float, float]:
        """Return the weighted mean and deviation of log y below the threshold."""
        below = y <= self.threshold.double()
        log, weight = torch.log(y[below]), weight[below]
        mean = _mean(log, weight, math.log(self.unit))
        return float(mean), float(_mean((log - mean) ** 2, weight, 1.0).sqrt())


def log_pareto_sf(y: Tensor, scale: Tensor, shape: Tensor) -> Tensor:
    """Return log P(Y > y) of a generalised Pareto law."""
    return -torch.log1p(shape * y / scale) / shape


def log_pareto_between(low: Tensor, high: Tensor, scale: Tensor, shape: Tensor) -> Tensor:
    """Return log P(low < Y <= high) of a generalised Pareto law, also of thin slices."""
    bounded = torch.isfinite(high)
    end = torch.where(bounded, high, low + 1)
    fall = torch.log1p(shape * (end - low) / (scale + shape * low)) / shape
    rest = torch.where(bounded, torch.log(-torch.expm1(-fall)), 0.0)
    return log_pareto_sf(low, scale, shape) + rest


def _mean(y: Tensor, weight: Tensor, otherwise: float) -> Tensor:
    """Return a weighted mean, or another number where there is nothing."""
    return (weight * y).sum() / weight.sum() if len(y) else y.new_tensor(otherwise)


def _row(value: Tensor, rows: Tensor) -> object:
    return value.expand(len(rows)).numpy(force=True)
