"""Laws of times: Weibull and log-normal."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hybridflow.errors import InputError
from hybridflow.laws.base import Floats, Law, Rows, beside, column, levels, picked, values
from hybridflow.laws.location_scale import GaussianLaw


class FailureTimeLaw(Law):
    r"""A law of positive numbers whose logarithm is :math:`\mu + \sigma W`.

    `sf` is the survival function, the probability of lasting longer than y.
    To write one, define `mean`, `std`, `log_mass` and `__getitem__`, and of W:
    `_log_density`, `_below`, `_above`, `_level` (the inverse of `_below`, given
    both tails) and `_draw`.

    Parameters
    ----------
    location, scale : array-like of shape (n,)
        Of the logarithm; scales are positive.
    """

    def __init__(self, location: ArrayLike, scale: ArrayLike) -> None:
        location, scale = column(location, "location"), column(scale, "scale")
        self.location, self.scale = np.broadcast_arrays(location, scale)
        if not (self.scale > 0).all():
            raise InputError(f"scale must be positive, got {self.scale[~(self.scale > 0)][0]}")

    def __len__(self) -> int:
        return len(self.location)

    @abstractmethod
    def _log_density(self, w: Floats) -> Floats:
        """Return the log-density of W."""

    @abstractmethod
    def _below(self, w: Floats) -> Floats:
        """Return P(W <= w)."""

    @abstractmethod
    def _above(self, w: Floats) -> Floats:
        """Return P(W > w)."""

    @abstractmethod
    def _level(self, p: Floats) -> Floats:
        """Return the inverse of `_below`."""

    @abstractmethod
    def _draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
        """Return draws of W."""

    def _standard(self, y: ArrayLike) -> Floats:
        """Return W at y, minus infinity for y of 0 and less."""
        y = values(y, len(self))
        with np.errstate(divide="ignore"):
            log = np.log(np.where(y < 0, 0.0, y))
        return np.asarray((log - beside(self.location, y)) / beside(self.scale, y))

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        return self._below(self._standard(y))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        return self._above(self._standard(y))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the inverse of the cdf; 0 at 0, infinity at 1."""
        p = levels(p, len(self))
        with np.errstate(over="ignore"):
            return np.exp(beside(self.location, p) + beside(self.scale, p) * self._level(p))

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-density at y in nats; -inf for y of 0 and less, and at infinity."""
        y = values(y, len(self))
        inside = (y > 0) & (y < np.inf)
        log = np.log(np.where(inside, y, 1.0))
        location, scale = beside(self.location, y), beside(self.scale, y)
        density = self._log_density((log - location) / scale) - np.log(scale) - log
        return np.where(np.isnan(y), np.nan, np.where(inside, density, -np.inf))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples)."""
        draws = self._draw((len(self), n_samples), rng)
        with np.errstate(over="ignore"):
            return np.exp(self.location[:, None] + self.scale[:, None] * draws)


