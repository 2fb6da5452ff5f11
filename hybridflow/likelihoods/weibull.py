"""Weibull likelihoods of times, known or censored."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.laws import Discretized, WeibullLaw
from hybridflow.likelihoods.failure_time import FailureTime

_LIMIT = 30.0
"""Logarithm of the cumulative hazard from which on the loss is linear in it."""

_EULER = 0.5772156649015329


class Weibull(FailureTime):
    r"""A Weibull likelihood: proportional hazards and accelerated failure times at once.

    .. math:: P(Y > y) = \exp\bigl(-(y / b)^k\bigr), \qquad
        \log b = c + d\mu, \quad k = \frac{1}{d\sigma}

    with mu and sigma from eta as `FailureTime` has them: W is the logarithm of
    a standard exponential variable. A cumulative hazard beyond :math:`e^{30}`
    is continued linearly in its logarithm, so that no loss overflows.

    Parameters
    ----------
    target, per_row
        As in `FailureTime`.

    References
    ----------
    .. [1] A Statistical Distribution Function of Wide Applicability, W. Weibull, 1951

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Weibull
    >>> from hybridflow.specs import Target
    >>> likelihood = Weibull(Target(kind="regression", location=(9.0,), scale=(4.0,)))
    >>> likelihood.law(torch.zeros(1, 1)).mean().round(1)
    array([7.3])
    """

    def log_density(self, w: Tensor) -> Tensor:
        """Return the log-density of W."""
        return w - _hazard(w)

    def log_below(self, w: Tensor) -> Tensor:
        """Return log P(W <= w)."""
        return _log_complement(w)

    def log_above(self, w: Tensor) -> Tensor:
        """Return log P(W > w)."""
        return -_hazard(w)

    def log_between(self, w: Tensor, gap: Tensor) -> Tensor:
        """Return log P(w < W <= w + gap), for a positive gap."""
        log_rise = w + gap + torch.log(-torch.expm1(-gap))
        return _log_complement(log_rise) - _hazard(w)

    def standard_start(self, mean: float, std: float) -> tuple[float, float]:
        """Return the location and scale that give a mean and a standard deviation."""
        scale = std * math.sqrt(6) / math.pi
        return mean + _EULER * scale, scale

    def law(self, eta: Tensor) -> WeibullLaw | Discretized:
        """Return the Weibull laws, in the units of y; rounded to the lattice if any."""
        with torch.no_grad():
            location, scale = self.location_and_scale(eta.detach().to(torch.float64))
        law = WeibullLaw(torch.exp(location).cpu().numpy(), (1 / scale).cpu().numpy())
        return Discretized(law, self.step) if self.step > 0 else law


def _hazard(w: Tensor) -> Tensor:
    """Return e^w, linear from the limit on."""
    return torch.exp(w.clamp(max=_LIMIT)) * (1 + (w - _LIMIT).clamp(min=0.0))


def _log_complement(w: Tensor) -> Tensor:
    """Return log(1 - exp(-e^w))."""
    inside = torch.log(-torch.expm1(-torch.exp(w.clamp(-_LIMIT, _LIMIT))))
    return torch.where(w < -_LIMIT, w, inside)
