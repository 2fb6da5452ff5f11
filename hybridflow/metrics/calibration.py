"""Stated probabilities beside what came true."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridflow.errors import ConfigError, InputError
from hybridflow.metrics.reading import Floats, vector

Binning = Literal["quantile", "uniform"]


class CalibrationBins(NamedTuple):
    """Rows with like probabilities, and how often what they foretold came true."""

    edges: Floats
    """Bounds of the bins, shape (b + 1,); a bin holds its upper bound."""
    counts: NDArray[np.int64]
    """Rows in each bin, shape (b,)."""
    stated: Floats
    """Mean probability of the rows in each bin, NaN where there are none, shape (b,)."""
    observed: Floats
    """Share of them for which it came true, NaN where there are none, shape (b,)."""

    @property
    def error(self) -> float:
        """Mean over the rows of the gap between the two, from 0 to 1."""
        gap = np.abs(self.observed - self.stated)
        return float(np.nansum(self.counts * gap) / self.counts.sum())


def calibration_bins(
    outcome: ArrayLike,
    probability: ArrayLike,
    *,
    n_bins: int = 15,
    strategy: Binning = "quantile",
) -> CalibrationBins:
    """Bin rows by their probability and compare it with what happened.

    Parameters
    ----------
    outcome : array-like of bool of shape (n,)
        Whether it came true.
    probability : array-like of shape (n,)
        What was stated.
    n_bins : int, default=15
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins of equally many rows (fewer bins where probabilities repeat), or of
        equal width from 0 to 1.

    Returns
    -------
    CalibrationBins

    Raises
    ------
    InputError
        If lengths differ, there are no rows, or a probability is outside 0 to 1.
    ConfigError
        If `n_bins` or `strategy` is unknown.

    Examples
    --------
    >>> from hybridflow.metrics import calibration_bins
    >>> bins = calibration_bins([0, 1, 1, 1], [0.2, 0.3, 0.8, 0.9], n_bins=2)
    >>> bins.stated.round(2).tolist(), bins.observed.tolist()
    ([0.25, 0.85], [0.5, 1.0])
    """
    stated = vector(probability, "probability")
    came_true = vector(outcome, "outcome", len(stated))
    outside = ~((stated >= 0) & (stated <= 1))
    if outside.any():
        row = int(outside.argmax())
        raise InputError(f"probability must lie between 0 and 1, got {stated[row]} at row {row}")
    if not np.isin(came_true, (0, 1)).all():
        raise InputError("outcome must hold True and False (or 1 and 0) alone")
    if isinstance(n_bins, bool) or not isinstance(n_bins, int | np.integer) or n_bins < 1:
        raise ConfigError(f"n_bins must be a whole number of at least 1, got {n_bins!r}")
    if strategy == "quantile":
        edges = np.unique(np.quantile(stated, np.linspace(0, 1, n_bins + 1)))
        edges = np.repeat(edges, 2) if len(edges) == 1 else edges
    elif strategy == "uniform":
        edges = np.linspace(0, 1, n_bins + 1)
    else:
        raise ConfigError(f"strategy must be 'quantile' or 'uniform', got {strategy!r}")
    bins = np.searchsorted(edges[1:-1], stated)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(bins, stated, len(counts)) / counts
        share = np.bincount(bins, came_true, len(counts)) / counts
    return CalibrationBins(edges, counts, mean, share)


def top_label(
    y_true: ArrayLike, y_prob: ArrayLike, *, labels: ArrayLike | None = None
) -> tuple[NDArray[np.bool_], Floats]:
    """Return whether the most probable label was right, and its probability.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    y_prob : array-like of shape (n, k), or (n,) for the second of two labels
    labels : array-like of shape (k,), optional
        Label of each column; the sorted labels of `y_true` if not given.

    Returns
    -------
    right : ndarray of bool of shape (n,)
    confidence : ndarray of shape (n,)

    Raises
    ------
    InputError
        If the shapes do not fit, or `y_true` holds a label that has no column.

    Examples
    --------
    >>> from hybridflow.metrics import top_label
    >>> top_label(["a", "b"], [[0.7, 0.3], [0.6, 0.4]])[1]
    array([0.7, 0.6])
    """
    truth = np.asarray(y_true)
    known = np.unique(truth) if labels is None else np.asarray(labels)
    table = np.asarray(y_prob, dtype=np.float64)
    if table.ndim == 1:
        table = np.column_stack([1 - table, table])
    if table.shape != (len(truth), len(known)):
        raise InputError(
            f"y_prob has shape {np.shape(y_prob)}, but {len(truth)} rows of {len(known)} labels "
            "need one row each and one column a label; pass labels= where a label is absent "
            "from y_true"
        )
    unknown = ~np.isin(truth, known)
    if unknown.any():
        row = int(unknown.argmax())
        raise InputError(
            f"y_true holds {truth.tolist()[row]!r} at row {row}, which is none of the labels "
            f"{known.tolist()[:10]}"
        )
    return np.asarray(known[table.argmax(axis=1)] == truth), table.max(axis=1)


def expected_calibration_error(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    n_bins: int = 15,
    strategy: Binning = "quantile",
) -> float:
    r"""Return how far the confidence in the most probable label is from its accuracy.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n}
        \left|\mathrm{accuracy}_b - \mathrm{confidence}_b\right|

    over bins of equally many rows. A perfectly calibrated model has a small
    positive value all the same, from the sampling of n rows: with b bins about
    :math:`0.8 \sqrt{b\,c\,(1 - c) / n}` at a confidence c.

    Parameters
    ----------
    y_true : array-like of shape (n,)
    y_prob : array-like of shape (n, k), or (n,) for the second of two labels
    labels : array-like of shape (k,), optional
        Label of each column; the sorted labels of `y_true` if not given.
    n_bins : int, default=15
    strategy : {"quantile", "uniform"}, default="quantile"
        As in `calibration_bins`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    InputError, ConfigError
        As `top_label` and `calibration_bins`.

    References
    ----------
    Naeini, Cooper, Hauskrecht: "Obtaining Well Calibrated Probabilities Using
    Bayesian Binning", 2015. Nixon, Dusenberry, Zhang, Jerfel, Tran: "Measuring
    Calibration in Deep Learning", 2019 (bins of equally many rows).

    Examples
    --------
    >>> from hybridflow.metrics import expected_calibration_error
    >>> expected_calibration_error([0, 1, 1, 1], [0.5, 0.75, 0.75, 0.75])
    0.3125
    """
    right, confidence = top_label(y_true, y_prob, labels=labels)
    return calibration_bins(right, confidence, n_bins=n_bins, strategy=strategy).error
