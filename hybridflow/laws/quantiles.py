"""Laws given by their quantiles, with exponential tails."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hybridflow.errors import InputError
from hybridflow.laws.base import Floats, Law, Rows, beside, levels, picked, values
from hybridflow.laws.monotone_spline import MonotoneSpline


class QuantileLaw(Law):
    r"""Distributions whose cdf goes through given quantiles.

    Between them the cdf is a rational-quadratic spline, outside it is an
    exponential function with the density that the spline has at its end:

    .. math:: F(y) = p_1 \exp\Bigl(\frac{d_1}{p_1} (y - q_1)\Bigr) \quad (y < q_1), \qquad
        1 - F(y) = (1 - p_m) \exp\Bigl(-\frac{d_m}{1 - p_m} (y - q_m)\Bigr) \quad (y > q_m).

    cdf, quantile function and density are closed forms, and the density is continuous.

    Parameters
    ----------
    probabilities : array-like of shape (m,)
        The levels, increasing, between 0 and 1.
    quantiles : array-like of shape (n, m)
        In the units of y, increasing along a row.
    densities : array-like of shape (n, m)
        At the quantiles, positive.

    Examples
    --------
    >>> from hybridflow.laws import QuantileLaw
    >>> law = QuantileLaw([0.1, 0.5, 0.9], [[-2.0, 0.0, 4.0]], [[0.1, 0.2, 0.05]])
    >>> law.cdf(4.0), law.quantile(0.5), law.sf(24.0).round(6)
    (array([0.9]), array([0.]), array([5.e-06]))
    """

    def __init__(
        self, probabilities: ArrayLike, quantiles: ArrayLike, densities: ArrayLike
    ) -> None:
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        self.quantiles = np.asarray(quantiles, dtype=np.float64)
        self.densities = np.asarray(densities, dtype=np.float64)
        m = len(self.probabilities)
        for name, table in (("quantiles", self.quantiles), ("densities", self.densities)):
            if table.ndim != 2 or table.shape[1] != m:
                raise InputError(f"{name} at {m} levels need shape (n, {m}), got {table.shape}")
        ends = np.array([0.0, *self.probabilities, 1.0])
        if not (np.diff(ends) > 0).all():
            raise InputError(
                f"probabilities must increase between 0 and 1, got {self.probabilities}"
            )
        if not (np.diff(self.quantiles) > 0).all():
            row = int((~(np.diff(self.quantiles) > 0)).any(1).argmax())
            raise InputError(f"quantiles must increase, got {self.quantiles[row]} in row {row}")
        if not (self.densities > 0).all():
            raise InputError("densities must be positive")
        heights = np.broadcast_to(self.probabilities, self.quantiles.shape)
        self._spline = MonotoneSpline(self.quantiles, heights, self.densities)
        self._low, self._high = self.probabilities[0], 1 - self.probabilities[-1]

    def __len__(self) -> int:
        return len(self.quantiles)

    def __getitem__(self, rows: Rows) -> QuantileLaw:
        """Return the law of some rows."""
        return QuantileLaw(
            self.probabilities, picked(self.quantiles, rows), picked(self.densities, rows)
        )

    def _ends(self, like: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the outer quantiles and the rates of the tails, in the form of `like`."""
        first, last = self.quantiles[:, 0], self.quantiles[:, -1]
        rates = self.densities[:, 0] / self._low, self.densities[:, -1] / self._high
        low, high, down, up = (beside(part, like) for part in (first, last, *rates))
        return low, high, down, up

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        y = values(y, len(self))
        return np.where(np.isnan(y), np.nan, self._tails(y)[0])

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        y = values(y, len(self))
        return np.where(np.isnan(y), np.nan, self._tails(y)[1])

    def _tails(self, y: Floats) -> tuple[Floats, Floats]:
        low, high, down, up = self._ends(y)
        inside = np.clip(np.nan_to_num(y, nan=0.0), low, high)
        below = self._spline.forward(inside)[0]
        lower = self._low * np.exp(np.minimum(down * (y - low), 0.0))
        upper = self._high * np.exp(np.minimum(-up * (y - high), 0.0))
        cdf = np.where(y < low, lower, np.where(y > high, 1 - upper, below))
        # From the level above on, so that sf keeps its digits towards the upper end.
        above = self._high + self._spline.rise(inside, np.broadcast_to(high, y.shape))
        return cdf, np.where(y > high, upper, np.where(y < low, 1 - lower, above))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the inverse of the cdf; an infinity at 0 and 1."""
        p = levels(p, len(self))
        low, high, down, up = self._ends(p)
        inside = self._spline.inverse(np.clip(p, self._low, self.probabilities[-1]))
        with np.errstate(divide="ignore"):
            lower = low + np.log(p / self._low) / down
            upper = high - np.log((1 - p) / self._high) / up
        above = p > self.probabilities[-1]
        return np.where(p < self._low, lower, np.where(above, upper, inside))

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-density at y in nats."""
        y = values(y, len(self))
        low, high, down, up = self._ends(y)
        inside = self._spline.forward(np.clip(np.nan_to_num(y, nan=0.0), low, high))[1]
        lower = np.log(down * self._low) + down * (y - low)
        upper = np.log(up * self._high) - up * (y - high)
        found = np.where(y < low, lower, np.where(y > high, upper, inside))
        return np.where(np.isnan(y), np.nan, found)

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        """Return log P(lower < Y <= upper), a sum of positive parts: exact everywhere."""
        a, b = values(lower, len(self)), values(upper, len(self))
        low, high, down, up = self._ends(a)
        end, start = np.minimum(b, low), np.maximum(a, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = (
                np.log(-np.expm1(-down * np.maximum(end - a, 0.0))),
                np.log(-np.expm1(-up * np.maximum(b - start, 0.0))),
            )
            below = np.log(self._low) + down * (end - low) + shares[0]
            inside = np.log(self._spline.rise(np.clip(a, low, high), np.clip(b, low, high)))
            above = np.log(self._high) - up * (start - high) + shares[1]
        parts = (np.where(a < end, below, -np.inf), inside, np.where(start < b, above, -np.inf))
        return np.asarray(np.logaddexp.reduce(parts))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples)."""
        return self.quantile(1 - rng.random((len(self), n_samples)))

    def mean(self) -> Floats:
        """Return the expectations, shape (n,)."""
        return self._centred()[0]

    def std(self) -> Floats:
        """Return the standard deviations, shape (n,)."""
        return self._centred()[1]

    def _centred(self) -> tuple[Floats, Floats]:
        """Return mean and standard deviation, by parts: of the spline from the integral of F."""
        centre = self.quantiles[:, [len(self.probabilities) // 2]]
        spline = MonotoneSpline(self.quantiles - centre, self._spline.y, self.densities)
        low, high, down, up = self._ends(self.densities[:, 0])
        low, high = low - centre[:, 0], high - centre[:, 0]
        plain, times_x = spline.moments(lambda share: share)
        p, q = self._low, self.probabilities[-1]
        first = high * q - low * p - plain + p * (low - 1 / down) + self._high * (high + 1 / up)
        second = high**2 * q - low**2 * p - 2 * times_x
        second += p * ((low - 1 / down) ** 2 + down**-2)
        second += self._high * ((high + 1 / up) ** 2 + up**-2)
        return centre[:, 0] + first, np.sqrt(np.maximum(second - first**2, 0.0))
