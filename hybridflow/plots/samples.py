"""SamplesDisplay: rows that the model draws, beside the rows that it has seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import NDArray

from hybridflow.errors import ConfigError, InputError
from hybridflow.plots.canvas import COLORS, figure_of, legend_above, panels
from hybridflow.plots.reading import answer
from hybridflow.plots.variables import Variable, read_variables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_MOST_COLUMNS = 4
_MOST_POINTS = 400
_SOURCES = ("data", "samples")


@final
class SamplesDisplay:
    """Samples beside data: each column on the diagonal, each pair of columns below it.

    Numbers are histograms and clouds of points, categories are bars. Points of
    categories and of few whole numbers stand in columns, data on the left and
    samples on the right. A column shows the range of
    the data and of all but one in a hundred samples.

    Parameters
    ----------
    variables : list of Variable
        The columns shown, with the cells of data and samples.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        The panel of the first column.
    axes_ : ndarray of Axes of shape (c, c)
        Those above the diagonal are hidden.
    figure_ : matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.plots import SamplesDisplay
    >>> rng = np.random.default_rng(0)
    >>> display = SamplesDisplay.from_predictions(rng.normal(size=(99, 3)), rng.random((99, 3)))
    >>> [variable.name for variable in display.variables]
    ['x0', 'x1', 'x2']
    """

    ax_: Axes
    axes_: NDArray[Any]
    figure_: Figure

    def __init__(self, *, variables: list[Variable]) -> None:
        self.variables = variables

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        columns: Sequence[str | int] | None = None,
        n_samples: int | None = None,
        random_state: Any = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw samples of a fitted estimator beside data.

        Parameters
        ----------
        estimator : estimator with ``sample``
            Fitted; of one that draws y too, y is left out.
        X : array-like of shape (n, d)
        columns : sequence of str or int, optional
            Names or positions; the first four if not given.
        n_samples : int, optional
            As many as X has rows if not given.
        random_state : int, RandomState or None
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        SamplesDisplay
        """
        count = len(X) if n_samples is None else n_samples
        if not hasattr(estimator, "sample"):
            answer(estimator, "sample")  # says what is missing
        drawn = estimator.sample(count, random_state=random_state)
        samples = drawn[0] if isinstance(drawn, tuple) else drawn
        return cls.from_predictions(X, samples, columns=columns, ax=ax)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        samples: Any,
        *,
        columns: Sequence[str | int] | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw one table beside another.

        Parameters
        ----------
        X, samples : array-like of shape (n, d)
            Arrays, or pandas or polars frames, with the same columns.
        columns : sequence of str or int, optional
            Names or positions; the first four if not given.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        SamplesDisplay

        Raises
        ------
        InputError
            If the columns differ, or one is not there or cannot be drawn.
        ConfigError
            If no column is left to draw.
        """
        if len(X) == 0 or len(samples) == 0:
            raise InputError("X and samples need at least one row each")
        if columns is None:
            columns = range(min(_MOST_COLUMNS, np.shape(X)[1]))
        if len(columns) == 0:
            raise ConfigError("columns: expected at least one column, got none")
        return cls(variables=read_variables(X, samples, columns)).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        SamplesDisplay
        """
        count = len(self.variables)
        side = 1.2 + 1.9 * count
        axes = panels(ax, count, count, size=(side, side))
        for (i, j), panel in np.ndenumerate(axes):
            across, up = self.variables[j], self.variables[i]
            if i < j:
                panel.set_axis_off()
            elif i == j:
                _draw_column(panel, across)
            else:
                _draw_pair(panel, across, up)
            _label(panel, across, up, i, j, count)
        legend_above(axes[0, 0], columns=2)
        self.ax_, self.axes_, self.figure_ = axes[0, 0], axes, figure_of(axes[0, 0])
        self.figure_.align_ylabels(axes[:, 0].tolist())
        self.figure_.align_xlabels(axes[-1].tolist())
        return self


def _draw_column(panel: Axes, variable: Variable) -> None:
    """Draw the shares of both tables: bars of a category, histograms of numbers."""
    for i, values in enumerate((variable.data, variable.samples)):
        finite = values[np.isfinite(values)]
        shares = np.histogram(finite, variable.edges)[0] / max(1, len(values))
        if variable.levels:
            places = np.arange(len(variable.levels)) + 0.4 * (i - 0.5)
            panel.bar(places, shares, 0.4, color=COLORS[i], label=_SOURCES[i])
        else:
            panel.stairs(shares, variable.edges, fill=True, color=COLORS[i], alpha=0.15)
            panel.stairs(shares, variable.edges, color=COLORS[i], label=_SOURCES[i])
    panel.set_ylim(bottom=0)


def _draw_pair(panel: Axes, across: Variable, up: Variable) -> None:
    """Draw some rows of both tables as points."""
    rng = np.random.default_rng(0)
    tables = ((across.data, up.data), (across.samples, up.samples))
    for i, (x, y) in enumerate(tables):
        rows = rng.permutation(len(x))[:_MOST_POINTS]
        panel.scatter(
            _apart(x[rows], across, i, rng),
            _apart(y[rows], up, i, rng),
            s=7,
            color=COLORS[i],
            marker="os"[i],
            alpha=0.45,
            linewidths=0,
        )


def _apart(values: Floats, variable: Variable, source: int, rng: np.random.Generator) -> Floats:
    """Move the points of a step apart, those of the data to one side of the samples'."""
    if not variable.in_steps:
        return values
    return np.asarray(values + 0.4 * (source - 0.5) + rng.uniform(-0.15, 0.15, len(values)))


def _label(panel: Axes, across: Variable, up: Variable, i: int, j: int, count: int) -> None:
    """Set limits, and ticks and names at the left and at the bottom."""
    panel.set_xlim(*across.edges[[0, -1]])
    panel.tick_params(labelsize="small", labelbottom=i == count - 1, labelleft=j == 0 or i == j)
    if across.levels:
        panel.set_xticks(range(len(across.levels)), across.levels, rotation=90)
    else:
        panel.locator_params(axis="x", nbins=4)
    if i != j:
        panel.set_ylim(*up.edges[[0, -1]])
        if up.levels:
            panel.set_yticks(range(len(up.levels)), up.levels)
        else:
            panel.locator_params(axis="y", nbins=4)
        if j == 0:
            panel.set_ylabel(up.name)
    elif i == 0:
        panel.set_ylabel("share")
    if i == count - 1:
        panel.set_xlabel(across.name)
