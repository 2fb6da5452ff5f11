"""CoverageDisplay: do intervals and sets cover as they promise, in every group?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier

from hybridflow.errors import InputError
from hybridflow.metrics import coverage_band
from hybridflow.plots.canvas import BAND, COLORS, GREY, figure_of, legend_above, panels
from hybridflow.plots.reading import answer, last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


@final
class CoverageDisplay:
    """The share of rows whose y was covered, in each group and in all.

    The grey bar is where the share lies with probability `confidence` if the
    rows of a group are exchangeable with the calibration rows: a beta-binomial
    band, which holds the chance of the calibration rows and that of the test
    rows. Split-conformal prediction promises coverage over all rows; a group
    outside of its bar shows where the promise does not hold for it alone.
    With many groups some fall outside by chance: one in twenty at 95 %.

    Parameters
    ----------
    groups : tuple of str
        Names, the last one that of all rows.
    share : ndarray of shape (g,)
        Covered share of each group.
    rows : ndarray of int of shape (g,)
        Rows of each group.
    lower, upper : ndarray of shape (g,)
        The band of each share.
    coverage : float
        What was asked for.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    References
    ----------
    Vovk: "Conditional Validity of Inductive Conformal Predictors", 2012.

    Examples
    --------
    >>> from hybridflow.plots import CoverageDisplay
    >>> covered, group = [True, True, False, True], ["a", "a", "b", "b"]
    >>> display = CoverageDisplay.from_predictions(covered, group, coverage=0.8)
    >>> dict(zip(display.groups, display.share.tolist()))
    {'a': 1.0, 'b': 0.5, 'all rows': 0.75}
    """

    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        *,
        groups: tuple[str, ...],
        share: Floats,
        rows: NDArray[np.int64],
        lower: Floats,
        upper: Floats,
        coverage: float,
    ) -> None:
        self.groups = groups
        self.share = share
        self.rows = rows
        self.lower = lower
        self.upper = upper
        self.coverage = coverage

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        coverage: float = 0.9,
        n_calibration: int | None = None,
        confidence: float = 0.95,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the coverage of a fitted estimator's intervals or sets on held-out rows.

        Parameters
        ----------
        estimator : regressor with ``predict_interval``, or classifier with ``predict_set``
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
        groups, confidence, ax
            As in `from_predictions`.
        coverage : float, default=0.9
            What is asked of the estimator.
        n_calibration : int, optional
            Number of calibration rows; that of ``calibration_`` if not given and
            the estimator has it.

        Returns
        -------
        CoverageDisplay

        Raises
        ------
        InputError
            If the estimator has no such method, or gives no interval or set for
            each row; several outputs are drawn one by one, by `from_predictions`.
        """
        truth = np.asarray(y)
        if is_classifier(estimator):
            sets = np.asarray(answer(estimator, "predict_set", X, coverage), dtype=bool)
            is_class = truth[:, None] == np.asarray(estimator.classes_)
            if sets.shape != is_class.shape:
                raise InputError(f"sets of shape {sets.shape} for y and classes {is_class.shape}")
            covered = (sets & is_class).any(axis=1)
        else:
            interval = np.asarray(answer(estimator, "predict_interval", X, coverage))
            if interval.shape != (len(truth), 2):
                raise InputError(
                    f"intervals of shape {interval.shape}, expected ({len(truth)}, 2): draw one "
                    "output at a time, with from_predictions"
                )
            covered = (interval[:, 0] <= truth) & (truth <= interval[:, 1])
        calibration = getattr(last_step(estimator), "calibration_", None)
        if n_calibration is None and calibration is not None:
            n_calibration = int(calibration.output(0).rows) or None
        return cls.from_predictions(
            covered,
            groups,
            coverage=coverage,
            n_calibration=n_calibration,
            confidence=confidence,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        covered: ArrayLike,
        groups: ArrayLike | None = None,
        *,
        coverage: float = 0.9,
        n_calibration: int | None = None,
        confidence: float = 0.95,
        ax: Axes | None = None,
    ) -> Self:
        """Draw which rows were covered.

        Parameters
        ----------
        covered : array-like of bool of shape (n,)
            Whether y lies in the interval or set of the row.
        groups : array-like of shape (n,), optional
            Group of each row; all rows are one group if not given.
        coverage : float, default=0.9
            What was asked for.
        n_calibration : int, optional
            Number of calibration rows; without it their chance is left out of
            the band, which is then too narrow.
        confidence : float, default=0.95
            Probability of the band.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        CoverageDisplay

        Raises
        ------
        InputError
            If lengths differ, or there are no rows.
        ConfigError
            If a probability does not lie between 0 and 1.
        """
        hits = np.asarray(covered)
        if hits.ndim != 1 or len(hits) == 0 or not np.isin(hits, (0, 1)).all():
            raise InputError("covered must be a vector of True and False, one entry per row")
        codes, names = np.zeros(len(hits), dtype=np.intp), []
        if groups is not None:
            labels = np.asarray(groups)
            if labels.shape != hits.shape:
                raise InputError(f"groups has shape {labels.shape}, covered {hits.shape}")
            found, codes = np.unique(labels, return_inverse=True)
            names = [str(name) for name in found.tolist()]
        rows = np.append(np.bincount(codes)[: len(names)], len(hits))
        covered_rows = np.append(np.bincount(codes, hits)[: len(names)], hits.sum())
        lower, upper = coverage_band(
            rows, coverage, n_calibration=n_calibration, confidence=confidence
        )
        return cls(
            groups=(*names, "all rows"),
            share=covered_rows / rows,
            rows=rows,
            lower=lower,
            upper=upper,
            coverage=coverage,
        ).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw a line for each group, all rows at the bottom.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        CoverageDisplay
        """
        count = len(self.groups)
        panel = panels(ax, 1, 1, size=(6.4, 1.4 + 0.32 * count))[0, 0]
        place = np.arange(count)
        inside = (self.lower <= self.share) & (self.share <= self.upper)
        panel.barh(
            place,
            self.upper - self.lower,
            height=0.6,
            left=self.lower,
            color=BAND,
            label="where it lies if all is well",
        )
        panel.axvline(self.coverage, color=GREY, linestyle=":")
        panel.plot(self.share[inside], place[inside], "o", color=COLORS[0], label="within")
        if not inside.all():
            panel.plot(self.share[~inside], place[~inside], "X", color=COLORS[1], label="outside")
        labels = [f"{name} ({rows:,})" for name, rows in zip(self.groups, self.rows, strict=True)]
        panel.set_yticks(place, labels)
        panel.set_ylim(count - 0.5, -0.5)
        panel.set_xlim(right=min(1.02, panel.get_xlim()[1]))
        panel.set_xlabel(f"share of rows covered; asked for: {self.coverage:g}")
        panel.grid(axis="x", alpha=0.3)
        legend_above(panel, columns=3)
        self.ax_, self.figure_ = panel, figure_of(panel)
        return self
