"""LearningCurveDisplay: how a fit went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hybridflow.errors import InputError
from hybridflow.plots.canvas import color, figure_of, line, panels
from hybridflow.plots.reading import last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hybridflow.history import History

Floats = NDArray[np.float64]


@final
class LearningCurveDisplay:
    """The terms of the loss over the steps of training, a line for each member.

    The terms are those of the held-out rows, or of the training rows where none
    are held out. A circle marks the evaluation with the lowest loss; where rows
    are held out, its weights are the ones that were kept.

    Parameters
    ----------
    steps : sequence of ndarray
        Per member, the optimiser steps taken at each evaluation.
    task : sequence of ndarray, or None
        Per member, the mean of -log p(y | x) in nats; None without a head.
    density : sequence of ndarray
        Per member, the mean of -log p(x) in nats.
    lowest : sequence of int
        Per member, the position of the evaluation with the lowest loss.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The first panel.
    axes_ : ndarray of Axes
        The panels, from top to bottom: task, if there is one, and density.
    figure_ : matplotlib.figure.Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from hybridflow import HybridClassifier, TrainingConfig
    >>> from hybridflow.plots import LearningCurveDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = HybridClassifier(training=TrainingConfig(steps=20), random_state=0).fit(X, y)
    >>> display = LearningCurveDisplay.from_estimator(model)
    >>> int(display.steps[0][-1])
    20
    """

    ax_: Axes
    axes_: NDArray[Any]
    figure_: Figure

    def __init__(
        self,
        *,
        steps: Sequence[Floats],
        task: Sequence[Floats] | None,
        density: Sequence[Floats],
        lowest: Sequence[int],
    ) -> None:
        self.steps = steps
        self.task = task
        self.density = density
        self.lowest = lowest

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> Self:
        """Draw the histories of a fitted estimator.

        Parameters
        ----------
        estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
            Fitted; or a pipeline that ends with one.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        LearningCurveDisplay
        """
        fitted = last_step(estimator)
        check_is_fitted(fitted, "histories_")
        return cls.from_predictions(fitted.histories_, ax=ax)

    @classmethod
    def from_predictions(cls, histories: Sequence[History], *, ax: Axes | None = None) -> Self:
        """Draw histories.

        Parameters
        ----------
        histories : sequence of list of Record
            One for each member, as in ``histories_``.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        LearningCurveDisplay

        Raises
        ------
        InputError
            If there is no history, or an empty one.
        """
        if not histories or not all(histories):
            raise InputError("histories: each member needs at least one record, got none")
        tasks = [np.array([r.task for r in h if r.task is not None]) for h in histories]
        return cls(
            steps=[np.array([float(r.step) for r in history]) for history in histories],
            task=tasks if len(tasks[0]) else None,
            density=[np.array([r.density for r in history]) for history in histories],
            lowest=[int(np.argmin([r.value for r in history])) for history in histories],
        ).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        LearningCurveDisplay
        """
        terms = [("mean -log p(x), nats", self.density)]
        if self.task is not None:
            terms.insert(0, ("mean -log p(y | x), nats", self.task))
        height = 2.0 + 1.6 * len(terms)
        axes = panels(ax, len(terms), 1, size=(6.4, height), share_x=True)[:, 0]
        for panel, (label, curves) in zip(axes, terms, strict=True):
            for i, (step, curve, best) in enumerate(
                zip(self.steps, curves, self.lowest, strict=True)
            ):
                panel.plot(step, curve, line(i), color=color(i), label=f"member {i}")
                panel.plot(
                    step[best], curve[best], "o", color=color(i), markerfacecolor="white", zorder=3
                )
            panel.set_ylabel(label)
            panel.grid(alpha=0.3)
            _leave_out_the_start(panel, curves)
        axes[-1].set_xlabel("optimiser steps")
        axes[0].plot([], [], "o", color="black", markerfacecolor="white", label="lowest loss")
        axes[0].legend(loc="upper right", fontsize="small")
        self.ax_, self.axes_, self.figure_ = axes[0], axes, figure_of(axes[0])
        return self


def _leave_out_the_start(panel: Axes, curves: Sequence[Floats]) -> None:
    """Let the first evaluations leave the picture, which would press the rest into a line."""
    every = np.concatenate(list(curves))
    settled = np.concatenate([curve[len(curve) // 10 :] for curve in curves])
    every, settled = every[np.isfinite(every)], settled[np.isfinite(settled)]
    if len(settled):
        low, high = every.min(), settled.max()
        top = max(high, min(every.max(), low + 3 * (np.quantile(settled, 0.9) - low)))
        margin = 0.05 * (top - low) or 0.05 * max(abs(low), 1.0)
        panel.set_ylim(low - margin, top + margin)
