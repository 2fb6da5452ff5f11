"""DensityHistogramDisplay: how usual rows are, beside the rows that trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hybridflow.errors import ConfigError, InputError
from hybridflow.plots.canvas import color, figure_of, legend_above, line, panels
from hybridflow.plots.reading import answer, last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


@final
class DensityHistogramDisplay:
    """Histograms of log p(x) of several tables, with a threshold.

    The bins span the scores of the first table, which sets what is usual, and
    up to three times as far on either side; the legend says what share of a
    table lies beyond them, at -inf for instance.

    Parameters
    ----------
    edges : ndarray of shape (m + 1,)
        Bounds of the bins, in nats.
    shares : dict of str to ndarray of shape (m,)
        Share of the rows of each table in each bin.
    beyond : dict of str to (float, float)
        Shares of the rows of each table that lie below and above the bins.
    below : dict of str to float
        Share of the rows of each table below the threshold; empty without one.
    threshold : float or None
        In nats.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    Examples
    --------
    >>> from hybridflow.plots import DensityHistogramDisplay
    >>> scores = {"train": [0.0, 1.0, 2.0, 3.0], "other": [-9.0, 1.0]}
    >>> DensityHistogramDisplay.from_predictions(scores, threshold=-1.0).below
    {'train': 0.0, 'other': 0.5}
    """

    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        *,
        edges: Floats,
        shares: Mapping[str, Floats],
        beyond: Mapping[str, tuple[float, float]],
        below: Mapping[str, float],
        threshold: float | None,
    ) -> None:
        self.edges = edges
        self.shares = shares
        self.beyond = beyond
        self.below = below
        self.threshold = threshold

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        tables: Mapping[str, Any],
        *,
        threshold: float | None = None,
        n_bins: int = 40,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the scores of several tables.

        Parameters
        ----------
        estimator : estimator with ``score_samples``
            Fitted.
        tables : dict of str to array-like of shape (n, d)
            By name, the usual rows first: ``{"train": X, "test": X_test}``.
        threshold : float, optional
            In nats; ``offset_`` if not given and the estimator has one.
        n_bins : int, default=40
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        DensityHistogramDisplay
        """
        if not isinstance(tables, Mapping):
            raise InputError(
                "tables: expected a dict of names and tables, such as "
                f'{{"train": X_train, "test": X_test}}, got a {type(tables).__name__}'
            )
        scores = {name: answer(estimator, "score_samples", X) for name, X in tables.items()}
        if threshold is None:
            threshold = getattr(last_step(estimator), "offset_", None)
        return cls.from_predictions(scores, threshold=threshold, n_bins=n_bins, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        scores: Mapping[str, ArrayLike],
        *,
        threshold: float | None = None,
        n_bins: int = 40,
        ax: Axes | None = None,
    ) -> Self:
        """Draw scores.

        Parameters
        ----------
        scores : dict of str to array-like of shape (n,)
            Of each table by name, the usual rows first; in nats, may be -inf.
        threshold : float, optional
            In nats.
        n_bins : int, default=40
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        DensityHistogramDisplay

        Raises
        ------
        InputError
            If a table is empty, a score is NaN, or the first table has no finite score.
        ConfigError
            If there are no bins.
        """
        if n_bins < 1:
            raise ConfigError(f"n_bins must be at least 1, got {n_bins!r}")
        found = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
        for name, values in found.items():
            if values.ndim != 1 or len(values) == 0 or np.isnan(values).any():
                raise InputError(f"scores[{name!r}] must be a vector of numbers without NaN")
        edges = _edges(found, threshold, n_bins)
        return cls(
            edges=edges,
            shares={
                name: np.histogram(values, edges)[0] / len(values) for name, values in found.items()
            },
            beyond={
                name: (float((values < edges[0]).mean()), float((values > edges[-1]).mean()))
                for name, values in found.items()
            },
            below={}
            if threshold is None
            else {name: float((values < threshold).mean()) for name, values in found.items()},
            threshold=threshold,
        ).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        DensityHistogramDisplay
        """
        panel = panels(ax, 1, 1, size=(6.6, 4.8))[0, 0]
        for i, (name, shares) in enumerate(self.shares.items()):
            said = [f"{100 * self.below[name]:.3g} % below the threshold"] if self.below else []
            for side, share in zip(("left", "right"), self.beyond[name], strict=True):
                said += [f"{100 * share:.3g} % off the {side} edge"] if share > 0 else []
            label = name + (f" ({', '.join(said)})" if said else "")
            panel.stairs(shares, self.edges, fill=True, alpha=0.2, color=color(i))
            panel.stairs(
                shares, self.edges, color=color(i), linestyle=line(i), linewidth=1.6, label=label
            )
        if self.threshold is not None:
            panel.axvline(self.threshold, color="black", label=f"threshold {self.threshold:.4g}")
        panel.set(xlabel="log p(x), nats", ylabel="share of the rows of each table")
        legend_above(panel)
        panel.margins(x=0)
        self.ax_, self.figure_ = panel, figure_of(panel)
        return self


def _edges(scores: Mapping[str, Floats], threshold: float | None, n_bins: int) -> Floats:
    """Return bins over all finite scores, as far down as the first table lets one see it."""
    if not scores:
        raise InputError("scores: expected at least one table, got none")
    first = next(iter(scores.values()))
    usual = first[np.isfinite(first)]
    if len(usual) == 0:
        raise InputError(f"scores[{next(iter(scores))!r}] has no finite score to set the bins by")
    every = np.concatenate([values[np.isfinite(values)] for values in scores.values()])
    bottom, top = np.quantile(usual, [0.01, 0.99])
    low = max(every.min(), bottom - 3 * (top - bottom))
    high = min(every.max(), top + 3 * (top - bottom))
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.02 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, n_bins + 1)
