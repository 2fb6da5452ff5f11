"""Laws of counts beyond the Poisson: overdispersed, and with additional zeros."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hybridflow.errors import InputError
from hybridflow.laws.base import (
    Floats,
    Law,
    Rows,
    beside,
    column,
    first_reached,
    has_reached,
    levels,
    picked,
    values,
)
from hybridflow.laws.stirling import log_beta_rest


class NegativeBinomialLaw(Law):
    r"""Negative binomial distributions, by mean and dispersion.

    .. math:: P(Y = y) = \frac{\Gamma(y + r)}{\Gamma(r)\,y!}
        \Bigl(\frac{r}{r + \mu}\Bigr)^r \Bigl(\frac{\mu}{r + \mu}\Bigr)^y,
        \qquad r = \frac1\alpha

    The variance is :math:`\mu + \alpha\mu^2`. For y that is not a whole number
    `log_prob` is the same formula; it is -inf below 0.

    Parameters
    ----------
    mean : array-like of shape (n,)
        Expected counts, positive.
    dispersion : array-like of shape (n,)
        Alpha, positive.

    References
    ----------
    .. [1] Regression Analysis of Count Data, A. C. Cameron and P. K. Trivedi, 1998

    Examples
    --------
    >>> from hybridflow.laws import NegativeBinomialLaw
    >>> law = NegativeBinomialLaw(mean=[3.0], dispersion=[0.5])
    >>> law.quantile([[0.1, 0.9]]), law.std() ** 2
    (array([[0., 7.]]), array([7.5]))
    """

    def __init__(self, mean: ArrayLike, dispersion: ArrayLike) -> None:
        self._mean = column(mean, "mean")
        self.dispersion = np.broadcast_to(column(dispersion, "dispersion"), self._mean.shape)
        for name, part in (("mean", self._mean), ("dispersion", self.dispersion)):
            if not (part > 0).all():
                raise InputError(f"{name} must be positive, got {part[~(part > 0)][0]}")

    def __getitem__(self, rows: Rows) -> NegativeBinomialLaw:
        """Return the law of some rows."""
        return NegativeBinomialLaw(picked(self._mean, rows), picked(self.dispersion, rows))

    @property
    def lattice(self) -> tuple[float, float]:
        """Origin 0 and step 1."""
        return 0.0, 1.0

    @property
    def _log_odds(self) -> Floats:
        """Logarithm of the ratio of both probabilities, mean * dispersion."""
        return np.asarray(np.log(self._mean) + np.log(self.dispersion))

    def mean(self) -> Floats:
        """Return the expectations, shape (n,)."""
        return self._mean.copy()

    def std(self) -> Floats:
        """Return the standard deviations, shape (n,)."""
        return np.sqrt(self._mean) * np.sqrt(1 + self.dispersion * self._mean)

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        y = values(y, len(self))
        return np.where(y < 0, 0.0, self._tail(y, below=True))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        y = values(y, len(self))
        return np.where(y < 0, 1.0, self._tail(y, below=False))

    def _tail(self, y: Floats, *, below: bool) -> Floats:
        """Return P(Y <= y), or P(Y > y), for y >= 0, as incomplete beta functions.

        The smaller of the two probabilities goes in: the other one has lost its digits.
        """
        log_odds = beside(self._log_odds, y)
        r, more = beside(1 / self.dispersion, y), np.floor(np.maximum(y, 0.0)) + 1
        few, many = special.expit(-log_odds), special.expit(log_odds)
        finite = np.where(np.isfinite(more), more, 1.0)
        if below:
            low, high = special.betainc(r, finite, few), special.betaincc(finite, r, many)
        else:
            low, high = special.betaincc(r, finite, few), special.betainc(finite, r, many)
        tail = np.where(few < many, low, high)
        return np.where(np.isnan(y), np.nan, np.where(y == np.inf, float(below), tail))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the smallest count with P(Y <= count) >= p."""
        p = levels(p, len(self))
        mean = np.broadcast_to(beside(self._mean, p), p.shape)
        last, width = np.ceil(mean), np.broadcast_to(beside(self.std(), p), p.shape) + 1
        while (short := ~has_reached(self, last, p) & (p < 1)).any():
            last, width = np.where(short, np.ceil(mean + width), last), 2 * width
        count = first_reached(self, p, np.zeros_like(last), last, 0.0, 1.0)
        return np.where(p < 1, count, np.inf)

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-mass at y in nats."""
        y = values(y, len(self))
        r, log_odds = beside(1 / self.dispersion, y), beside(self._log_odds, y)
        known = np.where(np.isfinite(y), np.maximum(y, 0.0), 0.0)
        more = known + 1
        powers = r * (np.log1p(more / r) - np.logaddexp(0, log_odds)) + more * np.log1p(r / more)
        powers = powers - known * np.logaddexp(0, -log_odds)
        inside = powers - log_beta_rest(np.broadcast_to(r, more.shape), more) - np.log(known + r)
        return np.where(np.isnan(y), np.nan, np.where((y < 0) | (y == np.inf), -np.inf, inside))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return drawn counts of shape (n, n_samples): Poisson ones of gamma rates."""
        r = 1 / self.dispersion[:, None]
        rate = rng.standard_gamma(r, (len(self), n_samples)) * (self._mean[:, None] / r)
        # numpy draws counts as 64-bit integers and refuses rates beyond.
        return rng.poisson(np.minimum(rate, 9e18)).astype(np.float64)


