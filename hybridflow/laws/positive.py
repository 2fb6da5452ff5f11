"""Laws of positive numbers, and of shares."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hybridflow.errors import InputError
from hybridflow.laws.base import Floats, Law, Rows, beside, column, levels, picked, values
from hybridflow.laws.stirling import log_beta_rest, stirling_rest


class GammaLaw(Law):
    r"""Gamma distributions, by mean and shape.

    .. math:: p(y) = \frac{(k/\mu)^k}{\Gamma(k)}\, y^{k - 1} e^{-k y/\mu}, \qquad y > 0

    The standard deviation is :math:`\mu/\sqrt k`. Tails keep their digits for
    shapes up to ten million.

    Parameters
    ----------
    mean : array-like of shape (n,)
        In the units of y, positive.
    shape : array-like of shape (n,)
        Positive.

    Examples
    --------
    >>> from hybridflow.laws import GammaLaw
    >>> law = GammaLaw(mean=[2.0], shape=[1.0])
    >>> law.std(), law.sf(2.0).round(4)
    (array([2.]), array([0.3679]))
    """

    def __init__(self, mean: ArrayLike, shape: ArrayLike) -> None:
        self._mean = column(mean, "mean")
        self.shape = np.broadcast_to(column(shape, "shape"), self._mean.shape)
        for name, part in (("mean", self._mean), ("shape", self.shape)):
            if not (part > 0).all():
                raise InputError(f"{name} must be positive, got {part[~(part > 0)][0]}")

    def __getitem__(self, rows: Rows) -> GammaLaw:
        """Return the law of some rows."""
        return GammaLaw(picked(self._mean, rows), picked(self.shape, rows))

    def mean(self) -> Floats:
        """Return the expectations, shape (n,)."""
        return self._mean.copy()

    def std(self) -> Floats:
        """Return the standard deviations, shape (n,)."""
        return np.asarray(self._mean / np.sqrt(self.shape))

    def _scaled(self, y: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Return y, the shape beside it, and y over the mean over the shape, 0 below 0."""
        y = values(y, len(self))
        shape = beside(self.shape, y)
        return y, shape, np.maximum(y, 0.0) / beside(self._mean, y) * shape

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        _, shape, t = self._scaled(y)
        return np.asarray(special.gammainc(shape, t))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        _, shape, t = self._scaled(y)
        return np.asarray(special.gammaincc(shape, t))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the y with P(Y <= y) = p."""
        p = levels(p, len(self))
        shape, mean = beside(self.shape, p), beside(self._mean, p)
        t = np.where(p > 0.5, special.gammainccinv(shape, 1 - p), special.gammaincinv(shape, p))
        return np.asarray(t / shape * mean)

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-density at y in nats; -inf below 0."""
        y = values(y, len(self))
        shape = beside(self.shape, y)
        mean = beside(self._mean, y)
        known = np.where((y > 0) & np.isfinite(y), y, mean)
        # By the distance from the mean, so that nothing cancels for large shapes.
        d = np.log(known) - np.log(mean)
        inside = shape * (d - np.expm1(d)) - np.log(known)
        inside = inside + 0.5 * np.log(shape / (2 * np.pi)) - stirling_rest(shape)
        edge = np.where(shape < 1, np.inf, np.where(shape > 1, -np.inf, -np.log(mean)))
        outside = np.where(y == 0, edge, np.where(np.isnan(y), np.nan, -np.inf))
        return np.where((y > 0) & np.isfinite(y), inside, outside)

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples)."""
        shape = self.shape[:, None]
        return rng.standard_gamma(shape, (len(self), n_samples)) / shape * self._mean[:, None]


class BetaLaw(Law):
    r"""Beta distributions.

    .. math:: p(y) = \frac{y^{\alpha - 1} (1 - y)^{\beta - 1}}{B(\alpha, \beta)}, \qquad 0 < y < 1

    The mean is :math:`\alpha/(\alpha + \beta)`, the precision :math:`\alpha + \beta`.

    Parameters
    ----------
    alpha, beta : array-like of shape (n,)
        Positive.

    Examples
    --------
    >>> from hybridflow.laws import BetaLaw
    >>> law = BetaLaw(alpha=[2.0], beta=[2.0])
    >>> law.mean(), law.cdf(0.25)
    (array([0.5]), array([0.15625]))
    """

    def __init__(self, alpha: ArrayLike, beta: ArrayLike) -> None:
        self.alpha = column(alpha, "alpha")
        self.beta = np.broadcast_to(column(beta, "beta"), self.alpha.shape)
        for name, part in (("alpha", self.alpha), ("beta", self.beta)):
            if not (part > 0).all():
                raise InputError(f"{name} must be positive, got {part[~(part > 0)][0]}")

    def __getitem__(self, rows: Rows) -> BetaLaw:
        """Return the law of some rows."""
        return BetaLaw(picked(self.alpha, rows), picked(self.beta, rows))

    def mean(self) -> Floats:
        """Return the expectations, shape (n,)."""
        return np.asarray(self.alpha / (self.alpha + self.beta))

    def std(self) -> Floats:
        """Return the standard deviations, shape (n,)."""
        total = self.alpha + self.beta
        return np.asarray(np.sqrt(self.alpha / total * (self.beta / total) / (total + 1)))

    def _inside(self, y: ArrayLike) -> tuple[Floats, Floats, Floats]:
        y = values(y, len(self))
        return np.clip(y, 0.0, 1.0), beside(self.alpha, y), beside(self.beta, y)

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        y, alpha, beta = self._inside(y)
        return np.asarray(special.betainc(alpha, beta, y))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        y, alpha, beta = self._inside(y)
        return np.asarray(special.betaincc(alpha, beta, y))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the y with P(Y <= y) = p."""
        p = levels(p, len(self))
        alpha, beta = beside(self.alpha, p), beside(self.beta, p)
        y = np.where(
            p > 0.5, special.betainccinv(alpha, beta, 1 - p), special.betaincinv(alpha, beta, p)
        )
        # scipy knows none where nearly all mass is at 1; below, the cdf is a power of y.
        with np.errstate(divide="ignore"):
            power = (np.log(p) + np.log(alpha) + special.betaln(alpha, beta)) / alpha
        return np.where(np.isnan(y), np.exp(np.minimum(power, 0.0)), y)

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-density at y in nats; -inf outside 0 to 1."""
        y = values(y, len(self))
        alpha, beta = beside(self.alpha, y), beside(self.beta, y)
        alpha, beta = np.broadcast_to(alpha, y.shape), np.broadcast_to(beta, y.shape)
        within = (y > 0) & (y < 1)
        known = np.where(within, y, 0.5)
        # By the distance from the mean, so that nothing cancels for high precisions.
        low, high = np.log(known), np.log1p(-known)
        powers = alpha * (low + np.log1p(beta / alpha)) + beta * (high + np.log1p(alpha / beta))
        inside = powers - log_beta_rest(alpha, beta) - low - high
        shape = np.where(y == 0, alpha, beta)  # of the power that the density has at an end
        edge = np.where(shape < 1, np.inf, np.where(shape > 1, -np.inf, np.log(alpha * beta)))
        end = np.where((y == 0) | (y == 1), edge, np.where(np.isnan(y), np.nan, -np.inf))
        return np.where(within, inside, end)

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples)."""
        return rng.beta(self.alpha[:, None], self.beta[:, None], (len(self), n_samples))
