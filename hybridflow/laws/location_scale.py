"""Gaussian and Student-t laws."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from hybridflow.errors import InputError
from hybridflow.laws.base import Floats, Law, Rows, beside, column, levels, picked, values


class LocationScaleLaw(Law):
    r"""A symmetric law :math:`Y = \mu + \sigma T` with T of a standard form.

    To write one, define `mean`, `std` and `__getitem__`, and the standard form:
    `_log_density`, `_below` (the cdf), `_level` (its inverse), `_excess` and
    `_draw`; `beside` brings a parameter of the law into the form of their input.

    Parameters
    ----------
    location, scale : array-like of shape (n,)
        In the units of y; scales are positive.
    """

    def __init__(self, location: ArrayLike, scale: ArrayLike) -> None:
        location, scale = column(location, "location"), column(scale, "scale")
        self.location, self.scale = np.broadcast_arrays(location, scale)
        if not (self.scale > 0).all():
            raise InputError(f"scale must be positive, got {self.scale[~(self.scale > 0)][0]}")

    def __len__(self) -> int:
        return len(self.location)

    @abstractmethod
    def _log_density(self, t: Floats) -> Floats:
        """Return the log-density of T."""

    @abstractmethod
    def _below(self, t: Floats) -> Floats:
        """Return P(T <= t), exact in the lower tail."""

    @abstractmethod
    def _level(self, p: Floats) -> Floats:
        """Return the inverse of `_below` for p up to 1/2."""

    @abstractmethod
    def _excess(self, t: Floats) -> tuple[Floats, Floats]:
        """Return E[max(T - t, 0)] and E[max(T - t, 0)^2] for t of shape (n,)."""

    @abstractmethod
    def _draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
        """Return draws of T."""

    def _standard(self, y: ArrayLike) -> Floats:
        y = values(y, len(self))
        return (y - beside(self.location, y)) / beside(self.scale, y)

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        return self._below(self._standard(y))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        return self._below(-self._standard(y))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the inverse of the cdf; an infinity at 0 and 1."""
        p = levels(p, len(self))
        t = self._level(np.minimum(p, 1 - p))
        return beside(self.location, p) + beside(self.scale, p) * np.where(p > 0.5, -t, t)

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-density at y in nats."""
        t = self._standard(y)
        return self._log_density(t) - np.log(beside(self.scale, t))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return draws of shape (n, n_samples)."""
        draws = self._draw((len(self), n_samples), rng)
        return self.location[:, None] + self.scale[:, None] * draws

    def excess(self, c: ArrayLike) -> tuple[Floats, Floats]:
        """Return E[max(Y - c, 0)] and E[max(Y - c, 0)^2] for c of shape (n,)."""
        first, second = self._excess(self._standard(c))
        return self.scale * first, self.scale**2 * second

    def mirrored(self) -> LocationScaleLaw:
        """Return the law of -Y."""
        mirror = self[:]
        mirror.location = -self.location
        return mirror

    @abstractmethod
    def __getitem__(self, rows: Rows) -> LocationScaleLaw:
        """Return the law of some rows."""


class GaussianLaw(LocationScaleLaw):
    r"""Normal distributions.

    .. math:: p(y) = \frac{1}{\sigma\sqrt{2\pi}}
        \exp\Bigl(-\frac{(y - \mu)^2}{2\sigma^2}\Bigr)

    Parameters
    ----------
    mean, std : array-like of shape (n,)
        In the units of y; standard deviations are positive.

    Examples
    --------
    >>> from hybridflow.laws import GaussianLaw
    >>> law = GaussianLaw(mean=[0.0, 10.0], std=[1.0, 2.0])
    >>> law.quantile([[0.025, 0.975]]).round(2)
    array([[-1.96,  1.96],
           [ 6.08, 13.92]])
    """

    def __init__(self, mean: ArrayLike, std: ArrayLike) -> None:
        super().__init__(mean, std)

    def __getitem__(self, rows: Rows) -> GaussianLaw:
        """Return the law of some rows."""
        return GaussianLaw(picked(self.location, rows), picked(self.scale, rows))

    def mean(self) -> Floats:
        """Return the expectations, shape (n,)."""
        return self.location.copy()

    def std(self) -> Floats:
        """Return the standard deviations, shape (n,)."""
        return self.scale.copy()

    def log_mass(self, lower: ArrayLike, upper: ArrayLike) -> Floats:
        """Return log P(lower < Y <= upper), exact where both tails underflow."""
        low, high = self._standard(lower), self._standard(upper)
        flip = low + high > 0
        low, high = np.where(flip, -high, low), np.where(flip, -low, high)
        top, bottom = special.log_ndtr(high), special.log_ndtr(low)
        # Below -37 the cdf underflows; above, thin slices need the integral of the base class.
        with np.errstate(invalid="ignore", divide="ignore"):
            difference = top + np.log(-np.expm1(bottom - top))
        far = (high < -37) & (top - bottom > 1e-3)
        return np.where(far, difference, super().log_mass(lower, upper))

    def _log_density(self, t: Floats) -> Floats:
        return np.asarray(-0.5 * t**2 - 0.5 * np.log(2 * np.pi))

    def _below(self, t: Floats) -> Floats:
        return np.asarray(special.ndtr(t))

    def _level(self, p: Floats) -> Floats:
        return np.asarray(special.ndtri(p))

    def _excess(self, t: Floats) -> tuple[Floats, Floats]:
        density, above = np.exp(self._log_density(t)), special.ndtr(-t)
        return density - t * above, (1 + t**2) * above - t * density

    def _draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
        return rng.standard_normal(shape)