class ZeroInflatedLaw(Law):
    r"""Laws of counts, mixed with zeros.

    .. math:: P(Y = y) = \pi\,[y = 0] + (1 - \pi)\,P_{\text{counts}}(y), \qquad
        \pi = \frac{1}{1 + e^{-\ell}}

    Parameters
    ----------
    counts : Law
        Of n rows, on the lattice of the whole numbers from 0 on.
    log_odds : array-like of shape (n,)
        The logits of the shares of additional zeros.

    Examples
    --------
    >>> from hybridflow.laws import PoissonLaw, ZeroInflatedLaw
    >>> law = ZeroInflatedLaw(PoissonLaw([4.0]), log_odds=[0.0])
    >>> law.mean(), law.quantile([[0.5, 0.9]])
    (array([2.]), array([[0., 6.]]))
    """

    def __init__(self, counts: Law, log_odds: ArrayLike) -> None:
        self.counts = counts
        self.log_odds = np.broadcast_to(column(log_odds, "log_odds"), (len(counts),))
        if counts.lattice != (0.0, 1.0):
            raise InputError(f"counts must be a law of counts, got {type(counts).__name__}")

    def __getitem__(self, rows: Rows) -> ZeroInflatedLaw:
        """Return the law of some rows."""
        return ZeroInflatedLaw(self.counts[rows], picked(self.log_odds, rows))

    @property
    def lattice(self) -> tuple[float, float]:
        """Origin 0 and step 1."""
        return 0.0, 1.0

    @property
    def _counted(self) -> Floats:
        return np.asarray(special.expit(-self.log_odds))

    def mean(self) -> Floats:
        """Return the expectations, shape (n,)."""
        return self._counted * self.counts.mean()

    def std(self) -> Floats:
        r"""Return the standard deviations, shape (n,).

        .. math:: \sigma^2 = (1 - \pi)\,(\sigma_{\text{counts}}^2 + \pi \mu_{\text{counts}}^2)
        """
        zero = special.expit(self.log_odds)
        variance = self.counts.std() ** 2 + zero * self.counts.mean() ** 2
        return np.asarray(np.sqrt(self._counted * variance))

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        y = values(y, len(self))
        zero, counted = beside(special.expit(self.log_odds), y), beside(self._counted, y)
        above, below = counted * self.counts.sf(y), zero + counted * self.counts.cdf(y)
        return np.where(y < 0, 0.0, np.where(above < 0.5, 1 - above, below))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        y = values(y, len(self))
        return np.where(y < 0, 1.0, beside(self._counted, y) * self.counts.sf(y))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the smallest count with P(Y <= count) >= p; no larger than without the zeros."""
        p = levels(p, len(self))
        last = np.where(p < 1, self.counts.quantile(np.where(p < 1, p, 0.0)), 0.0)
        count = first_reached(self, p, np.zeros_like(last), last, 0.0, 1.0)
        return np.where(p < 1, count, np.inf)

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-mass at y in nats."""
        y = values(y, len(self))
        log_odds = beside(self.log_odds, y)
        counted = special.log_expit(-log_odds) + self.counts.log_prob(y)
        with np.errstate(invalid="ignore"):
            zero = np.logaddexp(special.log_expit(log_odds), counted)
        return np.where(y == 0, zero, counted)

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return drawn counts of shape (n, n_samples)."""
        draws = self.counts.sample(n_samples, rng)
        return np.where(rng.random(draws.shape) < self._counted[:, None], draws, 0.0)
