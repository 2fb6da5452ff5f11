"""Monotone rational-quadratic splines of many rows, in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hybridflow.laws.base import Floats, Rows, beside, picked

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)
_ROWS = 4096
"""Rows whose nodes are evaluated at once; bounds memory, not results."""


class Segment(NamedTuple):
    """The segments that values are in, each of the shape of the values."""

    x: Floats
    y: Floats
    width: Floats
    height: Floats
    left: Floats
    """Derivative at its left end."""
    right: Floats
    """Derivative at its right end."""

    @property
    def slope(self) -> Floats:
        """Height over width."""
        return self.height / self.width

    def denominator(self, part: Floats) -> Floats:
        """Return the denominator at a position from 0 to 1: a sum of positive terms."""
        rest = 1 - part
        return np.asarray(self.slope * (part**2 + rest**2) + (self.left + self.right) * part * rest)


class MonotoneSpline:
    r"""Increasing maps between two intervals, one per row.

    On a segment of slope s with derivatives :math:`d_0, d_1` at its ends,

    .. math:: y(\xi) = y_0 + h \frac{s\xi^2 + d_0\xi(1-\xi)}{s + (d_0 + d_1 - 2s)\xi(1-\xi)}.

    Values outside are taken for the end that is nearest.

    Parameters
    ----------
    x, y : ndarray of shape (n, K + 1)
        Where the knots are, and their images; both increase along a row.
    derivative : ndarray of shape (n, K + 1)
        At the knots, positive.

    References
    ----------
    .. [1] Piecewise Rational Quadratic Interpolation to Monotonic Data,
           R. Delbourgo and J. A. Gregory, 1982

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.laws.monotone_spline import MonotoneSpline
    >>> spline = MonotoneSpline(*np.array([[[0.0, 2.0]], [[0.0, 1.0]], [[0.5, 0.5]]]))
    >>> spline.forward(np.array([1.0]))[0], spline.inverse(np.array([0.25]))
    (array([0.5]), array([0.5]))
    """

    def __init__(self, x: Floats, y: Floats, derivative: Floats) -> None:
        self.x, self.y, self.derivative = x, y, derivative

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Rows) -> MonotoneSpline:
        """Return the splines of some rows."""
        return MonotoneSpline(
            picked(self.x, rows), picked(self.y, rows), picked(self.derivative, rows)
        )

    def _segment(self, value: Floats, knots: Floats) -> Segment:
        """Find the segments of values of shape (n,) or (n, m), by one kind of knots."""
        inner = knots[:, None, 1:-1] if value.ndim == 2 else knots[:, 1:-1]
        index = (value[..., None] >= inner).sum(-1).reshape(len(knots), -1)

        def at(table: Floats, step: int) -> Floats:
            return np.take_along_axis(table, index + step, 1).reshape(value.shape)

        x, y = at(self.x, 0), at(self.y, 0)
        width, height = at(self.x, 1) - x, at(self.y, 1) - y
        return Segment(x, y, width, height, at(self.derivative, 0), at(self.derivative, 1))

    def forward(self, x: Floats) -> tuple[Floats, Floats]:
        """Return the images and the logarithms of the derivatives."""
        segment = self._segment(x, self.x)
        part = np.clip((x - segment.x) / segment.width, 0.0, 1.0)
        rest, slope, below = 1 - part, segment.slope, segment.denominator(part)
        share = (slope * part**2 + segment.left * part * rest) / below
        rise = segment.right * part**2 + 2 * slope * part * rest + segment.left * rest**2
        image = segment.y + segment.height * share
        return image, np.log(rise) + 2 * np.log(slope / below)

    def inverse(self, y: Floats) -> Floats:
        """Return what the images are of."""
        segment = self._segment(y, self.y)
        share = np.clip((y - segment.y) / segment.height, 0.0, 1.0)
        rest, slope = 1 - share, segment.slope
        lean = segment.left * rest - segment.right * share
        root = np.abs(lean) + np.sqrt(lean**2 + 4 * slope**2 * share * rest)
        up, down = 2 * slope * share, 2 * slope * rest
        with np.errstate(invalid="ignore"):
            part = np.where(lean >= 0, up / (up + root), root / (root + down))
        return np.asarray(segment.x + segment.width * part)

    def rise(self, low: Floats, high: Floats) -> Floats:
        r"""Return ``forward(high) - forward(low)`` without a difference of two images.

        On a segment the difference of the shares at a and b is

        .. math:: (b - a)\,s\,\frac{d_0(1-a)(1-b) + s(a(1-b) + b(1-a)) + d_1 ab}{D(a)\,D(b)}.
        """
        total = np.zeros_like(low)
        for k in range(self.x.shape[1] - 1):
            (x, x1), (y, y1), (left, right) = (
                (beside(table[:, k], low), beside(table[:, k + 1], low))
                for table in (self.x, self.y, self.derivative)
            )
            segment = Segment(x, y, x1 - x, y1 - y, left, right)
            a, b = (np.clip((end - x) / (x1 - x), 0.0, 1.0) for end in (low, high))
            overlap = np.maximum(np.minimum(high, x1) - np.maximum(low, x), 0.0) / (x1 - x)
            mixed = left * (1 - a) * (1 - b) + right * a * b
            mixed = mixed + segment.slope * (a * (1 - b) + b * (1 - a))
            shares = overlap * segment.slope * mixed
            shares = shares / (segment.denominator(a) * segment.denominator(b))
            total += segment.height * shares
        return total

    def moments(self, of: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
        r"""Integrate an increasing function F of the images: :math:`\int F` and :math:`\int xF`.

        By Gauss-Legendre quadrature with 48 nodes on every segment.

        Parameters
        ----------
        of : callable
            F, elementwise.

        Returns
        -------
        plain, times_x : ndarray of shape (n,)
        """
        parts = [
            self[slice(start, start + _ROWS)]._moments(of) for start in range(0, len(self), _ROWS)
        ]
        plain, times_x = zip(*parts, strict=True) if parts else ([np.empty(0)], [np.empty(0)])
        return np.concatenate(plain), np.concatenate(times_x)

    def _moments(self, of: Callable[[Floats], Floats]) -> tuple[Floats, Floats]:
        half = np.diff(self.x, axis=1) / 2
        points = (self.x[:, :-1] + half)[..., None] + half[..., None] * _NODES
        weights = (half[..., None] * _WEIGHTS).reshape(len(self), -1)
        x = points.reshape(len(self), -1)
        weighted = weights * of(self.forward(x)[0])
        return weighted.sum(1), (weighted * x).sum(1)