class StudentTLaw(LocationScaleLaw):
    r"""Student's t distributions, shifted and scaled.

    .. math:: p(y) = \frac{\Gamma(\frac{\nu + 1}{2})}{\Gamma(\frac{\nu}{2})\sqrt{\pi\nu}\,\sigma}
        \Bigl(1 + \frac{t^2}{\nu}\Bigr)^{-\frac{\nu + 1}{2}}, \qquad t = \frac{y - \mu}{\sigma}

    The mean is NaN for one degree of freedom or less, the standard deviation
    infinite for two or less and NaN for one or less.

    Parameters
    ----------
    df : array-like of shape (n,)
        Degrees of freedom, positive.
    location, scale : array-like of shape (n,)
        In the units of y; scales are positive.

    Examples
    --------
    >>> from hybridflow.laws import StudentTLaw
    >>> law = StudentTLaw(df=[4.0, 2.0], location=[1.0, 1.0], scale=[1.0, 1.0])
    >>> law.std().round(3)
    array([1.414,   inf])
    """

    def __init__(self, df: ArrayLike, location: ArrayLike, scale: ArrayLike) -> None:
        super().__init__(location, scale)
        self.df = np.broadcast_to(column(df, "df"), self.location.shape)
        if not (self.df > 0).all():
            raise InputError(f"df must be positive, got {self.df[~(self.df > 0)][0]}")

    def __getitem__(self, rows: Rows) -> StudentTLaw:
        """Return the law of some rows."""
        return StudentTLaw(
            picked(self.df, rows), picked(self.location, rows), picked(self.scale, rows)
        )

    def mean(self) -> Floats:
        """Return the expectations, shape (n,); NaN for df <= 1."""
        return np.where(self.df > 1, self.location, np.nan)

    def std(self) -> Floats:
        """Return the standard deviations, shape (n,); infinite for df <= 2, NaN for df <= 1."""
        with np.errstate(divide="ignore", invalid="ignore"):
            finite = self.scale * np.sqrt(self.df / (self.df - 2))
        return np.where(self.df > 2, finite, np.where(self.df > 1, np.inf, np.nan))

    def _log_density(self, t: Floats) -> Floats:
        df = beside(self.df, t)
        kernel = np.log1p(t**2 / df)
        return np.asarray(-special.betaln(df / 2, 0.5) - 0.5 * np.log(df) - (df + 1) / 2 * kernel)

    def _below(self, t: Floats) -> Floats:
        return np.asarray(special.stdtr(beside(self.df, t), t))

    def _level(self, p: Floats) -> Floats:
        df = beside(self.df, p)
        level = special.stdtrit(df, p)
        # Far out scipy returns an infinity of either sign; there the tail is a power of t.
        with np.errstate(divide="ignore"):
            log_tail = -special.betaln(df / 2, 0.5) + df / 2 * np.log(df) - np.log(df)
            power = -np.exp((log_tail - np.log(p)) / df)
        return np.where(np.isfinite(level) & (p > 0), level, power)

    def _excess(self, t: Floats) -> tuple[Floats, Floats]:
        df, density, above = self.df, np.exp(self._log_density(t)), self._below(-t)
        with np.errstate(divide="ignore", invalid="ignore"):
            beyond = (df + t**2) / (df - 1) * density  # E[T 1(T > t)]
            shrunk = special.stdtr(np.maximum(df - 2, 1e-300), -t * np.sqrt(np.abs(df - 2) / df))
            square = t * beyond + df / (df - 2) * shrunk  # E[T^2 1(T > t)]
            first, second = beyond - t * above, square - 2 * t * beyond + t**2 * above
        return np.where(df > 1, first, np.inf), np.where(df > 2, second, np.inf)

    def _draw(self, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
        return rng.standard_t(self.df[:, None], shape)
