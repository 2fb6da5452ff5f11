"""Mixtures of laws: the members of an ensemble, or the components of a head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from hybridflow.errors import InputError
from hybridflow.laws.base import Floats, Law, Rows, levels, picked

_EPSILON = float(np.finfo(np.float64).eps)


class MixtureLaw(Law):
    r"""Mixtures of m laws of the same rows.

    .. math:: p(y) = \sum_{j=1}^m w_j\, p_j(y)

    Parameters
    ----------
    laws : sequence of Law
        Each of n rows.
    weights : array-like of shape (m,) or (n, m), optional
        Not negative, summing to 1 along the last axis; uniform if not given.

    Examples
    --------
    >>> from hybridflow.laws import GaussianLaw, MixtureLaw
    >>> law = MixtureLaw([GaussianLaw([-3.0], [1.0]), GaussianLaw([3.0], [1.0])])
    >>> law.mean(), law.std().round(4)
    (array([0.]), array([3.1623]))
    """

    def __init__(self, laws: Sequence[Law], weights: ArrayLike | None = None) -> None:
        self.laws = tuple(laws)
        if not self.laws:
            raise InputError("a mixture needs at least one law")
        n, m = len(self.laws[0]), len(self.laws)
        if any(len(law) != n for law in self.laws):
            raise InputError(
                f"the laws of a mixture must have the same number of rows, "
                f"got {[len(law) for law in self.laws]}"
            )
        given = np.full(m, 1 / m) if weights is None else np.asarray(weights, dtype=np.float64)
        if given.shape not in {(m,), (n, m)}:
            raise InputError(
                f"weights of {m} laws of {n} rows must have shape ({m},) or ({n}, {m}), "
                f"got {given.shape}"
            )
        if not (given >= 0).all() or np.abs(given.sum(-1) - 1).max(initial=0.0) > 1e-6:
            raise InputError("weights must not be negative and must sum to 1")
        self.weights = np.broadcast_to(given, (n, m))

    def __len__(self) -> int:
        return len(self.weights)

    def __getitem__(self, rows: Rows) -> MixtureLaw:
        """Return the law of some rows."""
        return MixtureLaw([law[rows] for law in self.laws], picked(self.weights, rows))

    @property
    def lattice(self) -> tuple[float, float] | None:
        """Origin and step of the lattice that all components share, else None."""
        first = self.laws[0].lattice
        return first if all(law.lattice == first for law in self.laws) else None

    def _stacked(self, what: Callable[[Law], Floats]) -> tuple[Floats, Floats]:
        """Return what each component gives, components last, and the weights beside it."""
        parts = np.stack([what(law) for law in self.laws], -1)
        return parts, self.weights[:, None, :] if parts.ndim == 3 else self.weights

    def _averaged(self, what: Callable[[Law], Floats]) -> Floats:
        parts, weights = self._stacked(what)
        # A component of weight 0 does not count, whatever it says.
        return np.asarray((weights * np.where(weights > 0, parts, 0.0)).sum(-1))

    def _log_averaged(self, what: Callable[[Law], Floats]) -> Floats:
        parts, weights = self._stacked(what)
        return np.asarray(logsumexp(np.where(weights > 0, parts, -np.inf), axis=-1, b=weights))

    def mean(self) -> Floats:
        """Return the expectations, shape (n,)."""
        return self._averaged(lambda law: law.mean())

    def std(self) -> Floats:
        r"""Return the standard deviations, shape (n,).

        .. math:: \sigma^2 = \sum_j w_j\,(\sigma_j^2 + (\mu_j - \mu)^2)
        """
        mean = self.mean()
        return np.sqrt(self._averaged(lambda law: law.std() ** 2 + (law.mean() - mean) ** 2))

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        return self._averaged(lambda law: law.cdf(y))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        return self._averaged(lambda law: law.sf(y))

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-density, or log-mass, at y in nats."""
        return self._log_averaged(lambda law: law.log_prob(y))

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        """Return log P(lower < Y <= upper)."""
        return self._log_averaged(lambda law: law.log_mass(lower, upper))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples), each from a component drawn for it."""
        draws = np.stack([law.sample(n_samples, rng) for law in self.laws], -1)
        cumulative = np.cumsum(self.weights, -1)
        u = (1 - rng.random((len(self), n_samples))) * cumulative[:, -1:]
        chosen = (cumulative[:, None, :] < u[..., None]).sum(-1)
        return np.take_along_axis(draws, chosen[..., None], -1)[..., 0]

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the smallest y with P(Y <= y) >= p, to machine precision.

        It lies between the smallest and the largest quantile of the
        components; from there Newton steps on the logarithm of the tail,
        replaced by bisection where they leave the bracket, or bisection over
        the points of a lattice.
        """
        p = levels(p, len(self))
        parts, weights = self._stacked(lambda law: law.quantile(p))
        low = np.where(weights > 0, parts, np.inf).min(-1)
        high = np.where(weights > 0, parts, -np.inf).max(-1)
        if p.ndim == 1:
            return self._solve(p[:, None], low[:, None], high[:, None])[:, 0]
        return self._solve(p, low, high)

    def _solve(self, p: Floats, low: Floats, high: Floats) -> Floats:
        if self.lattice is None:
            return _root(self, p, low, high)
        origin, step = self.lattice
        first, last = np.round((low - origin) / step), np.round((high - origin) / step)
        return origin + step * _first(self, p, first, last, origin, step)


def _reached(law: Law, y: Floats, p: Floats) -> NDArray[np.bool_]:
    """Say where P(Y <= y) >= p, by the tail that keeps its digits."""
    return np.where(p > 0.5, law.sf(y) <= 1 - p, law.cdf(y) >= p)


def _first(
    law: MixtureLaw, p: Floats, low: Floats, high: Floats, origin: float, step: float
) -> Floats:
    """Return the first index from `low` to `high` at which the cdf has reached p."""
    with np.errstate(invalid="ignore"):
        while (unsettled := high - low > 0).any():
            middle = np.where(unsettled, np.floor((low + high) / 2), 0.0)
            reached = _reached(law, origin + step * middle, p)
            high = np.where(unsettled & reached, middle, high)
            low = np.where(unsettled & ~reached, middle + 1, low)
    return high


def _root(law: MixtureLaw, p: Floats, low: Floats, high: Floats) -> Floats:
    """Return where the cdf reaches p, between `low` and `high`, all of shape (n, m)."""
    low, high = low.copy(), high.copy()
    with np.errstate(all="ignore"):
        resolution = np.where(high > low, 1e-6 * _EPSILON * (high - low), 0.0)
        y = (low + high) / 2
        for iteration in range(300):
            width = 2 * _EPSILON * np.maximum(np.abs(low), np.abs(high)) + resolution
            rows = np.flatnonzero((high - low > width).any(1))
            if len(rows) == 0:
                break
            here, level, part = y[rows], p[rows], law[rows]
            reached = _reached(part, here, level)
            high[rows] = np.where(reached, here, high[rows])
            low[rows] = np.where(reached, low[rows], here)
            upper = level > 0.5
            tail = np.where(upper, part.sf(here), part.cdf(here))
            gap = np.log(tail / np.where(upper, 1 - level, level))
            move = np.where(upper, 1, -1) * gap * tail / np.exp(part.log_prob(here))
            # A little further than Newton says, so that the bracket closes from both sides.
            guess = here + 1.001 * move + np.copysign(width[rows], move)
            kept = (guess > low[rows]) & (guess < high[rows]) & (iteration % 3 != 2)
            y[rows] = np.where(kept, guess, (low[rows] + high[rows]) / 2)
    return high
