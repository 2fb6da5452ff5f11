"""Links: what lies between a linear predictor and a mean, safe at any predictor.

Each link knows logarithms of what it gives, so that likelihoods never take the
logarithm of a number that has underflowed. Where the predictor is so large
that a float64 does not hold what it stands for, it is replaced by one that
grows more slowly: a monotone map, so the link is still one, and one of
non-zero slope, so there is still a gradient.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from hybridflow.densities.positive import softplus

_LIMIT = 20.0
"""Size of a predictor from which on it is tempered."""

_RARE = -18.5
"""Predictor whose exponential adds nothing to 1 in float64 once it is squared."""


def tempered(eta: Tensor, limit: float = _LIMIT) -> Tensor:
    r"""Return eta where it is within a limit L, growing like a logarithm beyond.

    .. math:: \operatorname{sign}(\eta)\,\bigl(L + \log(1 + |\eta| - L)\bigr)
        \quad\text{for } |\eta| > L

    Its exponential is finite for every eta that occurs, and no gradient is zero.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.links import tempered
    >>> tempered(torch.tensor([-3.0, 1e4]))
    tensor([-3.0000, 29.2084])
    """
    return _beyond(eta, limit, torch.log1p)


def untempered(value: Tensor, limit: float = _LIMIT) -> Tensor:
    """Return the eta that `tempered` takes to a value.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.links import tempered, untempered
    >>> untempered(tempered(torch.tensor([-3.0, 50.0])))
    tensor([-3.0000, 50.0000])
    """
    return _beyond(value, limit, torch.expm1)


def _beyond(eta: Tensor, limit: float, growth: Callable[[Tensor], Tensor]) -> Tensor:
    """Return eta, with another growth than its own beyond a limit in size."""
    # The derivative of relu at 0 is 0, so that the slope at the limit is 1 and not 2.
    rest = growth(torch.relu(eta.abs() - limit))
    return torch.where(eta.abs() > limit, eta.sign() * limit, eta) + eta.sign() * rest


def log_ndtr(x: Tensor) -> Tensor:
    r"""Return the logarithm of the standard normal cdf.

    .. math:: \log\Phi(x) = \log\bigl(\tfrac12 \operatorname{erfcx}(-x/\sqrt2)\bigr)
        - \tfrac12 x^2 \quad\text{for } x < -1

    The gradient of the function of this name in torch is wrong by half for x
    below -1e7; this one keeps it.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.links import log_ndtr
    >>> log_ndtr(torch.tensor([-5.0, 0.0], dtype=torch.float64))
    tensor([-15.0650,  -0.6931], dtype=torch.float64)
    """
    low, high = x.clamp(max=-1.0), x.clamp(min=-1.0)
    tail = torch.log(torch.special.erfcx(-low / math.sqrt(2)) / 2) - low**2 / 2
    return torch.where(x < -1, tail, torch.log1p(-torch.special.erfc(high / math.sqrt(2)) / 2))


class PositiveLink(ABC):
    """A link of means that are positive.

    To write one, define `log_mean` and its inverse `eta`.
    """

    @abstractmethod
    def log_mean(self, eta: Tensor) -> Tensor:
        """Return the logarithm of the mean that a predictor stands for."""

    @abstractmethod
    def eta(self, mean: Tensor) -> Tensor:
        """Return the predictor of a mean."""


class Log(PositiveLink):
    r"""The logarithmic link, canonical for counts.

    .. math:: \mu = e^\eta

    Beyond 20 in size the predictor is `tempered`.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.links import Log
    >>> Log().log_mean(torch.tensor([1.5, 1e4]))
    tensor([ 1.5000, 29.2084])
    """

    def log_mean(self, eta: Tensor) -> Tensor:
        """Return the predictor itself, tempered."""
        return tempered(eta)

    def eta(self, mean: Tensor) -> Tensor:
        """Return the logarithm of a mean."""
        return untempered(torch.log(mean))


class Softplus(PositiveLink):
    r"""The softplus link: as the logarithm for small means, the identity for large ones.

    .. math:: \mu = \log(1 + e^\eta)

    Below -20 the predictor is `tempered`. Effects on large means add up, where
    under the logarithmic link they multiply.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.links import Softplus
    >>> Softplus().log_mean(torch.tensor([-10.0, 100.0])).exp()
    tensor([4.5399e-05, 1.0000e+02])
    """

    def log_mean(self, eta: Tensor) -> Tensor:
        """Return the logarithm of the softplus."""
        rare = tempered(eta.clamp(max=_RARE))
        common = torch.log(softplus(eta.clamp(min=_RARE)))
        return torch.where(eta < _RARE, rare - torch.exp(rare) / 2, common)

    def eta(self, mean: Tensor) -> Tensor:
        """Return the inverse of the softplus."""
        raw = mean + torch.log(-torch.expm1(-mean))
        return torch.where(raw < 0, untempered(raw), raw)


class ProbabilityLink(ABC):
    r"""A link of probabilities: the cdf F of a law of tolerances.

    .. math:: P(y = 1) = F(\eta), \qquad P(y \le j) = F(c_j - \eta)

    for two classes, and for ordered ones with the cutpoints c.
    """

    @abstractmethod
    def eta(self, probability: Tensor) -> Tensor:
        """Return the x with F(x) equal to a probability."""

    @abstractmethod
    def log_cdf(self, x: Tensor) -> Tensor:
        """Return log F(x)."""

    @abstractmethod
    def log_sf(self, x: Tensor) -> Tensor:
        """Return log(1 - F(x))."""

    @abstractmethod
    def log_between(self, low: Tensor, width: Tensor) -> Tensor:
        """Return log(F(low + width) - F(low)) for positive widths, also far out."""

    @abstractmethod
    def limited(self, eta: Tensor) -> Tensor:
        """Return eta, growing more slowly where its log-probabilities would overflow."""


class Logit(ProbabilityLink):
    r"""The logistic link, canonical for classes: effects are log-odds.

    .. math:: F(x) = \frac{1}{1 + e^{-x}}, \qquad
        F(b) - F(a) = F(b)\,\bigl(1 - F(a)\bigr)\,\bigl(1 - e^{a - b}\bigr)

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.links import Logit
    >>> Logit().log_cdf(torch.tensor([0.0, -1e8]))
    tensor([-6.9315e-01, -1.0000e+08])
    """

    def eta(self, probability: Tensor) -> Tensor:
        """Return the log-odds."""
        return torch.log(probability) - torch.log1p(-probability)

    def log_cdf(self, x: Tensor) -> Tensor:
        """Return log F(x)."""
        return -softplus(-x)

    def log_sf(self, x: Tensor) -> Tensor:
        """Return log(1 - F(x))."""
        return -softplus(x)

    def log_between(self, low: Tensor, width: Tensor) -> Tensor:
        """Return log(F(low + width) - F(low))."""
        return self.log_cdf(low + width) + self.log_sf(low) + torch.log(-torch.expm1(-width))

    def limited(self, eta: Tensor) -> Tensor:
        """Return eta: its log-probabilities are no larger than itself."""
        return eta


class Probit(ProbabilityLink):
    r"""The normal link: effects are standard deviations of a normal tolerance.

    .. math:: F(x) = \Phi(x)

    Beyond L = 20 in size, where a probability is 1e-89, the predictor becomes
    :math:`\sqrt{L^2 + 2L(|\eta| - L)}`: its log-probability goes on as a line
    and not as a parabola.

    References
    ----------
    .. [1] The Method of Probits, C. I. Bliss, 1934

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.links import Probit
    >>> Probit().log_cdf(torch.tensor([0.0, -5.0]))
    tensor([ -0.6931, -15.0650])
    """

    def eta(self, probability: Tensor) -> Tensor:
        """Return the normal quantile."""
        quantile: Tensor = torch.special.ndtri(probability)
        return quantile

    def log_cdf(self, x: Tensor) -> Tensor:
        """Return log F(x)."""
        return log_ndtr(x)

    def log_sf(self, x: Tensor) -> Tensor:
        """Return log(1 - F(x))."""
        return log_ndtr(-x)

    def log_between(self, low: Tensor, width: Tensor) -> Tensor:
        """Return log(F(low + width) - F(low)), in the half where the tail keeps its digits."""
        bottom = torch.where(2 * low + width > 0, -low - width, low)
        top = log_ndtr(bottom + width)
        return top + torch.log(-torch.expm1(log_ndtr(bottom) - top))

    def limited(self, eta: Tensor) -> Tensor:
        """Return eta, growing like a square root beyond 20."""
        return _beyond(eta, _LIMIT, lambda rest: torch.sqrt(_LIMIT * (_LIMIT + 2 * rest)) - _LIMIT)


class Cloglog(ProbabilityLink):
    r"""The complementary log-log link: effects are log-hazards.

    .. math:: F(x) = 1 - e^{-e^x}, \qquad
        F(b) - F(a) = e^{-e^a}\,\bigl(1 - e^{-e^a (e^{b - a} - 1)}\bigr)

    It is what remains of a Poisson count when only whether it is zero is
    known, and of survival when only the interval is. Above L = 5, where
    1 - F is 1e-64, the predictor is `tempered`: its log-probability goes on as
    a line and not as an exponential.

    References
    ----------
    .. [1] Regression Models for Ordinal Data, P. McCullagh, 1980

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.links import Cloglog
    >>> Cloglog().log_sf(torch.tensor([0.0, 1.0]))
    tensor([-1.0000, -2.7183])
    """

    _limit = 5.0

    def eta(self, probability: Tensor) -> Tensor:
        """Return log(-log(1 - p))."""
        return torch.log(-torch.log1p(-probability))

    def log_cdf(self, x: Tensor) -> Tensor:
        """Return log F(x)."""
        rare, some, most = x.clamp(max=_RARE), x.clamp(_RARE, 0.0), x.clamp(min=0.0)
        below = torch.where(
            x < _RARE,
            rare - torch.exp(rare) / 2,
            torch.log(-torch.expm1(-torch.exp(some))),
        )
        return torch.where(x < 0, below, torch.log1p(-torch.exp(-torch.exp(most))))

    def log_sf(self, x: Tensor) -> Tensor:
        """Return log(1 - F(x))."""
        return -torch.exp(x)

    def log_between(self, low: Tensor, width: Tensor) -> Tensor:
        """Return log(F(low + width) - F(low))."""
        return self.log_sf(low) + self.log_cdf(low + torch.log(torch.expm1(width)))

    def limited(self, eta: Tensor) -> Tensor:
        """Return eta, growing like a logarithm above 5."""
        return torch.where(eta > 0, tempered(eta, self._limit), eta)


PROBABILITY_LINKS: dict[str, ProbabilityLink] = {
    "logit": Logit(),
    "probit": Probit(),
    "cloglog": Cloglog(),
}
"""By the names that configs know them by."""

POSITIVE_LINKS: dict[str, PositiveLink] = {"log": Log(), "softplus": Softplus()}
"""By the names that configs know them by."""
