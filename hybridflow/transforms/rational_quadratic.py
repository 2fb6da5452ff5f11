"""Monotone rational-quadratic splines with a stable closed-form inverse."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softmax

from hybridflow.errors import ConfigError
from hybridflow.transforms.elementwise import ElementwiseMap, Forward, softly_bounded
from hybridflow.transforms.fused_spline import fused_spline, rebuilt_spline
from hybridflow.transforms.segment import rational_quadratic, rational_quadratic_inverse
from hybridflow.transforms.spline_bins import FLOOR, MAX_LOG_SLOPE


class RationalQuadraticMap(ElementwiseMap):
    r"""A monotone spline on a box, the identity outside.

    .. math:: y = \mathrm{spline}(t) + (x - t), \qquad t = \min(\max(x, -B), B).

    Widths and heights of the K bins are softmaxes, mixed with a quarter of
    the uniform division; the derivative at interior knot k is
    :math:`\exp(2\tanh(a_k/2))`, at the box edge 1. Gradients are written by
    hand (`fused_spline`).

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
        if _is_traced():
            return self.by_plain_operations(x, params, inverse=False)
        return fused_spline(x, params, bins=self.bins, bound=self.bound, inverse=False)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the spline within the box."""
        if _is_traced():
            return self.by_plain_operations(y, params, inverse=True)
        return fused_spline(y, params, bins=self.bins, bound=self.bound, inverse=True)

    def rebuild(self, y: Tensor, params: Tensor) -> tuple[Tensor, Forward]:
        """Find the preimage, whose bins serve the way there too."""
        return rebuilt_spline(y, params, bins=self.bins, bound=self.bound)

    def by_plain_operations(
        self, x: Tensor, params: Tensor, *, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Compute the same in operations that a graph can hold: what is exported.

        Parameters
        ----------
        x : Tensor of any shape
        params : Tensor of shape ``(n_parameters, *x.shape)``
        inverse : bool

        Returns
        -------
        y, ladj : Tensor of the shape of x
        """
        bins, bound = self.bins, self.bound
        inside = x.clamp(-bound, bound)
        position = inside / (2 * bound)
        sizes = softmax(params[: 2 * bins].view(2, bins, *x.shape), dim=1)
        sizes = sizes * (1 - FLOOR) + FLOOR / bins
        knots = sizes[int(inverse), :-1].cumsum(0) - 0.5
        beyond = (position >= knots).to(x.dtype)
        here = torch.cat([1 - beyond[:1], beyond[:-1] - beyond[1:], beyond[-1:]])
        start, base = (sizes[:, :-1] * beyond).sum(1) - 0.5
        width, height = (sizes * here).sum(1)
        raw = params[2 * bins :]
        # At the edges of the box no knot is picked: raw 0, derivative 1.
        left, right = (
            torch.exp(softly_bounded((raw * chosen).sum(0), MAX_LOG_SLOPE))
            for chosen in (here[1:], here[:-1])
        )
        slope = height / width
        if inverse:
            share = ((position - base) / height).clamp(0, 1)
            part = rational_quadratic_inverse(share, slope, left, right)
            _, ladj = rational_quadratic(part, slope, left, right)
            return 2 * bound * (start + width * part) + (x - inside), -ladj
        part = ((position - start) / width).clamp(0, 1)
        share, ladj = rational_quadratic(part, slope, left, right)
        return 2 * bound * (base + height * share) + (x - inside), ladj


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()
