"""TradeOffDisplay: prediction, calibration and density over the weight of the likelihood."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier

from hybridflow.errors import InputError
from hybridflow.plots.canvas import color, figure_of, panels
from hybridflow.plots.sweep import COLUMNS, trade_off

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


@final
class TradeOffDisplay:
    """Error, -log p(y | x), calibration and log p(x) of held-out rows, over λ.

    The line is the mean over splits, the points are the splits. λ is
    ``likelihood_weight``: 0 is the prediction alone.

    Parameters
    ----------
    weights : ndarray of shape (w,)
        Values of λ, rising.
    mean : dict of str to ndarray of shape (w,)
        Mean over the splits of ``error``, ``negative_log_likelihood``,
        ``calibration`` and ``log_density``.
    splits : dict of str to ndarray of shape (w, s)
        The same of each split.
    labels : dict of str to str
        What each is called on its axis.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The panel of the error.
    axes_ : ndarray of Axes of shape (2, 2)
    figure_ : matplotlib.figure.Figure

    References
    ----------
    Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan: "Hybrid Models with
    Deep and Invertible Features", 2019.

    Examples
    --------
    >>> from hybridflow.plots import TradeOffDisplay
    >>> table = {
    ...     "likelihood_weight": [0.0, 0.0, 1.0, 1.0],
    ...     "split": [0, 1, 0, 1],
    ...     "error": [0.1, 0.3, 0.1, 0.2],
    ...     "negative_log_likelihood": [0.5, 0.6, 0.4, 0.5],
    ...     "calibration": [0.02, 0.04, 0.01, 0.02],
    ...     "log_density": [-9.0, -8.0, -5.0, -4.0],
    ... }
    >>> TradeOffDisplay.from_predictions(table).mean["log_density"].tolist()
    [-8.5, -4.5]
    """

    ax_: Axes
    axes_: NDArray[Any]
    figure_: Figure

    def __init__(
        self,
        *,
        weights: Floats,
        mean: Mapping[str, Floats],
        splits: Mapping[str, Floats],
        labels: Mapping[str, str],
    ) -> None:
        self.weights = weights
        self.mean = mean
        self.splits = splits
        self.labels = labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        weights: Iterable[float] = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0),
        *,
        cv: Any = None,
        ax: Axes | None = None,
    ) -> Self:
        """Fit clones of an estimator with each weight and draw what comes of it.

        Parameters
        ----------
        estimator, X, y, weights, cv
            As in `trade_off`.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        TradeOffDisplay
        """
        table = trade_off(estimator, X, y, weights, cv=cv)
        error = "error rate" if is_classifier(estimator) else "root mean squared error"
        return cls.from_predictions(table, error=error, ax=ax)

    @classmethod
    def from_predictions(
        cls, table: Mapping[str, ArrayLike], *, error: str = "error", ax: Axes | None = None
    ) -> Self:
        """Draw a table made by `trade_off`.

        Parameters
        ----------
        table : dict of str to array-like
            Or a frame with these columns; every weight has the same splits.
        error : str, default="error"
            What the error is called.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        TradeOffDisplay

        Raises
        ------
        InputError
            If a column is absent, or weights have different numbers of splits.
        """
        names = ("likelihood_weight", "split", *COLUMNS)
        absent = [name for name in names if name not in table]
        if absent:
            raise InputError(f"table has no column {absent[0]!r}; make it with trade_off")
        columns = {name: np.asarray(table[name], dtype=np.float64) for name in names}
        weights, counts = np.unique(columns["likelihood_weight"], return_counts=True)
        if len(weights) == 0 or len(set(counts.tolist())) != 1:
            raise InputError("table: every likelihood_weight needs the same number of splits")
        order = np.lexsort((columns["split"], columns["likelihood_weight"]))
        splits = {name: columns[name][order].reshape(len(weights), -1) for name in COLUMNS}
        labels = (error, "mean -log p(y | x), nats", "calibration error", "mean log p(x), nats")
        return cls(
            weights=weights,
            mean={name: values.mean(axis=1) for name, values in splits.items()},
            splits=splits,
            labels=dict(zip(COLUMNS, labels, strict=True)),
        ).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the four panels.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        TradeOffDisplay
        """
        axes = panels(ax, 2, 2, size=(7.6, 5.6), share_x=True)
        for i, (panel, name) in enumerate(zip(axes.flat, COLUMNS, strict=True)):
            panel.plot(self.weights, self.splits[name], ".", color=color(i), alpha=0.5)
            panel.plot(self.weights, self.mean[name], "o-", color=color(i))
            panel.set_ylabel(self.labels[name])
            panel.grid(alpha=0.3)
            positive = self.weights[self.weights > 0]
            if len(positive) == len(self.weights):
                panel.set_xscale("log")
            elif len(positive):  # 0 stands one step to the left of the smallest
                panel.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
            panel.set_xticks(self.weights, [f"{weight:g}" for weight in self.weights])
            panel.tick_params(axis="x", which="minor", bottom=False)
        for panel in axes[-1]:
            panel.set_xlabel("likelihood weight λ")
        self.ax_, self.axes_, self.figure_ = axes[0, 0], axes, figure_of(axes[0, 0])
        return self
