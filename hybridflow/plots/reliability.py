"""ReliabilityDisplay: does what is stated come true as often as stated?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom
from sklearn.base import is_classifier

from hybridflow.errors import InputError
from hybridflow.laws import Law
from hybridflow.metrics import (
    calibration_bins,
    pit_values,
    quantile_calibration_error,
    top_label,
)
from hybridflow.metrics.calibration import Binning
from hybridflow.plots.canvas import BAND, COLORS, GREY, figure_of, panels
from hybridflow.plots.reading import answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_CONFIDENCES = np.linspace(0, 1, 21)


@final
class ReliabilityDisplay:
    r"""How often something came true, against how probable it was said to be.

    Of a classifier: rows are binned by the probability of their most probable
    label (or of one label), and the share of rows for which it was right is
    drawn against the mean probability. Of a law of y: the share of rows at or
    below their predicted quantile is drawn against its level; beneath it is the
    histogram of the probability integral transform, which is flat if the laws
    are right, a bowl if they are too narrow, a hill if too wide.

    The grey band is where a point lies with a probability of 95 % if the model is
    right: binomial quantiles of as many rows as there are in the bin.

    Parameters
    ----------
    stated : ndarray of shape (b,)
        Probabilities, or levels.
    observed : ndarray of shape (b,)
        Shares of the rows.
    lower, upper : ndarray of shape (b,)
        The band.
    edges : ndarray of shape (m + 1,)
        Bounds of the histogram of the probabilities, or of the transform.
    counts : ndarray of shape (m,)
        Rows in each bin of the histogram.
    expected : (float, float) or None
        Band of each count if the model is right, of a law; None of a classifier.
    error : float
        `expected_calibration_error` in these bins, or `quantile_calibration_error`.
    event : str
        What is stated, the label of the axis.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The panel of the shares.
    axes_ : ndarray of Axes
        It, and the histogram beneath.
    figure_ : matplotlib.figure.Figure

    References
    ----------
    Bröcker, Smith: "Increasing the Reliability of Reliability Diagrams", 2007
    (the band). Gneiting, Balabdaoui, Raftery: "Probabilistic Forecasts,
    Calibration and Sharpness", 2007.

    Examples
    --------
    >>> from hybridflow.plots import ReliabilityDisplay
    >>> display = ReliabilityDisplay.from_predictions([0, 1, 1, 1], [0.2, 0.4, 0.7, 0.9], n_bins=2)
    >>> display.stated, display.observed
    (array([0.65, 0.85]), array([0.5, 1. ]))
    """

    ax_: Axes
    axes_: NDArray[Any]
    figure_: Figure

    def __init__(
        self,
        *,
        stated: Floats,
        observed: Floats,
        lower: Floats,
        upper: Floats,
        edges: Floats,
        counts: NDArray[np.int64],
        expected: tuple[float, float] | None,
        error: float,
        event: str,
    ) -> None:
        self.stated = stated
        self.observed = observed
        self.lower = lower
        self.upper = upper
        self.edges = edges
        self.counts = counts
        self.expected = expected
        self.error = error
        self.event = event

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        n_bins: int = 10,
        strategy: Binning = "quantile",
        label: Any = None,
        random_state: int | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the reliability of a fitted classifier or regressor on held-out rows.

        Parameters
        ----------
        estimator : classifier, or regressor with ``predict_distribution``
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
        n_bins, strategy, label, random_state, ax
            As in `from_predictions`.

        Returns
        -------
        ReliabilityDisplay
        """
        if is_classifier(estimator):
            return cls.from_predictions(
                y,
                answer(estimator, "predict_proba", X),
                labels=estimator.classes_,
                n_bins=n_bins,
                strategy=strategy,
                label=label,
                ax=ax,
            )
        law = answer(estimator, "predict_distribution", X)
        return cls.from_predictions(y, law, n_bins=n_bins, random_state=random_state, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        prediction: ArrayLike | Law,
        *,
        labels: ArrayLike | None = None,
        n_bins: int = 10,
        strategy: Binning = "quantile",
        label: Any = None,
        random_state: int | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the reliability of probabilities, or of laws.

        Parameters
        ----------
        y_true : array-like of shape (n,)
        prediction : array-like of shape (n, k) or (n,), or Law
            Probabilities of the labels (of the second of two), or laws of y.
        labels : array-like of shape (k,), optional
            Label of each column; the sorted labels of `y_true` if not given.
        n_bins : int, default=10
        strategy : {"quantile", "uniform"}, default="quantile"
            Bins of equally many rows or of equal width; for probabilities.
        label : object, optional
            Draw the probability of this label instead of the most probable one.
        random_state : int, optional
            Seed of the transform of discrete laws.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        ReliabilityDisplay

        Raises
        ------
        InputError, ConfigError
            If the prediction cannot be used; `label` is none of the labels.
        """
        if isinstance(prediction, Law):
            return cls._of_law(y_true, prediction, n_bins, random_state).plot(ax=ax)
        if label is None:
            outcome, probability = top_label(y_true, prediction, labels=labels)
            event = "probability that the predicted label is right"
        else:
            outcome, probability = _one_label(y_true, prediction, labels, label)
            event = f"probability that y = {label}"
        bins = calibration_bins(outcome, probability, n_bins=n_bins, strategy=strategy)
        kept = bins.counts > 0
        counts, edges = np.histogram(probability, _CONFIDENCES)
        band = binom(bins.counts[kept], np.clip(bins.stated[kept], 0, 1))
        return cls(
            stated=bins.stated[kept],
            observed=bins.observed[kept],
            lower=np.asarray(band.ppf(0.025) / bins.counts[kept]),
            upper=np.asarray(band.ppf(0.975) / bins.counts[kept]),
            edges=edges,
            counts=counts,
            expected=None,
            error=bins.error,
            event=event,
        ).plot(ax=ax)

    @classmethod
    def _of_law(
        cls, y_true: ArrayLike, law: Law, n_bins: int, random_state: int | None
    ) -> ReliabilityDisplay:
        pit = pit_values(y_true, law, random_state=random_state)
        bins = calibration_bins(np.ones(len(pit)), pit, n_bins=n_bins, strategy="uniform")
        levels = bins.edges[1:-1] if n_bins > 1 else np.array([0.5])
        band, count = binom(len(pit), levels), binom(len(pit), 1 / n_bins)
        return cls(
            stated=levels,
            observed=(pit[:, None] <= levels).mean(axis=0),
            lower=np.asarray(band.ppf(0.025) / len(pit)),
            upper=np.asarray(band.ppf(0.975) / len(pit)),
            edges=bins.edges,
            counts=bins.counts,
            expected=(float(count.ppf(0.025)), float(count.ppf(0.975))),
            error=quantile_calibration_error(y_true, law, random_state=random_state),
            event="level of the predicted quantile of y",
        )

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the shares, and the histogram beneath.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        ReliabilityDisplay
        """
        axes = panels(ax, 2, 1, size=(5.2, 5.6), heights=(3.0, 1.0), share_x=True)[:, 0]
        top, bottom = axes
        top.fill_between(
            self.stated, self.lower, self.upper, color=BAND, label="95 % if the model is right"
        )
        top.plot([0, 1], [0, 1], ":", color=GREY)
        top.plot(self.stated, self.observed, "o-", color=COLORS[0], label=f"error {self.error:.3f}")
        top.set_ylabel("observed share of rows")
        top.legend(loc="upper left", fontsize="small")
        bars = {"color": COLORS[5], "edgecolor": "white", "linewidth": 0.8}
        bottom.bar(self.edges[:-1], self.counts, np.diff(self.edges), align="edge", **bars)
        if self.expected is not None:
            bottom.axhspan(*self.expected, color="black", alpha=0.15, linewidth=0, zorder=2)
        bottom.set(xlabel=self.event, ylabel="rows")
        first = self.edges[:-1][self.counts > 0].min()
        top.set_xlim(first if self.expected is None else 0.0, 1.0)
        top.set_ylim(min(first, self.observed.min(), self.lower.min()) - 0.02, 1.02)
        for panel in axes:
            panel.grid(alpha=0.3)
            panel.set_axisbelow(True)
        self.ax_, self.axes_, self.figure_ = top, axes, figure_of(top)
        return self


def _one_label(
    y_true: ArrayLike, y_prob: ArrayLike, labels: ArrayLike | None, label: Any
) -> tuple[NDArray[np.bool_], Floats]:
    """Return where y is a label, and the probability of that."""
    truth = np.asarray(y_true)
    known = np.unique(truth) if labels is None else np.asarray(labels)
    places = np.flatnonzero(known == label)
    if len(places) != 1:
        raise InputError(f"label={label!r} is none of the labels {known.tolist()}")
    top_label(truth, y_prob, labels=known)  # checks the shapes
    table = np.asarray(y_prob, dtype=np.float64)
    if table.ndim == 1:
        table = np.column_stack([1 - table, table])
    return np.asarray(truth == label), table[:, places[0]]
