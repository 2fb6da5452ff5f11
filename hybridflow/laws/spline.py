"""Laws that a monotone spline turns into logistic ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hybridflow.laws.base import Floats, Law, Rows, beside, column, levels, picked, values
from hybridflow.laws.monotone_spline import MonotoneSpline


class SplineLaw(Law):
    r"""Distributions of any shape with logistic tails.

    .. math:: P(Y \le y) = \frac{1}{1 + e^{-g(u)}}, \qquad u = \frac{y - \mu}{\sigma}

    with g an increasing spline on an interval from -B to B, and g(u) = u beyond.

    Parameters
    ----------
    location, scale : array-like of shape (n,)
        In the units of y.
    spline : MonotoneSpline
        Of n rows, from -B to B onto itself.

    References
    ----------
    .. [1] Neural Spline Flows, C. Durkan, A. Bekasov, I. Murray and G. Papamakarios, 2019

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.laws import SplineLaw
    >>> from hybridflow.laws.monotone_spline import MonotoneSpline
    >>> ends = np.array([[-6.0, 6.0]])
    >>> law = SplineLaw([1.0], [2.0], MonotoneSpline(ends, ends, np.ones((1, 2))))
    >>> law.mean().round(6), law.std().round(4)  # of a logistic law
    (array([1.]), array([3.6276]))
    """

    def __init__(self, location: ArrayLike, scale: ArrayLike, spline: MonotoneSpline) -> None:
        self.location, self.scale = column(location, "location"), column(scale, "scale")
        self.spline = spline
        self.bound = float(spline.x[0, -1]) if len(spline) else 1.0

    def __len__(self) -> int:
        return len(self.location)

    def __getitem__(self, rows: Rows) -> SplineLaw:
        """Return the law of some rows."""
        return SplineLaw(picked(self.location, rows), picked(self.scale, rows), self.spline[rows])

    def _standard(self, y: ArrayLike) -> tuple[Floats, Floats]:
        """Return g(u) and the log-density of u up to that of the logistic law."""
        y = values(y, len(self))
        u = (y - beside(self.location, y)) / beside(self.scale, y)
        inside = np.clip(np.nan_to_num(u, nan=0.0), -self.bound, self.bound)
        image, log_slope = self.spline.forward(inside)
        outside = np.abs(u) > self.bound
        return np.where(outside | np.isnan(u), u, image), np.where(outside, 0.0, log_slope)

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        return np.asarray(special.expit(self._standard(y)[0]))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        return np.asarray(special.expit(-self._standard(y)[0]))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the inverse of the cdf; an infinity at 0 and 1."""
        p = levels(p, len(self))
        t = special.logit(p)
        inside = self.spline.inverse(np.clip(t, -self.bound, self.bound))
        u = np.where(np.abs(t) > self.bound, t, inside)
        return np.asarray(beside(self.location, p) + beside(self.scale, p) * u)

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-density at y in nats."""
        t, log_slope = self._standard(y)
        logistic = special.log_expit(t) + special.log_expit(-t)
        return np.asarray(logistic + log_slope - np.log(beside(self.scale, t)))

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        r"""Return log P(lower < Y <= upper), exact everywhere.

        With :math:`s(t) = 1 / (1 + e^{-t})` and a rise of g that is a sum of positive parts,

        .. math:: \log(s(b) - s(a)) = \log s(b) + \log s(-a) + \log(1 - e^{-(b - a)}).
        """
        low, high = values(lower, len(self)), values(upper, len(self))
        scale, location = beside(self.scale, low), beside(self.location, low)
        start, end = (low - location) / scale, (high - location) / scale
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = (np.clip(edge, -self.bound, self.bound) for edge in (start, end))
            gap = self.spline.rise(*ends)
            gap += np.maximum(np.minimum(end, -self.bound) - start, 0.0)
            gap += np.maximum(end - np.maximum(start, self.bound), 0.0)
            a, b = self._standard(low)[0], self._standard(high)[0]
            return np.asarray(
                special.log_expit(b) + special.log_expit(-a) + np.log(-np.expm1(-gap))
            )

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples)."""
        return self.quantile(1 - rng.random((len(self), n_samples)))

    def mean(self) -> Floats:
        """Return the expectations, shape (n,)."""
        return np.asarray(self.location + self.scale * self._moments()[0])

    def std(self) -> Floats:
        """Return the standard deviations, shape (n,)."""
        first, second = self._moments()
        return np.asarray(self.scale * np.sqrt(np.maximum(second - first**2, 0.0)))

    def _moments(self) -> tuple[Floats, Floats]:
        """Return the first two moments of u, by parts: F is bounded, its density need not be."""
        b = self.bound
        plain, times_u = self.spline.moments(special.expit)
        # By symmetry the tails add nothing to the mean.
        first = b * (special.expit(b) + special.expit(-b)) - plain
        second = b**2 * (special.expit(b) - special.expit(-b)) - 2 * times_u
        dilogarithm = special.spence(1 + np.exp(-b))
        beyond = b**2 * special.expit(-b) + 2 * (b * np.log1p(np.exp(-b)) - dilogarithm)
        return first, second + 2 * beyond
