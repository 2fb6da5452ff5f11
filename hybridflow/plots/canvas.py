"""Where a display draws: axes of its own, or the place of axes that are given.

The one module that imports matplotlib, and only when something is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hybridflow.errors import InputError, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design", 2008: told apart with any kind of colour vision.
# Their yellow is left out, which is too pale for lines on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY = "0.45"
BAND = "0.88"


def color(i: int) -> str:
    """Return the i-th colour, from the first again after the last."""
    return COLORS[i % len(COLORS)]


def line(i: int) -> str:
    """Return the i-th line style: beside the colour, for print in grey."""
    return LINES[i % len(LINES)]


def marker(i: int) -> str:
    """Return the marker of the i-th group, another one also where colours repeat."""
    return MARKERS[(i + i // len(COLORS)) % len(MARKERS)]


def panels(
    ax: Axes | None,
    rows: int,
    columns: int,
    *,
    size: tuple[float, float],
    heights: tuple[float, ...] | None = None,
    share_x: bool = False,
) -> NDArray[Any]:
    """Return a grid of axes, on a new figure or in the place of `ax`.

    Parameters
    ----------
    ax : matplotlib.axes.Axes or None
        Axes whose place is divided; they are hidden. None for a new figure.
    rows, columns : int
    size : (float, float)
        Width and height of a new figure, in inches.
    heights : tuple of float, optional
        Relative heights of the rows.
    share_x : bool, default=False
        Whether the panels of a column have one horizontal axis.

    Returns
    -------
    ndarray of Axes of shape (rows, columns)
    """
    if ax is None:
        pyplot = require("matplotlib.pyplot", "plots")
        figure = pyplot.figure(figsize=size, layout="constrained")
        grid = figure.add_gridspec(rows, columns, height_ratios=heights)
    elif rows == columns == 1:
        return np.array([[ax]], dtype=object)
    else:
        figure, place = figure_of(ax), ax.get_subplotspec()
        if place is not None:
            grid = place.subgridspec(rows, columns, height_ratios=heights)
        else:  # axes at a position of their own
            box = ax.get_position()
            grid = figure.add_gridspec(
                rows,
                columns,
                left=box.x0,
                right=box.x1,
                bottom=box.y0,
                top=box.y1,
                height_ratios=heights,
            )
        ax.set_axis_off()
    axes: NDArray[Any] = grid.subplots(squeeze=False, sharex="col" if share_x else False)
    return axes


def legend_above(panel: Axes, columns: int = 1) -> None:
    """Put the legend above the axes, where it covers nothing."""
    panel.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, fontsize="small", frameon=False
    )


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes are on, through subfigures.

    Raises
    ------
    InputError
        If they were removed from it.
    """
    figure = ax.get_figure(root=True)
    if figure is None:
        raise InputError("ax is on no figure: it was removed; pass axes of a figure, or none")
    return figure
