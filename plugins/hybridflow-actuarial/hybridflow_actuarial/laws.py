"""What the heads imply for y: generalised Pareto, spliced, and discrete-time hazard laws."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hybridflow.laws import Floats, Law, LogNormalLaw, Rows
from hybridflow.laws.base import beside, column, first_reached, levels, picked, values


class GeneralizedParetoLaw(Law):
    r"""Generalised Pareto distributions from 0 on, of positive shape.

    .. math:: P(Y > y) = \Bigl(1 + \frac{\xi y}{\sigma}\Bigr)^{-1/\xi}

    Parameters
    ----------
    scale, shape : array-like of shape (n,)
        Sigma, in the units of y, and xi; both positive.

    Examples
    --------
    >>> from hybridflow_actuarial.laws import GeneralizedParetoLaw
    >>> law = GeneralizedParetoLaw([10.0], [0.5])
    >>> law.sf(20.0), law.mean()
    (array([0.25]), array([20.]))
    """

    def __init__(self, scale: ArrayLike, shape: ArrayLike) -> None:
        self.scale, self.shape = column(scale, "scale"), column(shape, "shape")

    def __getitem__(self, rows: Rows) -> GeneralizedParetoLaw:
        """Return the law of some rows."""
        return GeneralizedParetoLaw(picked(self.scale, rows), picked(self.shape, rows))

    def mean(self) -> Floats:
        """Return the expectations, infinite from a shape of 1 on."""
        with np.errstate(divide="ignore"):
            return np.where(self.shape < 1, self.scale / np.maximum(1 - self.shape, 0), np.inf)

    def std(self) -> Floats:
        """Return the standard deviations, infinite from a shape of 1/2 on."""
        with np.errstate(divide="ignore"):
            finite = self.mean() / np.sqrt(np.maximum(1 - 2 * self.shape, 0))
        return np.where(self.shape < 0.5, finite, np.inf)

    def log_sf(self, y: Floats) -> Floats:
        """Return log P(Y > y), 0 below 0."""
        scale, shape = beside(self.scale, y), beside(self.shape, y)
        return np.asarray(-np.log1p(shape * np.maximum(y, 0.0) / scale) / shape)

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        return np.asarray(-np.expm1(self.log_sf(values(y, len(self)))))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        return np.asarray(np.exp(self.log_sf(values(y, len(self)))))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the inverse of the cdf."""
        p = levels(p, len(self))
        scale, shape = beside(self.scale, p), beside(self.shape, p)
        with np.errstate(divide="ignore"):
            return np.asarray(scale * np.expm1(-shape * np.log1p(-p)) / shape)

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-density at y in nats; -inf below 0."""
        y = values(y, len(self))
        scale, shape = beside(self.scale, y), beside(self.shape, y)
        inside = (1 + shape) * self.log_sf(y) - np.log(scale)
        return np.where(np.isnan(y), np.nan, np.where(y >= 0, inside, -np.inf))

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        """Return log P(lower < Y <= upper), exact everywhere."""
        low = np.maximum(values(lower, len(self)), 0.0)
        high = np.maximum(values(upper, len(self)), 0.0)
        scale, shape = beside(self.scale, low), beside(self.shape, low)
        fall = np.log1p(shape * (high - low) / (scale + shape * low)) / shape
        with np.errstate(divide="ignore"):
            return np.asarray(self.log_sf(low) + np.log(-np.expm1(-fall)))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples)."""
        shape = self.shape[:, None]
        draws = rng.standard_exponential((len(self), n_samples))
        return np.asarray(self.scale[:, None] * np.expm1(shape * draws) / shape)


