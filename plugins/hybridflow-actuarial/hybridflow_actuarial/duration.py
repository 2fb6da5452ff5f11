"""A likelihood of durations in whole periods, by the hazard of each period."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridflow.likelihoods import Likelihood, TargetBatch
from hybridflow.likelihoods.links import ProbabilityLink, tempered
from hybridflow.likelihoods.ranges import expect_one_output, refuse
from hybridflow.specs import Target
from hybridflow_actuarial.laws import HazardLaw


class DiscreteHazard(Likelihood):
    r"""A likelihood of the whole periods that pass before an event: 0, 1, 2, ...

    .. math:: P(Y = k \mid Y \ge k) = h_k = F(\alpha_k + \eta), \qquad
        P(Y \ge k) = \prod_{j < k} (1 - h_j)

    with F the logistic function (proportional odds) or
    :math:`1 - e^{-e^\eta}` (proportional hazards, observed in periods). The
    hazard of the last period holds for all later ones. Beyond 20 in size, what F is
    taken of is tempered to its logarithm. With `per_period`,
    :math:`\eta` has a column of its own for every period. A censored duration
    lies between its bounds, both included: one that had lasted 3 periods when
    it was last seen is at least 3.

    Parameters
    ----------
    target : Target
        A regression of one output.
    periods : int
        How many periods have a hazard of their own.
    link : ProbabilityLink
    per_period : bool

    References
    ----------
    .. [1] It's About Time: Using Discrete-Time Survival Analysis to Study Duration
           and the Timing of Events, J. D. Singer and J. B. Willett, 1993
    .. [2] Regression Analysis of Grouped Survival Data with Application to Breast
           Cancer Data, R. L. Prentice and L. A. Gloeckler, 1978
    """

    takes_censored = True

    def __init__(
        self, target: Target, periods: int, link: ProbabilityLink, per_period: bool
    ) -> None:
        super().__init__()
        expect_one_output(target)
        self.periods, self.link = periods, link
        self.outputs = periods if per_period else 1
        self.baseline = None if per_period else nn.Parameter(torch.zeros(periods))

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log P(low <= Y <= high | eta), float64; 0 where unlabelled."""
        observed = targets.observed[:, 0]
        low = high = torch.where(observed, targets.values[:, 0].to(torch.float64), 0.0)
        if targets.lower is not None and targets.upper is not None:
            censored = targets.censored[:, 0]
            low = torch.where(censored, targets.lower[:, 0].to(torch.float64).clamp(min=0), low)
            high = torch.where(censored, targets.upper[:, 0].to(torch.float64), high)
        low, high = low.ceil(), high.floor()
        log_hazard, log_survival = self._logs(torch.where(observed[:, None], eta.double(), 0.0))
        start = self._log_reaching(low, log_survival)
        # One period by its hazard, several by what survives of the first, and all that follow.
        one = log_hazard.gather(1, low.clamp(max=self.periods - 1).long()[:, None])[:, 0]
        several = torch.isfinite(high) & (high > low)
        end = self._log_reaching(torch.where(several, high, low + 1) + 1, log_survival)
        fall = torch.where(several, end - start, -1.0)
        some = torch.where(several, torch.log(-torch.expm1(fall)), one)
        return torch.where(observed, -(start + torch.where(torch.isfinite(high), some, 0.0)), 0.0)

    def law(self, eta: Tensor) -> HazardLaw:
        """Return the laws of the number of periods."""
        with torch.no_grad():
            log_hazard, log_survival = self._logs(eta.detach().double())
        return HazardLaw(log_hazard.cpu().numpy(), log_survival.cpu().numpy())

    def _logs(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Return log h and log(1 - h), each of shape (n, periods)."""
        eta = eta if self.baseline is None else eta + self.baseline.double()
        limited = self.link.limited(tempered(eta))
        return self.link.log_cdf(limited), self.link.log_sf(limited)

    def _log_reaching(self, k: Tensor, log_survival: Tensor) -> Tensor:
        """Return log P(Y >= k) of shape (n,)."""
        reached = torch.nn.functional.pad(log_survival.cumsum(1), (1, 0))
        within = k.clamp(max=self.periods).long()[:, None]
        later = (k - self.periods).clamp(min=0.0)
        return reached.gather(1, within)[:, 0] + later * log_survival[:, -1]

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the hazards of the life table, or zeros beside a baseline of them."""
        if self.baseline is not None:
            return torch.zeros(1, dtype=torch.float64)
        return self._life_table(targets, weight)

    def initialize(self, targets: TargetBatch, weight: Tensor) -> None:
        """Start the baseline from the life table."""
        if self.baseline is not None:
            self.baseline.copy_(self._life_table(targets, weight))

    def _life_table(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the link of events over rows at risk, with half an event added to each."""
        rows = targets.observed[:, 0]
        y, weight = targets.values[rows, 0].to(torch.float64), weight[rows].to(torch.float64)
        happened = ~targets.censored[rows, 0]
        last = self.periods - 1
        k = torch.arange(self.periods, dtype=torch.float64, device=y.device)
        # The last period stands for all later ones, which are so many chances of an event.
        chances = torch.where(
            k == last, (y[:, None] - last + 1).clamp(min=0), 1.0 * (y[:, None] >= k)
        )
        ends = (y[:, None].clamp(max=last) == k) & happened[:, None]
        at_risk, events = (weight[:, None] * chances).sum(0), (weight[:, None] * ends).sum(0)
        return self.link.eta((events + 0.5) / (at_risk + 1))

    def check(self, targets: TargetBatch) -> None:
        """Raise for durations that are not whole numbers from 0 on.

        Raises
        ------
        InputError
            How many values cannot be scored, and where the first one is.
        """
        y = torch.where(targets.observed[:, 0], targets.values[:, 0].to(torch.float64), 0.0)
        wrong = ((y < 0) | (y != y.floor())) & ~targets.censored[:, 0]
        what = "DiscreteHazard needs whole periods y >= 0"
        refuse(y, wrong, what, "values that are not", "count full periods: numpy.floor(y / period)")
