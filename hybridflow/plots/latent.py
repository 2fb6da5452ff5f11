"""LatentDisplay: where the rows lie in the latent space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from sklearn.decomposition import PCA
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted

from hybridflow.errors import InputError
from hybridflow.plots.canvas import GREY, color, figure_of, marker, panels
from hybridflow.plots.reading import answer, last_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

MASSES = (0.5, 0.9, 0.99)
_CELLS = 80
_DRAWS, _NUMBERS = 100_000, 2**25
_MOST_CLASSES = 28


@final
class LatentDisplay:
    """Latent rows on their first two principal axes, and the contours of the base.

    The contours hold 50, 90 and 99 % of the base distribution on these axes.
    Rows spread as the base does if the density fits; rows of unlike y lie apart
    if the prediction is linear in the latent.

    Parameters
    ----------
    points : ndarray of shape (n, 2)
        The rows on the principal axes.
    axes : ndarray of shape (2, D)
        The principal axes, rows of length one.
    explained : ndarray of shape (2,)
        Share of the variance of the latent rows along each.
    y : ndarray of shape (n,), or None
        What colours the points: labels, or numbers.
    base : ndarray of shape (m, 2), or None
        Draws of the base on the same axes, from which the contours are made.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
    figure_ : matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.plots import LatentDisplay
    >>> z = np.random.default_rng(0).normal(size=(200, 5)) * [1, 3, 1, 1, 1]
    >>> LatentDisplay.from_predictions(z).explained.argmax()
    np.int64(0)
    """

    ax_: Axes
    figure_: Figure

    def __init__(
        self,
        *,
        points: Floats,
        axes: Floats,
        explained: Floats,
        y: NDArray[Any] | None,
        base: Floats | None,
    ) -> None:
        self.points = points
        self.axes = axes
        self.explained = explained
        self.y = y
        self.base = base

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: ArrayLike | None = None, *, ax: Axes | None = None
    ) -> Self:
        """Draw the latent rows of a fitted estimator, by its first member.

        Parameters
        ----------
        estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
            Fitted; or a pipeline that ends with one.
        X : array-like of shape (n, d)
        y : array-like of shape (n,), optional
            Labels or numbers that colour the points.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        LatentDisplay
        """
        import torch

        latent = answer(estimator, "transform", X)
        fitted = last_step(estimator)
        check_is_fitted(fitted, "models_")
        with torch.no_grad():
            draws = fitted.models_[0].base.sample(
                min(_DRAWS, _NUMBERS // max(1, latent.shape[1])),
                generator=torch.Generator().manual_seed(0),
            )
        return cls.from_predictions(latent, y, base=draws.cpu().numpy(), ax=ax)

    @classmethod
    def from_predictions(
        cls,
        latent: ArrayLike,
        y: ArrayLike | None = None,
        *,
        base: ArrayLike | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw latent rows.

        Parameters
        ----------
        latent : array-like of shape (n, D)
        y : array-like of shape (n,), optional
            Labels or numbers that colour the points.
        base : array-like of shape (m, D), optional
            Draws of the base, many of them; no contours if not given.
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        LatentDisplay

        Raises
        ------
        InputError
            If the latent has fewer than two rows or dimensions, or y or the
            base does not fit it.
        """
        z = np.asarray(latent, dtype=np.float64)
        if z.ndim != 2 or min(z.shape) < 2:
            raise InputError(
                f"latent has shape {z.shape}: a view of two axes needs at least two rows and two "
                "dimensions"
            )
        colours = None if y is None else np.asarray(y)
        if colours is not None and colours.shape != (len(z),):
            raise InputError(f"y has shape {colours.shape}, but there are {len(z)} latent rows")
        draws = None if base is None else np.asarray(base, dtype=np.float64)
        if draws is not None and (draws.ndim != 2 or draws.shape[1] != z.shape[1]):
            raise InputError(f"base has shape {draws.shape}, the latent {z.shape}")
        view = PCA(n_components=2, svd_solver="full").fit(z)
        return cls(
            points=view.transform(z),
            axes=view.components_,
            explained=view.explained_variance_ratio_,
            y=colours,
            base=None if draws is None else view.transform(draws),
        ).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the points and the contours.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure if not given.

        Returns
        -------
        LatentDisplay
        """
        panel = panels(ax, 1, 1, size=(6.2, 5.2))[0, 0]
        figure = figure_of(panel)
        size = float(np.clip(4000 / len(self.points), 4, 24))
        if self.y is None:
            panel.scatter(*self.points.T, s=size, color=color(0), alpha=0.6, linewidths=0)
        elif len(classes := _classes(self.y)):
            for i, label in enumerate(classes):
                panel.scatter(
                    *self.points[self.y == label].T,
                    s=size,
                    color=color(i),
                    marker=marker(i),
                    alpha=0.7,
                    linewidths=0,
                    label=str(label),
                )
            panel.legend(
                title="y",
                loc="center left",
                bbox_to_anchor=(1.0, 0.5),
                ncols=1 + (len(classes) - 1) // 14,
                fontsize="small",
                markerscale=float(np.sqrt(40 / size)),
            )
        else:
            dots = panel.scatter(
                *self.points.T, s=size, c=self.y.astype(np.float64), cmap="viridis", linewidths=0
            )
            figure.colorbar(dots, ax=panel, label="y")
        if self.base is not None:
            self._draw_contours(panel)
        names = [f"principal axis {i + 1} ({100 * e:.0f} %)" for i, e in enumerate(self.explained)]
        panel.set(xlabel=names[0], ylabel=names[1])
        panel.set_aspect("equal", adjustable="datalim")
        self.ax_, self.figure_ = panel, figure
        return self

    def _draw_contours(self, panel: Axes) -> None:
        assert self.base is not None
        # Few draws of a heavy tail must not make the cells wide.
        low, high = np.quantile(self.base, [0.001, 0.999], axis=0)
        margin = 0.15 * (high - low)
        span = list(zip(low - margin, high + margin, strict=True))
        counts, x, y = np.histogram2d(self.base[:, 0], self.base[:, 1], bins=_CELLS, range=span)
        mass = gaussian_filter(counts / len(self.base), 2.5, mode="constant")
        levels = [_level(mass, held) for held in MASSES]
        styles = {level: f"{100 * m:.0f} %" for level, m in zip(levels, MASSES, strict=True)}
        centres = [(edges[1:] + edges[:-1]) / 2 for edges in (x, y)]
        lines = panel.contour(
            *centres, mass.T, levels=sorted(set(levels)), colors=GREY, linewidths=1
        )
        panel.clabel(lines, fmt=styles, fontsize=8)


def _level(mass: Floats, held: float) -> float:
    """Return the mass of the cells on the border of the smallest set of cells that holds some."""
    falling = np.sort(mass, axis=None)[::-1]
    reached = np.searchsorted(np.cumsum(falling), held * falling.sum())
    return float(falling[min(int(reached), falling.size - 1)])


def _classes(y: NDArray[Any]) -> list[Any]:
    """Return the labels, or none where y holds numbers."""
    known = np.unique(y).tolist()
    numbers = y.dtype.kind in "iuf"
    if type_of_target(y) not in ("binary", "multiclass"):
        return []
    return [] if numbers and len(known) > _MOST_CLASSES else known
