"""RiskCoverageDisplay: what is gained by leaving the doubtful rows out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier

from hybridflow.metrics import area_under_risk_coverage, risk_coverage_curve
from hybridflow.plots.canvas import GREY, color, figure_of, legend_above, line, panels
from hybridflow.plots.reading import answer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


@final
class RiskCoverageDisplay:
    """The mean loss of the rows that are kept, over the share of rows that are kept.

    A line for each score that rejects rows, from its highest value down. The
    lower, the better; the legend gives the area under each. Two lines bound them: a score
    that tells nothing keeps the mean loss, the best possible one rejects by
    the loss itself.

    Parameters
    ----------
    coverage : ndarray of shape (n,)
    risk : dict of str to ndarray of shape (n,)
        For each score, in the units of the loss.
    area : dict of str to float
        `area_under_risk_coverage` of each score.
    best : ndarray of shape (n,)
        The lowest risk possible.
    loss : str
        Name of the loss, for the label of the axis.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    References
    ----------
    El-Yaniv, Wiener: "On the Foundations of Noise-free Selective
    Classification", 2010.

    Examples
    --------
    >>> from hybridflow.plots import RiskCoverageDisplay
    >>> scores = {"doubt": [0.1, 0.9, 0.2, 0.8]}
    >>> RiskCoverageDisplay.from_predictions([0, 1, 0, 0], scores).risk["doubt"].tolist()
    [0.0, 0.0, 0.0, 0.25]
    """

    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        *,
        coverage: Floats,
        risk: Mapping[str, Floats],
        area: Mapping[str, float],
        best: Floats,
        loss: str,
    ) -> None:
        self.coverage = coverage
        self.risk = risk
        self.area = area
        self.best = best
        self.loss = loss

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        scores: Mapping[str, ArrayLike] | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the curves of a fitted classifier or regressor on held-out rows.

        The loss is 1 for a wrong label and 0 for a right one, or the absolute
        error. The scores are the doubt of the prediction (one minus the largest
        probability, or the standard deviation), -log p(x), and
        ``rejection_score`` if the estimator has it.

        Parameters
        ----------
        estimator : classifier or regressor
            With ``predict_proba`` or ``predict_distribution``.
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
        scores : dict of str to array-like of shape (n,), optional
            Further scores, higher for rows to be rejected.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        RiskCoverageDisplay
        """
        found: dict[str, ArrayLike] = {}
        truth = np.asarray(y)
        if is_classifier(estimator):
            probabilities = answer(estimator, "predict_proba", X)
            predicted = np.asarray(estimator.classes_)[probabilities.argmax(axis=1)]
            losses, loss = np.asarray(predicted != truth, dtype=np.float64), "error rate"
            found["1 - largest probability"] = 1 - probabilities.max(axis=1)
        else:
            law = answer(estimator, "predict_distribution", X)
            losses, loss = np.abs(truth - law.mean()), "mean absolute error"
            found["predicted standard deviation"] = law.std()
        if hasattr(estimator, "score_samples"):
            found["-log p(x)"] = -estimator.score_samples(X)
        if hasattr(estimator, "rejection_score"):
            found["rejection_score"] = estimator.rejection_score(X)
        return cls.from_predictions(losses, {**found, **(scores or {})}, loss=loss, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        losses: ArrayLike,
        scores: Mapping[str, ArrayLike],
        *,
        loss: str = "mean loss",
        ax: Axes | None = None,
    ) -> Self:
        """Draw the curves of scores.

        Parameters
        ----------
        losses : array-like of shape (n,)
            Loss of each row.
        scores : dict of str to array-like of shape (n,)
            Rejection scores by name, higher for rows to be rejected.
        loss : str, default="mean loss"
            For the label of the axis.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        RiskCoverageDisplay

        Raises
        ------
        InputError
            If lengths differ or a number is missing.
        """
        coverage, best = risk_coverage_curve(losses, losses)
        return cls(
            coverage=coverage,
            risk={name: risk_coverage_curve(losses, score)[1] for name, score in scores.items()},
            area={name: area_under_risk_coverage(losses, score) for name, score in scores.items()},
            best=best,
            loss=loss,
        ).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        RiskCoverageDisplay
        """
        panel = panels(ax, 1, 1, size=(6.0, 5.0))[0, 0]
        panel.axhline(self.best[-1], color=GREY, linestyle=":", label="at random")
        for i, (name, risk) in enumerate(self.risk.items()):
            label = f"{name} (area {self.area[name]:.3g})"
            panel.plot(self.coverage, risk, line(i), color=color(i), label=label)
        panel.plot(self.coverage, self.best, color=GREY, linewidth=1, label="best possible")
        panel.set(xlabel="share of rows kept", ylabel=f"{self.loss} of the rows kept", xlim=(0, 1))
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        legend_above(panel)
        self.ax_, self.figure_ = panel, figure_of(panel)
        return self
