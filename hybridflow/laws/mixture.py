"""Mixtures of laws: the members of an ensemble, or the components of a head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from hybridflow.errors import InputError
from hybridflow.laws.base import Floats, Law, Rows, first_reached, levels, picked

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

    def _density(self, y: Floats) -> Floats:
        return self._averaged(lambda law: np.exp(law.log_prob(y)))

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
        replaced by bisection where they do not help, or bisection over the
        points of a lattice.
        """
        p = levels(p, len(self))
        if any(isinstance(law, MixtureLaw) for law in self.laws):
            return self._flat().quantile(p)
        parts, weights = self._stacked(lambda law: law.quantile(p))
        low = np.where(weights > 0, parts, np.inf).min(-1)
        high = np.where(weights > 0, parts, -np.inf).max(-1)
        if self.lattice is not None:
            origin, step = self.lattice
            first, last = np.round((low - origin) / step), np.round((high - origin) / step)
            return origin + step * first_reached(self, p, first, last, origin, step)
        if p.ndim == 1:
            return _root(self, p[:, None], low[:, None], high[:, None])[:, 0]
        return _root(self, p, low, high)

    def _flat(self) -> MixtureLaw:
        """Return the same law without mixtures among the components."""
        laws: list[Law] = []
        weights: list[Floats] = []
        for law, weight in zip(self.laws, self.weights.T, strict=True):
            inner = law._flat() if isinstance(law, MixtureLaw) else MixtureLaw([law])
            laws.extend(inner.laws)
            weights.extend(weight * inner.weights.T)
        return MixtureLaw(laws, np.stack(weights, -1))


def _root(law: MixtureLaw, p: Floats, low: Floats, high: Floats) -> Floats:
    """Return where the cdf reaches p, between `low` and `high`, all of shape (n, m)."""
    low, high = np.where(p < 1, low, high), np.where(p > 0, high, low)
    found = (low + high) / 2
    with np.errstate(all="ignore"):
        resolution = np.where(high > low, 1e-12 * _EPSILON * (high - low), 0.0)
        rows = np.flatnonzero((high > low).any(1))
        for iteration in range(300):
            if len(rows) == 0:
                break
            part, y, level = law[rows], found[rows], p[rows]
            upper, below, above = level > 0.5, part.cdf(y), part.sf(y)
            tail = np.where(upper, above, below)
            wanted = np.where(upper, 1 - level, level)
            reached = np.where(upper, above <= wanted, below >= wanted)
            bottom, top = np.where(reached, low[rows], y), np.where(reached, y, high[rows])
            gap = np.log(tail / wanted)
            guess = y + np.where(upper, 1, -1) * gap * tail / part._density(y)
            # Newton nearly always needs fewer than ten steps; bisection sees to the rest.
            newton = (guess >= bottom) & (guess <= top) & (iteration % 3 != 2 or iteration < 10)
            width = 2 * _EPSILON * np.maximum(np.abs(bottom), np.abs(top)) + resolution[rows]
            closed = ~(top - bottom > width)  # Also where both are infinite.
            exact = newton & ((np.abs(guess - y) <= width) | (np.abs(gap) <= 2 * _EPSILON))
            following = np.where(newton, guess, (bottom + top) / 2)
            following = np.where(closed, top, following)
            settled = closed | exact
            found[rows] = following
            low[rows] = np.where(settled, following, bottom)
            high[rows] = np.where(settled, following, top)
            rows = rows[~settled.all(1)]
    return found
