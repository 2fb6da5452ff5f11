"""Continuous laws rounded to a lattice."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hybridflow.errors import ConfigError
from hybridflow.laws.base import Floats, Law, Rows, levels, values
from hybridflow.laws.location_scale import LocationScaleLaw
from hybridflow.laws.mixture import MixtureLaw

_WINDOW = 64
"""Cells on either side of the centre that the moments of a narrow law sum exactly."""


_CELLS = 200
"""Most cells that the moments of a law of any other family are summed over."""

_NOTHING = 1e-13
"""Mass of a tail that such a sum leaves out."""


class Discretized(Law):
    r"""Laws of a continuous Y rounded to the lattice of points origin + k * step.

    .. math:: P(Y' = y) = \int_{y - s/2}^{y + s/2} p(u)\,du

    Parameters
    ----------
    law : Law
        The continuous law.
    step : float
        Distance of neighbouring points, in the units of y.
    origin : float, default=0
        One of the points.

    Examples
    --------
    >>> from hybridflow.laws import Discretized, GaussianLaw
    >>> law = Discretized(GaussianLaw([2.2], [1.0]), step=1)
    >>> law.quantile(0.5), law.log_prob(2.0).round(4)
    (array([2.]), array([-0.9783]))
    """

    def __init__(self, law: Law, step: float, origin: float = 0.0) -> None:
        if not step > 0:
            raise ConfigError(f"step must be positive, got {step}")
        self.law, self.step, self.origin = law, float(step), float(origin)

    def __len__(self) -> int:
        return len(self.law)

    def __getitem__(self, rows: Rows) -> Discretized:
        """Return the law of some rows."""
        return Discretized(self.law[rows], self.step, self.origin)

    @property
    def lattice(self) -> tuple[float, float]:
        """Origin and step."""
        return self.origin, self.step

    def _edge(self, y: ArrayLike) -> Floats:
        """Return the upper edge of the cell of the last point that is not above y."""
        index = (values(y, len(self)) - self.origin) / self.step
        # Points such as 0.3 = 3 * 0.1 divide to a hair less than a whole number.
        return self.origin + self.step * (np.floor(index + 1e-6) + 0.5)

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        return self.law.cdf(self._edge(y))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        return self.law.sf(self._edge(y))

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-mass of the cell of width step around y."""
        y = values(y, len(self))
        return self.law.log_mass(y - self.step / 2, y + self.step / 2)

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the smallest point y of the lattice with P(Y <= y) >= p."""
        p = levels(p, len(self))
        index = np.ceil((self.law.quantile(p) - self.origin) / self.step - 0.5)
        point = self.origin + self.step * index
        # The quantile of the law is rounded itself: one point lower may do already.
        lower = self.origin + self.step * (index - 1)
        with np.errstate(invalid="ignore"):
            enough = np.where(p > 0.5, self.sf(lower) <= 1 - p, self.cdf(lower) >= p)
        return np.where(enough & np.isfinite(point), lower, point)

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples), points of the lattice."""
        draws = self.law.sample(n_samples, rng)
        return self.origin + self.step * np.round((draws - self.origin) / self.step)

    def mean(self) -> Floats:
        """Return the expectations of the rounded value, shape (n,)."""
        return self._moments()[0]

    def std(self) -> Floats:
        """Return the standard deviations of the rounded value, shape (n,)."""
        return self._moments()[1]

    def _moments(self) -> tuple[Floats, Floats]:
        r"""Return mean and standard deviation.

        Laws much wider than a cell keep their mean and gain the variance of
        rounding, :math:`s^2/12`, up to what vanishes exponentially in the
        width; others are summed over the cells, and what lies beyond the
        window of a location-scale law follows from its tails.
        """
        if isinstance(self.law, MixtureLaw):
            parts = [Discretized(law, self.step, self.origin) for law in self.law.laws]
            mixture = MixtureLaw(parts, self.law.weights)
            return mixture.mean(), mixture.std()
        mean, std = self.law.mean(), np.sqrt(self.law.std() ** 2 + self.step**2 / 12)
        if isinstance(self.law, LocationScaleLaw):
            narrow = np.flatnonzero((self.law.scale < 4 * self.step) & np.isfinite(mean))
            if len(narrow):
                mean[narrow], std[narrow] = _summed(self.law[narrow], self.step, self.origin)
            return mean, std
        ends = self.quantile(np.array([[_NOTHING, 1 - _NOTHING]]))
        narrow = np.flatnonzero(ends[:, 1] - ends[:, 0] <= _CELLS * self.step)
        if len(narrow):
            some = self[narrow]
            y = ends[narrow, :1] + self.step * np.arange(_CELLS + 1)
            mass = np.exp(some.log_prob(y))
            mass /= mass.sum(1, keepdims=True)
            mean[narrow] = (mass * y).sum(1)
            std[narrow] = np.sqrt((mass * (y - mean[narrow, None]) ** 2).sum(1))
        return mean, std


def _summed(law: LocationScaleLaw, step: float, origin: float) -> tuple[Floats, Floats]:
    r"""Return mean and standard deviation of the rounded variable by sums over cells.

    With :math:`K` the number of steps from a centre a to the rounded value,

    .. math:: E[K^+] = \sum_{k \ge 0} P(K > k), \qquad
        E[(K^+)^2] = \sum_{k \ge 0} (2k + 1)\, P(K > k),

    and the same for :math:`K^-`. Beyond the window the sums are the midpoint
    rule of integrals that the law knows, and get that rule's first correction.
    """
    centre = origin + step * np.round((law.location - origin) / step)
    first, second = np.zeros(len(law)), np.zeros(len(law))
    for side, sign in ((law, 1.0), (law.mirrored(), -1.0)):
        start = sign * centre
        k = np.arange(_WINDOW)
        above = side.sf(start[:, None] + step * (k + 0.5))
        end = start + step * _WINDOW
        beyond, squared = side.excess(end)
        density, rest = np.exp(side.log_prob(end)), side.sf(end)
        first += sign * (step * above.sum(1) + beyond - step**2 / 24 * density)
        second += step**2 * ((2 * k + 1) * above).sum(1) + squared + 2 * (end - start) * beyond
        second += step**2 / 24 * (2 * rest - 2 * (end - start) * density)
    return centre + first, np.sqrt(np.maximum(second - first**2, 0.0))