class WeibullLaw(FailureTimeLaw):
    r"""Weibull distributions.

    .. math:: P(Y > y) = \exp\bigl(-(y / b)^k\bigr)

    Parameters
    ----------
    scale, shape : array-like of shape (n,)
        b, in the units of y, and k; both positive.

    Examples
    --------
    >>> from hybridflow.laws import WeibullLaw
    >>> law = WeibullLaw(scale=[10.0], shape=[2.0])
    >>> law.sf(10.0).round(4), law.mean().round(3)
    (array([0.3679]), array([8.862]))
    """

    def __init__(self, scale: ArrayLike, shape: ArrayLike) -> None:
        b, k = column(scale, "scale"), column(shape, "shape")
        for name, parameter in (("scale", b), ("shape", k)):
            if not (parameter > 0).all():
                raise InputError(f"{name} must be positive, got {parameter[~(parameter > 0)][0]}")
        super().__init__(np.log(b), 1 / k)

    def __getitem__(self, rows: Rows) -> WeibullLaw:
        """Return the law of some rows."""
        return WeibullLaw(np.exp(picked(self.location, rows)), 1 / picked(self.scale, rows))

    def mean(self) -> Floats:
        r"""Return the expectations :math:`b\,\Gamma(1 + 1/k)`, shape (n,)."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self.location + special.gammaln(1 + self.scale)))

    def std(self) -> Floats:
        """Return the standard deviations, shape (n,)."""
        first, second = special.gammaln(1 + self.scale), special.gammaln(1 + 2 * self.scale)
        with np.errstate(over="ignore"):
            return np.asarray(self.mean() * np.sqrt(np.expm1(second - 2 * first)))

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        """Return log P(lower < Y <= upper), exact everywhere."""
        low, high = values(lower, len(self)), values(upper, len(self))
        # The rise of the cumulative hazard, through the ratio of the ends: exact for thin slices.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            start, end = np.exp(self._standard(low)), np.exp(self._standard(high))
            ratio = np.log1p((high - low) / low) / beside(self.scale, low)
            rise = np.where((low > 0) & (ratio < 1), start * np.expm1(ratio), end - start)
            result = np.log(-np.expm1(-rise)) - start
        return np.where(high > np.maximum(low, 0.0), result, -np.inf)

    def _log_density(self, w: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.asarray(w - np.exp(w))

    def _below(self, w: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.asarray(-np.expm1(-np.exp(w)))

    def _above(self, w: Floats) -> Floats:
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(-np.exp(w)))

    def _level(self, p: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(-np.log1p(-p)))

    def _draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
        return np.log(rng.standard_exponential(shape))


class LogNormalLaw(FailureTimeLaw):
    r"""Log-normal distributions.

    .. math:: \log Y \sim N(\mu, \sigma^2)

    Parameters
    ----------
    location, scale : array-like of shape (n,)
        Mean and standard deviation of the logarithm; scales are positive.

    Examples
    --------
    >>> from hybridflow.laws import LogNormalLaw
    >>> law = LogNormalLaw(location=[0.0], scale=[0.5])
    >>> law.quantile(0.5), law.mean().round(4)
    (array([1.]), array([1.1331]))
    """

    def __getitem__(self, rows: Rows) -> LogNormalLaw:
        """Return the law of some rows."""
        return LogNormalLaw(picked(self.location, rows), picked(self.scale, rows))

    def mean(self) -> Floats:
        r"""Return the expectations :math:`e^{\mu + \sigma^2/2}`, shape (n,)."""
        with np.errstate(over="ignore"):
            return np.asarray(np.exp(self.location + self.scale**2 / 2))

    def std(self) -> Floats:
        """Return the standard deviations, shape (n,)."""
        with np.errstate(over="ignore"):
            return np.asarray(self.mean() * np.sqrt(np.expm1(self.scale**2)))

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        """Return log P(lower < Y <= upper), exact where both tails underflow."""
        low, high = values(lower, len(self)), values(upper, len(self))
        # In the coordinate log(y / low), in which thin slices keep their digits.
        with np.errstate(divide="ignore", invalid="ignore"):
            start = np.where(low > 0, np.log(np.where(low > 0, low, 1.0)), 0.0)
            end = np.where(
                low > 0, np.log1p((high - low) / low), np.log(np.where(high > 0, high, 0.0))
            )
        location = (beside(self.location, low) - start).ravel()
        law = GaussianLaw(location, np.broadcast_to(beside(self.scale, low), low.shape).ravel())
        with np.errstate(invalid="ignore"):
            mass = law.log_mass(np.where(low > 0, 0.0, -np.inf).ravel(), end.ravel())
        return np.where(high > np.maximum(low, 0.0), mass.reshape(low.shape), -np.inf)

    def _log_density(self, w: Floats) -> Floats:
        return np.asarray(-0.5 * w**2 - 0.5 * np.log(2 * np.pi))

    def _below(self, w: Floats) -> Floats:
        return np.asarray(special.ndtr(w))

    def _above(self, w: Floats) -> Floats:
        return np.asarray(special.ndtr(-w))

    def _level(self, p: Floats) -> Floats:
        return np.asarray(special.ndtri(p))

    def _draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
        return rng.standard_normal(shape)
