"""Learned monotone curves, anchored so that they start as the identity."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from hybridflow.transforms.elementwise import ElementwiseMap
from hybridflow.transforms.implicit import attach_gradient, monotone_inverse, solve_elementwise

# Share of the curve in the map. The rest is the straight line, whose slope bounds
# what a round trip in float32 can lose.
_SHARE = 0.95


class AnchoredMap(ElementwiseMap):
    r"""The identity, plus how far a curve has moved from where it started.

    .. math:: y = x + \alpha\,\bigl(g(t; \theta) - g(t; 0)\bigr),
        \qquad t = \min(\max(x, -B), B), \quad \alpha = 0.95.

    A curve made of several units must start with *distinct* units, since equal
    ones have equal gradients and never separate; but then it does not start as
    the identity. The difference does, exactly, whatever the units. It is
    increasing for all parameters, because g is and the curve at the start
    is nowhere steeper than 1: the slope of y is at least

    .. math:: 1 - \alpha\, g'(t; 0) \ge 1 - \alpha.

    Beyond the box every value moves by the same amount; the box is wide, since
    the density jumps at its edges. The inverse is found by iteration.

    To write one, set `n_parameters`, define `curve`, and see to it that its
    slope at zero parameters is at most 1.

    Parameters
    ----------
    bound : float, default=50.0
        Half-width B of the box, in units of x.
    """

    exact_inverse = False

    def __init__(self, bound: float = 50.0) -> None:
        self.bound = bound

    @abstractmethod
    def curve(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the curve g.

        Parameters
        ----------
        x : Tensor of any shape
        params : Tensor of shape ``(n_parameters, ...)``
            Which broadcasts to ``(n_parameters, *x.shape)``.

        Returns
        -------
        value, log_slope : Tensor of the shape of x
        """

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Add the displacement of the curve."""
        inside = x.clamp(-self.bound, self.bound)
        value, log_slope = self.curve(inside, params)
        zeros = params.new_zeros(self.n_parameters, *[1] * x.dim())
        start, log_start = self.curve(inside, zeros)
        y = x + _SHARE * (value - start)
        slope = 1 + _SHARE * (torch.exp(log_slope) - torch.exp(log_start))
        return y, torch.log(slope) * (inside == x)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Find the root within the box; beyond, subtract the displacement."""
        with torch.no_grad():
            edge = torch.full_like(y, self.bound)
            low, high = self.forward(-edge, params)[0], self.forward(edge, params)[0]
            inside = torch.minimum(torch.maximum(y, low), high)
            # Wider than the box: Newton's method does not step onto an end of its bracket.
            reach = self.bound + 1
            root = monotone_inverse(lambda x: self.forward(x, params), inside, -reach, reach)
            x = root + (y - inside)
        return attach_gradient(lambda x: self.forward(x, params), x, y, solve_elementwise)
