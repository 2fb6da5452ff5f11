"""The contract of laws, and how values line up with rows."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from hybridflow.errors import InputError

Floats = NDArray[np.float64]
Rows = int | slice | NDArray[np.bool_] | NDArray[np.intp]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(20)


class Law(ABC):
    """The predictive distributions of n rows.

    ``y`` and ``p`` may be a scalar or an array of shape (n,), one value per
    row, giving (n,); or of shape (n, m), giving (n, m). A vector of levels for
    every row is ``quantile(np.array([[0.1, 0.9]]))`` of shape (1, m), giving
    (n, m).

    To write one, define the abstract methods; start those that take ``y`` or
    ``p`` with `values` or `levels`, which check and line them up, and bring
    parameters into the same form with `beside`. A law on a lattice sets
    `lattice`.
    """

    def __len__(self) -> int:
        return len(self.mean())

    @abstractmethod
    def __getitem__(self, rows: Rows) -> Law:
        """Return the law of some rows; of one row, still a law, for an integer."""

    @property
    def lattice(self) -> tuple[float, float] | None:
        """Origin and step of the lattice that y lies on, None for a continuous law."""
        return None

    @abstractmethod
    def mean(self) -> Floats:
        """Return the expectations, shape (n,)."""

    @abstractmethod
    def std(self) -> Floats:
        """Return the standard deviations, shape (n,)."""

    @abstractmethod
    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""

    @abstractmethod
    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""

    @abstractmethod
    def quantile(self, p: ArrayLike) -> Floats:
        """Return the smallest y with P(Y <= y) >= p."""

    @abstractmethod
    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-density, or log-mass of a discrete law, at y in nats."""

    @abstractmethod
    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples)."""

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        r"""Return log P(lower < Y <= upper), also where that is a thin slice of a tail.

        The difference of two values of the cdf, or of sf in the upper half,
        where it keeps its digits; else the log-density integrated over the
        interval, on which it is then smooth:

        .. math:: \log \int_a^b p(y)\,dy \approx
            \log\frac{b - a}{2} + \log\sum_i w_i\, p(y_i).
        """
        low, high = values(lower, len(self)), values(upper, len(self))
        below, above = self.cdf(high), self.sf(low)
        in_upper_half = above < below
        minuend = np.where(in_upper_half, above, below)
        mass = minuend - np.where(in_upper_half, self.sf(high), self.cdf(low))
        with np.errstate(divide="ignore"):
            result: Floats = np.log(np.maximum(mass, 0.0))
        thin = ~(mass > 1e-3 * minuend) | (minuend < 1e-290)
        if thin.any():
            result = np.where(thin, self._integrated(low, high), result)
        return result

    def _integrated(self, low: Floats, high: Floats) -> Floats:
        half = (high - low) / 2
        terms = [
            self.log_prob(low + half * (1 + node)) + np.log(weight)
            for node, weight in zip(_NODES, _WEIGHTS, strict=True)
        ]
        with np.errstate(divide="ignore"):
            width = np.log(half)
        return np.asarray(width + logsumexp(np.stack(terms), axis=0), dtype=np.float64)


def values(y: ArrayLike, n: int) -> Floats:
    """Return y as an array of shape (n,) or (n, m), broadcast to n rows.

    Raises
    ------
    InputError
        If y has another shape.
    """
    array = np.asarray(y, dtype=np.float64)
    if array.ndim == 0 or (array.ndim <= 2 and array.shape[0] == n):
        return np.broadcast_to(array, (n, *array.shape[1:]))
    if array.ndim == 2 and array.shape[0] == 1:
        return np.broadcast_to(array, (n, array.shape[1]))
    raise InputError(
        f"a law of {n} rows takes a scalar, an array of shape ({n},) or ({n}, m), or of shape "
        f"(1, m) for the same m values in every row; got shape {array.shape}"
    )


def levels(p: ArrayLike, n: int) -> Floats:
    """Return probabilities as `values` does.

    Raises
    ------
    InputError
        If one is outside 0 to 1 or not a number.
    """
    array = values(p, n)
    bad = ~((array >= 0) & (array <= 1))
    if bad.any():
        raise InputError(f"p must lie between 0 and 1, got {array[bad][0]}")
    return array


def beside(parameter: Floats, y: Floats) -> Floats:
    """Return a parameter of shape (n,) in the form that broadcasts against y."""
    return parameter[:, None] if y.ndim == 2 else parameter


def picked(parameter: Floats, rows: Rows) -> Floats:
    """Return the entries of some rows, keeping the axis of rows for an integer."""
    return parameter[[rows]] if isinstance(rows, int | np.integer) else parameter[rows]


def column(parameter: ArrayLike, name: str) -> Floats:
    """Return a law's parameter as a vector.

    Raises
    ------
    InputError
        If it has more than one dimension.
    """
    array = np.atleast_1d(np.asarray(parameter, dtype=np.float64))
    if array.ndim != 1:
        raise InputError(f"{name} must be a vector with one entry per row, got shape {array.shape}")
    return array


def has_reached(law: Law, y: Floats, p: Floats) -> NDArray[np.bool_]:
    """Say where P(Y <= y) >= p, by the tail that keeps its digits."""
    return np.where(p > 0.5, law.sf(y) <= 1 - p, law.cdf(y) >= p)


def first_reached(
    law: Law, p: Floats, first: Floats, last: Floats, origin: float, step: float
) -> Floats:
    """Return the smallest index k with P(Y <= origin + k * step) >= p, by bisection.

    Parameters
    ----------
    law : Law
    p, first, last : array of one shape
        Levels, and whole numbers that the index lies between.
    origin, step : float
    """
    with np.errstate(invalid="ignore"):
        while (unsettled := last - first > 0).any():
            # Beyond 2^53 the whole numbers that doubles hold are more than 1 apart.
            middle = np.minimum(np.floor((first + last) / 2), np.nextafter(last, -np.inf))
            middle = np.where(unsettled, middle, 0.0)
            reached = has_reached(law, origin + step * middle, p)
            after = np.maximum(middle + 1, np.nextafter(middle, np.inf))
            last = np.where(unsettled & reached, middle, last)
            first = np.where(unsettled & ~reached, after, first)
    return last
