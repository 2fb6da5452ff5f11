"""Monotone rational-quadratic splines with a stable closed-form inverse."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softmax

from hybridflow.errors import ConfigError
from hybridflow.transforms.elementwise import ElementwiseMap

# Share of the box that is divided equally among the bins, and the bound of the
# derivatives' logarithms. Weaker bounds fitted held-out rows no better, and cost
# digits in float32, since a round trip loses as many as the slopes span.
_FLOOR = 0.25
_MAX_LOG_SLOPE = 2.0


def rational_quadratic(
    part: Tensor, slope: Tensor, left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Evaluate one segment of a rational-quadratic spline.

    .. math:: v(\xi) = \frac{s\xi^2 + d_0\xi(1-\xi)}{s + (d_0 + d_1 - 2s)\xi(1-\xi)}

    Parameters
    ----------
    part : Tensor
        Position :math:`\xi` in the segment, from 0 to 1.
    slope : Tensor
        Height over width of the segment, s.
    left, right : Tensor
        Derivatives :math:`d_0, d_1` at its ends.

    Returns
    -------
    share : Tensor
        Share v of the segment's height.
    log_derivative : Tensor
        Logarithm of dy/dx.

    References
    ----------
    John Gregory, Roger Delbourgo. Piecewise rational quadratic interpolation
    to monotonic data. 1982.
    """
    rest = 1 - part
    both = part * rest
    # Sums of positive terms only: nothing cancels, whatever the slopes.
    denominator = slope * (1 - 2 * both) + (left + right) * both
    share = part * (slope * part + left * rest) / denominator
    numerator = right * part * part + 2 * slope * both + left * rest * rest
    return share, torch.log((slope / denominator).square() * numerator)


def rational_quadratic_inverse(share: Tensor, slope: Tensor, left: Tensor, right: Tensor) -> Tensor:
    r"""Find the position at which a segment reaches a share of its height.

    With :math:`e = d_0(1-v) - d_1 v` and
    :math:`g = |e| + \sqrt{e^2 + 4s^2v(1-v)}`,

    .. math:: \xi = \frac{2sv}{2sv + g} \text{ if } e \ge 0, \qquad
        \xi = \frac{g}{g + 2s(1-v)} \text{ otherwise}:

    the root of the usual quadratic, written so that only positive terms are
    added and the discriminant cannot become negative.

    Parameters
    ----------
    share : Tensor
        Share v of the height, from 0 to 1.
    slope, left, right : Tensor
        As in `rational_quadratic`.

    Returns
    -------
    Tensor
        Position :math:`\xi` from 0 to 1.
    """
    rest = 1 - share
    lean = left * rest - right * share
    root = lean.abs() + torch.sqrt(lean.square() + 4 * slope.square() * share * rest)
    up, down = 2 * slope * share, 2 * slope * rest
    return torch.where(lean >= 0, up / (up + root), root / (root + down))


class RationalQuadraticMap(ElementwiseMap):
    r"""A monotone spline on a box, the identity outside.

    .. math:: y = \mathrm{spline}(t) + (x - t), \qquad t = \min(\max(x, -B), B).

    Widths and heights of the K bins are softmaxes, mixed with a quarter of
    the uniform division; the derivative at interior knot k is
    :math:`\exp(2\tanh(a_k/2))`, at the box edge 1. Bins are found by comparing
    and summing.

    Parameters
    ----------
    bins : int, default=8
        Number K of bins.
    bound : float, default=5.0
        Half-width B of the box, in units of x.

    References
    ----------
    Conor Durkan, Artur Bekasov, Iain Murray, George Papamakarios. Neural
    Spline Flows. 2019.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import RationalQuadraticMap
    >>> spline = RationalQuadraticMap(bins=4)
    >>> x = torch.tensor([-9.0, 0.5])
    >>> torch.allclose(spline.forward(x, torch.zeros(11, 2))[0], x)
    True
    """

    def __init__(self, bins: int = 8, bound: float = 5.0) -> None:
        if bins < 2:
            raise ConfigError(f"bins: a spline needs at least 2, got {bins}")
        self.bins = bins
        self.bound = bound
        self.n_parameters = 3 * bins - 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the spline within the box."""
        inside = x.clamp(-self.bound, self.bound)
        position = inside / (2 * self.bound)
        (start, base), (width, height), left, right = self._segment(position, params, along=0)
        slope = height / width
        part = ((position - start) / width).clamp(0, 1)
        share, ladj = rational_quadratic(part, slope, left, right)
        return 2 * self.bound * (base + height * share) + (x - inside), ladj

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the spline within the box."""
        inside = y.clamp(-self.bound, self.bound)
        position = inside / (2 * self.bound)
        (start, base), (width, height), left, right = self._segment(position, params, along=1)
        slope = height / width
        share = ((position - base) / height).clamp(0, 1)
        part = rational_quadratic_inverse(share, slope, left, right)
        _, ladj = rational_quadratic(part, slope, left, right)
        return 2 * self.bound * (start + width * part) + (y - inside), -ladj

    def _segment(
        self, position: Tensor, params: Tensor, along: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pick the bin of each value: its corner, its size and its end derivatives.

        Float masks multiplied and summed are several times faster than
        gathers or boolean masks, and need no search.
        """
        bins = self.bins
        sizes = softmax(params[: 2 * bins].view(2, bins, *position.shape), dim=1)
        sizes = sizes * (1 - _FLOOR) + _FLOOR / bins
        with torch.no_grad():
            beyond = torch.empty_like(params[: bins - 1])
            remainder = position + 0.5
            for k in range(bins - 1):
                remainder = remainder - sizes[along, k]
                torch.ge(remainder, 0, out=beyond[k])
            within = torch.empty_like(params[:bins])
            within[0] = 1 - beyond[0]
            torch.sub(beyond[:-1], beyond[1:], out=within[1:-1])
            within[-1] = beyond[-1]
        corner = (sizes[:, :-1] * beyond).sum(1) - 0.5
        size = (sizes * within).sum(1)
        raw = params[2 * bins :]
        # At the edge of the box no knot is picked: raw 0, derivative 1.
        left = (raw * within[1:]).sum(0)
        right = (raw * within[:-1]).sum(0)
        ends = torch.exp(_MAX_LOG_SLOPE * torch.tanh(torch.stack([left, right]) / _MAX_LOG_SLOPE))
        return corner, size, ends[0], ends[1]
