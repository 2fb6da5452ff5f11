"""Laws on class codes and on counts."""

from __future__ import annotations

from collections.abc import Sequence

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


class CategoricalLaw(Law):
    r"""Distributions over k classes, as laws of the class code 0, ..., k - 1.

    .. math:: P(Y = j) = \pi_j

    Parameters
    ----------
    probabilities : array-like of shape (n, k)
        Rows sum to 1.
    classes : sequence of length k
        The labels, in the order of the codes.
    log_probabilities : array-like of shape (n, k), optional
        Where probabilities underflow, these keep the digits.

    Examples
    --------
    >>> from hybridflow.laws import CategoricalLaw
    >>> law = CategoricalLaw([[0.2, 0.5, 0.3]], classes=("a", "b", "c"))
    >>> law.mean(), law.quantile(0.5)
    (array([1.1]), array([1.]))
    """

    def __init__(
        self,
        probabilities: ArrayLike,
        classes: Sequence[bool | int | float | str],
        log_probabilities: ArrayLike | None = None,
    ) -> None:
        self.probabilities = np.asarray(probabilities, dtype=np.float64)
        self.classes = tuple(classes)
        if self.probabilities.ndim != 2 or self.probabilities.shape[1] != len(self.classes):
            raise InputError(
                f"probabilities of {len(self.classes)} classes must have shape "
                f"(n, {len(self.classes)}), got {self.probabilities.shape}"
            )
        if log_probabilities is None:
            with np.errstate(divide="ignore"):
                log_probabilities = np.log(self.probabilities)
        self.log_probabilities = np.asarray(log_probabilities, dtype=np.float64)

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getitem__(self, rows: Rows) -> CategoricalLaw:
        """Return the law of some rows."""
        return CategoricalLaw(
            picked(self.probabilities, rows), self.classes, picked(self.log_probabilities, rows)
        )

    @property
    def lattice(self) -> tuple[float, float]:
        """Origin 0 and step 1."""
        return 0.0, 1.0

    @property
    def _codes(self) -> Floats:
        return np.arange(len(self.classes), dtype=np.float64)

    def _entry(self, table: Floats, code: Floats) -> Floats:
        """Return the entries of a table of shape (n, k) at the codes, one or many per row."""
        columns = code.astype(np.intp).reshape(len(self), -1)
        return np.take_along_axis(table, columns, 1).reshape(code.shape)

    def mean(self) -> Floats:
        """Return the expected codes, shape (n,)."""
        return np.asarray(self.probabilities @ self._codes)

    def std(self) -> Floats:
        """Return the standard deviations of the code, shape (n,)."""
        deviation = self._codes - self.mean()[:, None]
        return np.asarray(np.sqrt((self.probabilities * deviation**2).sum(1)))

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        return self._summed(y, np.cumsum(self.probabilities, 1), before=0.0)

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        above = np.cumsum(self.probabilities[:, :0:-1], 1)[:, ::-1]
        return self._summed(y, np.pad(above, ((0, 0), (0, 1))), before=1.0)

    def _summed(self, y: ArrayLike, table: Floats, before: float) -> Floats:
        y = values(y, len(self))
        last = len(self.classes) - 1
        found = self._entry(table, np.clip(np.nan_to_num(np.floor(y), nan=0.0), 0, last))
        return np.where(np.isnan(y), np.nan, np.where(y < 0, before, found))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the smallest code with P(Y <= code) >= p."""
        p = levels(p, len(self))
        cumulative = np.cumsum(self.probabilities, 1)
        # Rounding may leave the last sum below 1: what is possible at all bounds the code.
        columns = np.arange(len(self.classes))
        last = np.where(self.probabilities > 0, columns, -1.0).max(1)
        table = cumulative[:, None, :] if p.ndim == 2 else cumulative
        code = (table < p[..., None]).sum(-1).astype(np.float64)
        return np.asarray(np.minimum(code, beside(last, p)))

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-mass of the codes y; -inf for what is not a code."""
        y = values(y, len(self))
        inside = (y >= 0) & (y < len(self.classes)) & (y == np.floor(y))
        found = self._entry(self.log_probabilities, np.where(inside, y, 0.0))
        return np.where(inside, found, np.where(np.isnan(y), np.nan, -np.inf))

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return drawn codes of shape (n, n_samples)."""
        # 1 - u lies in (0, 1], so that no code of probability 0 is drawn.
        return self.quantile(1 - rng.random((len(self), n_samples)))


class PoissonLaw(Law):
    r"""Poisson distributions.

    .. math:: \log P(Y = y) = y \log \lambda - \lambda - \log\Gamma(y + 1)

    For y that is not a whole number `log_prob` is the same formula, the
    log of a quasi-likelihood; it is -inf below 0.

    Parameters
    ----------
    rate : array-like of shape (n,)
        Expected counts, not negative.

    Examples
    --------
    >>> from hybridflow.laws import PoissonLaw
    >>> PoissonLaw([3.0]).quantile([[0.1, 0.9]])
    array([[1., 5.]])
    """

    def __init__(self, rate: ArrayLike) -> None:
        self.rate = column(rate, "rate")
        if not (self.rate >= 0).all():
            raise InputError(f"rate must not be negative, got {self.rate[~(self.rate >= 0)][0]}")

    def __getitem__(self, rows: Rows) -> PoissonLaw:
        """Return the law of some rows."""
        return PoissonLaw(picked(self.rate, rows))

    @property
    def lattice(self) -> tuple[float, float]:
        """Origin 0 and step 1."""
        return 0.0, 1.0

    def mean(self) -> Floats:
        """Return the rates, shape (n,)."""
        return self.rate.copy()

    def std(self) -> Floats:
        """Return the square roots of the rates, shape (n,)."""
        return np.sqrt(self.rate)

    def cdf(self, y: ArrayLike) -> Floats:
        """Return P(Y <= y)."""
        y = values(y, len(self))
        below = special.pdtr(np.floor(np.maximum(y, 0.0)), beside(self.rate, y))
        return np.where(y < 0, 0.0, np.where(np.isnan(y), np.nan, below))

    def sf(self, y: ArrayLike) -> Floats:
        """Return P(Y > y), exact in the upper tail."""
        y = values(y, len(self))
        above = special.pdtrc(np.floor(np.maximum(y, 0.0)), beside(self.rate, y))
        return np.where(y < 0, 1.0, np.where(np.isnan(y), np.nan, above))

    def quantile(self, p: ArrayLike) -> Floats:
        """Return the smallest count with P(Y <= count) >= p."""
        p = levels(p, len(self))
        rate = np.broadcast_to(beside(self.rate, p), p.shape)
        last, width = np.ceil(rate), np.sqrt(rate) + 1
        while (short := ~has_reached(self, last, p) & (p < 1)).any():
            last, width = np.where(short, np.ceil(rate + width), last), 2 * width
        count = first_reached(self, p, np.zeros_like(last), last, 0.0, 1.0)
        return np.where(p < 1, count, np.inf)

    def log_prob(self, y: ArrayLike) -> Floats:
        """Return the log-mass at y in nats."""
        y = values(y, len(self))
        rate, known = beside(self.rate, y), np.maximum(y, 0.0)
        inside = special.xlogy(known, rate) - rate - special.gammaln(known + 1)
        return np.where(y < 0, -np.inf, inside)

    def sample(self, n_samples: int, rng: np.random.Generator) -> Floats:
        """Return drawn counts of shape (n, n_samples)."""
        # numpy draws counts as 64-bit integers and refuses rates beyond.
        rate = np.minimum(self.rate, 9e18)
        return rng.poisson(rate[:, None], (len(self), n_samples)).astype(np.float64)
