"""How far a share of covered rows may lie from what was asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import betabinom, binom

from hybridflow.errors import ConfigError
from hybridflow.metrics.reading import Floats


def coverage_band(
    n_rows: ArrayLike,
    coverage: float,
    *,
    n_calibration: int | None = None,
    confidence: float = 0.95,
) -> tuple[Floats, Floats]:
    r"""Return between which bounds the share of covered rows lies if all is well.

    Split-conformal sets calibrated on n rows cover a number of m exchangeable
    new rows that is

    .. math:: \mathrm{BetaBinomial}(m, k, n + 1 - k), \qquad k = \lceil (n + 1)\,c \rceil,

    and Binomial(m, c) as n grows.

    Parameters
    ----------
    n_rows : int or array-like of int
        Number m of rows on which coverage is measured.
    coverage : float
        What was asked for, c.
    n_calibration : int, optional
        Number n of calibration rows; many if not given.
    confidence : float, default=0.95
        Probability of the band, half of the rest on each side.

    Returns
    -------
    lower, upper : ndarray
        Shares, of the shape of `n_rows`.

    Raises
    ------
    ConfigError
        If a probability does not lie between 0 and 1, or a number of rows is
        below 1.

    References
    ----------
    Vovk: "Conditional Validity of Inductive Conformal Predictors", 2012.

    Examples
    --------
    >>> from hybridflow.metrics import coverage_band
    >>> [float(bound.round(3)) for bound in coverage_band(1000, 0.9, n_calibration=500)]
    [0.866, 0.93]
    """
    rows = np.asarray(n_rows)
    for name, value in (("coverage", coverage), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigError(f"{name} must lie between 0 and 1, got {value!r}")
    if (rows < 1).any() or (n_calibration is not None and n_calibration < 1):
        raise ConfigError("n_rows and n_calibration must be at least 1")
    if n_calibration is None:
        law: Any = binom(rows, coverage)
    else:
        # Rounding must not lift a product that is a whole number to the next one.
        rank = math.ceil((n_calibration + 1) * coverage * (1 - 1e-12))
        if rank > n_calibration:  # too few: the sets are everything
            return np.ones(rows.shape), np.ones(rows.shape)
        law = betabinom(rows, rank, n_calibration + 1 - rank)
    tail = (1 - confidence) / 2
    return np.asarray(law.ppf(tail) / rows), np.asarray(law.ppf(1 - tail) / rows)
