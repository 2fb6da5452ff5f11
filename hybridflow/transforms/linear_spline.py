"""Monotone piecewise-linear splines: histograms whose heights are learned."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softmax

from hybridflow.errors import ConfigError
from hybridflow.transforms.elementwise import ElementwiseMap

# Share of the height that is divided equally among the bins: no slope is below
# it, so a round trip in float32 loses two bits at most.
_FLOOR = 0.25


class LinearSplineMap(ElementwiseMap):
    r"""A monotone piecewise-linear spline on a box, the identity outside.

    .. math:: y = \mathrm{spline}(t) + (x - t), \qquad t = \min(\max(x, -B), B).

    All K bins are equally wide. Their heights are a softmax, mixed with a
    quarter of the uniform division, so that slopes lie between 0.25 and
    :math:`0.25 + 0.75 K`.

    The density jumps at the knots. This is why the knots stay where they are:
    while every value has the gradient of the piece that it lies on, a knot
    would also have to know about the values that it is about to pass, of which
    their gradients say nothing. What lies in front of the map is in the same
    position, so a smooth spline trains better in deep stacks.

    Parameters
    ----------
    bins : int, default=8
        Number K of bins.
    bound : float, default=5.0
        Half-width B of the box, in units of x.

    References
    ----------
    Thomas Müller, Brian McWilliams, Fabrice Rousselle, Markus Gross, Jan
    Novák. Neural Importance Sampling. 2019.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import LinearSplineMap
    >>> spline = LinearSplineMap(bins=2, bound=1.0)
    >>> logits = torch.tensor([[30.0], [-30.0]])  # all but a floor goes to the first bin
    >>> spline.forward(torch.tensor([-0.5]), logits)[0]
    tensor([-0.1250])
    """

    def __init__(self, bins: int = 8, bound: float = 5.0) -> None:
        if bins < 2:
            raise ConfigError(f"bins: a spline needs at least 2, got {bins}")
        self.bins = bins
        self.bound = bound
        self.n_parameters = bins

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the spline within the box."""
        inside = x.clamp(-self.bound, self.bound)
        position = inside / (2 * self.bound)
        heights = self._heights(params)
        start, base, slope = self._piece(position, self._starts(position), heights)
        y = 2 * self.bound * (base + slope * (position - start)) + (x - inside)
        return y, torch.log(slope) * (inside == x)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the spline within the box."""
        inside = y.clamp(-self.bound, self.bound)
        position = inside / (2 * self.bound)
        heights = self._heights(params)
        knots = heights[:-1].cumsum(0) - 0.5
        start, base, slope = self._piece(position, knots, heights)
        x = 2 * self.bound * (start + (position - base) / slope) + (y - inside)
        return x, -torch.log(slope) * (inside == y)

    def _heights(self, params: Tensor) -> Tensor:
        """Return the share of each bin in the height of the box."""
        return softmax(params, dim=0) * (1 - _FLOOR) + _FLOOR / self.bins

    def _starts(self, position: Tensor) -> Tensor:
        """Return where the bins but the first begin, to compare positions with."""
        steps = torch.arange(1, self.bins, dtype=position.dtype, device=position.device)
        return (steps / self.bins - 0.5).view(-1, *[1] * position.dim())

    def _piece(
        self, position: Tensor, knots: Tensor, heights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pick the bin of each value: its corner and its slope."""
        with torch.no_grad():
            beyond = (position >= knots).to(position.dtype)
            ones = torch.ones_like(beyond[:1])
            within = torch.cat([ones, beyond]) - torch.cat([beyond, 0 * ones])
        start = beyond.sum(0) / self.bins - 0.5
        base = (heights[:-1] * beyond).sum(0) - 0.5
        return start, base, self.bins * (heights * within).sum(0)