class SplicedLaw(Law):
    r"""A log-normal body up to a threshold u, and a generalised Pareto tail beyond it.

    .. math:: p(y) = (1 - \pi) \frac{f(y)}{F(u)}\;[y \le u] + \pi\,g(y - u)\;[y > u]

    Parameters
    ----------
    body : LogNormalLaw
        f, before it is cut at the threshold.
    tail : GeneralizedParetoLaw
        g, of what exceeds the threshold.
    threshold : float
        u, positive.
    log_odds : array-like of shape (n,)
        Of the tail, :math:`\log(\pi / (1 - \pi))`.

    References
    ----------
    .. [1] Loss Models, S. A. Klugman, H. H. Panjer and G. E. Willmot, 2012

    Examples
    --------
    >>> from hybridflow.laws import LogNormalLaw
    >>> from hybridflow_actuarial.laws import GeneralizedParetoLaw, SplicedLaw
    >>> tail = GeneralizedParetoLaw([10.0], [0.5])
    >>> SplicedLaw(LogNormalLaw([0.0], [1.0]), tail, 5.0, [0.0]).sf(5.0)
    array([0.5])
    """

    def __init__(
        self, body: LogNormalLaw, tail: GeneralizedParetoLaw, threshold: float, log_odds: ArrayLike
    ) -> None:
        self.body, self.tail, self.threshold = body, tail, float(threshold)
        self.log_odds = column(log_odds, "log_odds")
        self.share = special.expit(self.log_odds)
        reach = (np.log(self.threshold) - body.location) / body.scale
        self._log_below = special.log_ndtr(reach)

    def __getitem__(self, rows: Rows) -> SplicedLaw:
        """Return the law of some rows."""
        log_odds = picked(self.log_odds, rows)
        return SplicedLaw(self.body[rows], self.tail[rows], self.threshold, log_odds)

    def mean(self) -> Floats:
        """Return the expectations."""
        beyond = self.threshold + self.tail.mean()
        return (1 - self.share) * self._moment(1) + self.share * beyond

    def std(self) -> Floats:
        """Return the standard deviations, infinite where the tail's is."""
        mean, tail = self.mean(), self.tail.mean()
        beyond = self.tail.std() ** 2 + (self.threshold + tail) ** 2
        square = (1 - self.share) * self._moment(2) + self.share * beyond
        return np.sqrt(np.maximum(square - mean**2, 0.0))

    def _moment(self, power: int) -> Floats:
        """Return the expectation of a power of y below the threshold."""
        location, scale = self.body.location, self.body.scale
        reach = (np.log(self.threshold) - location) / scale
        log = power * location + power**2 * scale**2 / 2
        ratio = special.log_ndtr(reach - power * scale) - self._log_below
        return np.asarray(np.exp(log + ratio))

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        y = values(y, len(self))
        body = self._of_body(np.zeros_like(y), np.minimum(y, self.threshold))
        return (1 - beside(self.share, y)) * body + beside(self.share, y) * self.tail.cdf(
            y - self.threshold
        )

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        y = values(y, len(self))
        body = self._of_body(np.minimum(y, self.threshold), np.full_like(y, self.threshold))
        return (1 - beside(self.share, y)) * body + beside(self.share, y) * self.tail.sf(
            y - self.threshold
        )

    def _of_body(self, lower: Floats, upper: Floats) -> Floats:
        """Return P(lower < Y <= upper) of the body alone, once it is cut."""
        log_mass = self.body.log_mass(lower, upper)
        return np.asarray(np.exp(log_mass - beside(self._log_below, log_mass)))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the inverse of the cdf."""
        p = levels(p, len(self))
        share = beside(self.share, p)
        low = np.clip(p / (1 - share), 0.0, 1.0) * np.exp(beside(self._log_below, p))
        high = np.clip(1 - (1 - p) / share, 0.0, 1.0)
        body = np.minimum(self.body.quantile(low), self.threshold)
        return np.where(p <= 1 - share, body, self.threshold + self.tail.quantile(high))

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-density at y in nats; -inf at 0 and below."""
        y = values(y, len(self))
        log_odds = beside(self.log_odds, y)
        body = self.body.log_prob(y) - beside(self._log_below, y)
        tail = self.tail.log_prob(np.maximum(y - self.threshold, 0.0))
        return np.where(
            y <= self.threshold,
            special.log_expit(-log_odds) + body,
            special.log_expit(log_odds) + tail,
        )

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        """Return log P(lower < Y <= upper), the sum of its parts on either side."""
        low, high = values(lower, len(self)), values(upper, len(self))
        log_odds, u = beside(self.log_odds, low), self.threshold
        body = self.body.log_mass(np.minimum(low, u), np.minimum(high, u))
        tail = self.tail.log_mass(low - u, high - u)
        body = body - beside(self._log_below, low)
        return np.logaddexp(special.log_expit(-log_odds) + body, special.log_expit(log_odds) + tail)

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples)."""
        return self.quantile(rng.random((len(self), n_samples)))


class HazardLaw(Law):
    r"""Whole periods that pass before an event, given the hazard of each period.

    .. math:: P(Y \ge k) = \prod_{j < k} (1 - h_j), \qquad k = 0, 1, 2, \dots

    with the hazard of the last period for all later ones.

    Parameters
    ----------
    log_hazard, log_survival : array-like of shape (n, K)
        :math:`\log h_k` and :math:`\log(1 - h_k)`.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow_actuarial.laws import HazardLaw
    >>> hazard = np.array([[0.5, 0.25]])
    >>> law = HazardLaw(np.log(hazard), np.log1p(-hazard))
    >>> law.sf(1.0), law.mean()
    (array([0.375]), array([2.]))
    """

    def __init__(self, log_hazard: ArrayLike, log_survival: ArrayLike) -> None:
        self.log_hazard = np.asarray(log_hazard, dtype=np.float64)
        self.log_survival = np.asarray(log_survival, dtype=np.float64)
        self.periods = self.log_hazard.shape[1]
        self._log_reached = np.cumsum(np.pad(self.log_survival, ((0, 0), (1, 0))), axis=1)

    def __len__(self) -> int:
        return len(self.log_hazard)

    def __getitem__(self, rows: Rows) -> HazardLaw:
        """Return the law of some rows."""
        return HazardLaw(picked(self.log_hazard, rows), picked(self.log_survival, rows))

    @property
    def lattice(self) -> tuple[float, float]:
        """Origin and step."""
        return 0.0, 1.0

    def mean(self) -> Floats:
        """Return the expectations, sums of P(Y >= k) over k from 1 on."""
        return self._moments()[0]

    def std(self) -> Floats:
        """Return the standard deviations, by sums of (2k - 1) P(Y >= k)."""
        mean, square = self._moments()
        return np.sqrt(np.maximum(square - mean**2, 0.0))

    def _moments(self) -> tuple[Floats, Floats]:
        k, reached = np.arange(1, self.periods), np.exp(self._log_reached)
        known, last = reached[:, 1:-1], reached[:, -1]
        with np.errstate(over="ignore"):
            wait = np.exp(-self.log_hazard[:, -1])
            beyond = (2 * self.periods - 1) * wait + 2 * wait * (wait - 1)
        return known.sum(1) + last * wait, ((2 * k - 1) * known).sum(1) + last * beyond

    def _log_reaching(self, k: Floats) -> Floats:
        """Return log P(Y >= k) for whole numbers k."""
        within = np.clip(k, 0, self.periods).astype(np.intp)
        rows = np.arange(len(self)).reshape(-1, *[1] * (k.ndim - 1))
        later = np.where(k > self.periods, k - self.periods, 0.0)
        return np.asarray(
            self._log_reached[rows, within] + later * beside(self.log_survival[:, -1], k)
        )

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        k = np.floor(values(y, len(self))) + 1
        return np.asarray(-np.expm1(self._log_reaching(k)))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        return np.asarray(np.exp(self._log_reaching(np.floor(values(y, len(self))) + 1)))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the smallest number of periods y with P(Y <= y) >= p."""
        p = levels(p, len(self))
        with np.errstate(divide="ignore", over="ignore"):
            later = np.log1p(-p) / beside(self.log_survival[:, -1], p)
        last = self.periods + 1 + np.ceil(np.where(p < 1, later, 0.0))
        found = first_reached(self, p, np.zeros_like(p), last, 0.0, 1.0)
        return np.where(p < 1, found, np.inf)

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-mass at y in nats; -inf but at whole numbers from 0 on."""
        y = values(y, len(self))
        whole = (y >= 0) & (y == np.floor(y)) & np.isfinite(y)
        k = np.where(whole, y, 0.0)
        rows = np.arange(len(self)).reshape(-1, *[1] * (k.ndim - 1))
        hazard = self.log_hazard[rows, np.minimum(k, self.periods - 1).astype(np.intp)]
        inside = self._log_reaching(k) + hazard
        return np.where(np.isnan(y), np.nan, np.where(whole, inside, -np.inf))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples)."""
        return self.quantile(rng.random((len(self), n_samples)))
