"""Laws: what a head implies for y. Plain numpy and scipy, float64, one entry per row."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


class Law(ABC):
    """The predictive distributions of n rows.

    ``y`` and ``p`` may be a scalar or an array of shape (n,), one value per
    row, giving (n,); or of shape (n, m), giving (n, m). A vector of levels for
    every row is ``quantile(np.array([[0.1, 0.9]]))`` of shape (1, m), giving
    (n, m).
    """

    def __len__(self) -> int:
        return len(self.mean())

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
