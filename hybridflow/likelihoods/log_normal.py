"""Log-normal likelihoods of times, known or censored."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.laws import Discretized, LogNormalLaw
from hybridflow.likelihoods.failure_time import FailureTime
from hybridflow.likelihoods.links import log_ndtr
from hybridflow.likelihoods.tails import log_normal_between, log_normal_density


class LogNormal(FailureTime):
    r"""A log-normal likelihood of positive numbers.

    .. math:: \log Y \sim N(c + d\mu,\; d^2\sigma^2)

    with mu and sigma from eta as `FailureTime` has them. Its hazard rises and
    then falls: what has lasted long goes on lasting.

    Parameters
    ----------
    target, per_row
        As in `FailureTime`.

    References
    ----------
    .. [1] The Statistical Analysis of Failure Time Data, J. D. Kalbfleisch and
           R. L. Prentice, 2002

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import LogNormal
    >>> from hybridflow.specs import Target
    >>> likelihood = LogNormal(Target(kind="regression", location=(9.0,), scale=(4.0,)))
    >>> likelihood.law(torch.zeros(1, 1)).mean().round(1)
    array([9.])
    """

    def log_density(self, w: Tensor) -> Tensor:
        """Return the log-density of W."""
        return log_normal_density(w)

    def log_below(self, w: Tensor) -> Tensor:
        """Return log P(W <= w)."""
        return log_ndtr(w)

    def log_above(self, w: Tensor) -> Tensor:
        """Return log P(W > w)."""
        return log_ndtr(-w)

    def log_between(self, w: Tensor, gap: Tensor) -> Tensor:
        """Return log P(w < W <= w + gap), for a positive gap."""
        return log_normal_between(w, gap)

    def standard_start(self, mean: float, std: float) -> tuple[float, float]:
        """Return the location and scale that give a mean and a standard deviation."""
        return mean, std

    def law(self, eta: Tensor) -> LogNormalLaw | Discretized:
        """Return the log-normal laws, in the units of y; rounded to the lattice if any."""
        with torch.no_grad():
            location, scale = self.location_and_scale(eta.detach().to(torch.float64))
        law = LogNormalLaw(location.cpu().numpy(), scale.cpu().numpy())
        return Discretized(law, self.step) if self.step > 0 else law
