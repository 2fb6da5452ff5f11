"""Spline couplings as single operations, whose ONNX nodes are written by hand.

Rows lie along the first axis and bins are gathered: the fastest form in a runtime. As one
operation a coupling is also traced at once, which is what the time of an export goes into.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, silu, softmax

from hybridflow.nets import checked_context, squash
from hybridflow.transforms import Coupling, RationalQuadraticMap, Transform
from hybridflow.transforms.segment import rational_quadratic, rational_quadratic_inverse
from hybridflow.transforms.spline_bins import FLOOR, MAX_LOG_SLOPE


@torch.library.custom_op("hybridflow::spline_rows", mutates_args=())
def spline_rows(
    x: Tensor, params: Tensor, adding: Tensor, even: Tensor, box: Tensor, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Map values by `RationalQuadraticMap`, parameters along the last axis.

    The knots of both axes come from one product with a constant triangular matrix,
    and both ends of the bin from one gather.

    Parameters
    ----------
    x : Tensor of shape (n, m)
    params : Tensor of shape (n, m, 3 K + 1)
        As of the map, with zeros for the edges of the box around the derivatives.
    adding : Tensor of shape (K, K + 1)
    even : Tensor of shape (K + 1,)
        Knots are ``masses @ adding + even``.
    box : Tensor of shape (3,)
        From where to where it lies, and its width.
    inverse : bool

    Returns
    -------
    y, ladj : Tensor of shape (n, m)
    """
    bins = len(adding)
    inside = torch.minimum(torch.maximum(x, box[0]), box[1])
    position = inside / box[2]
    masses = softmax(params[..., : 2 * bins].view(*x.shape, 2, bins), -1)
    knots = masses @ adding + even
    before = (position[..., None] >= knots[..., int(inverse), 1:-1]).sum(-1, keepdim=True)
    place = before + torch.arange(2)
    low, high = knots.gather(-1, place.unsqueeze(-2).expand(-1, -1, 2, -1)).unbind(-1)
    (start, base), (width, height) = low.unbind(-1), (high - low).unbind(-1)
    bend = torch.tanh(params[..., 2 * bins :].gather(-1, place) / MAX_LOG_SLOPE)
    left, right = torch.exp(MAX_LOG_SLOPE * bend).unbind(-1)
    slope = height / width
    if inverse:
        share = ((position - base) / height).clamp(0, 1)
        part = rational_quadratic_inverse(share, slope, left, right)
        return x + box[2] * (start + width * part - position), -rational_quadratic(
            part, slope, left, right
        )[1]
    part = ((position - start) / width).clamp(0, 1)
    share, ladj = rational_quadratic(part, slope, left, right)
    return x + box[2] * (base + height * share - position), ladj


@spline_rows.register_fake
def _(
    x: Tensor, params: Tensor, adding: Tensor, even: Tensor, box: Tensor, inverse: bool
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(x)


def spline_nodes(
    op: Any, x: Any, params: Any, adding: Any, even: Any, box: Any, inverse: bool
) -> Any:
    """Write `spline_rows` as ONNX nodes; every value keeps two axes of length one."""
    bins = int(adding.shape[0])
    axis = _whole(op, [2])
    first, middle, last = (_whole(op, [end]) for end in (0, 2 * bins, 3 * bins + 1))
    masses = op.Slice(params, first, middle, axis)
    bend = op.Unsqueeze(op.Slice(params, middle, last, axis), axis)
    masses = op.Softmax(op.Reshape(masses, _whole(op, [0, 0, 2, bins])), axis=-1)
    knots = op.Add(op.MatMul(masses, adding), even)
    low, high, width = op.Split(box, axis=0, num_outputs=3)
    inside = op.Min(op.Max(x, low), high)
    axes = _whole(op, [2, 3])
    position = op.Unsqueeze(op.Div(inside, width), axes)
    side = int(inverse)
    inner = op.Slice(knots, _whole(op, [side, 1]), _whole(op, [side + 1, bins]), axes)
    passed = op.Cast(op.GreaterOrEqual(position, inner), to=7)
    place = op.Add(op.ReduceSum(passed, _whole(op, [3]), keepdims=1), _whole(op, [0, 1]))
    bend = op.GatherElements(bend, place, axis=3)
    one, two = _like(op, x, 1.0), _like(op, x, MAX_LOG_SLOPE)
    bend = op.Exp(op.Mul(op.Tanh(op.Div(bend, two)), two))
    ends = op.GatherElements(knots, op.Concat(place, place, axis=2), axis=3)
    low, high = op.Split(ends, axis=3, num_outputs=2)
    start, base = op.Split(low, axis=2, num_outputs=2)
    length, height = op.Split(op.Sub(high, low), axis=2, num_outputs=2)
    left, right = op.Split(bend, axis=3, num_outputs=2)
    slope = op.Div(height, length)
    nothing = _like(op, x, 0.0)
    if inverse:
        share = op.Clip(op.Div(op.Sub(position, base), height), nothing, one)
        part = _part_nodes(op, share, slope, left, right, one)
    else:
        part = op.Clip(op.Div(op.Sub(position, start), length), nothing, one)
    # Sums of positive terms only, as in `rational_quadratic`.
    rest = op.Sub(one, part)
    at_left, at_right, product = op.Mul(left, rest), op.Mul(right, part), op.Mul(part, rest)
    both = op.Add(product, product)
    under = op.Add(op.Mul(slope, op.Sub(one, both)), op.Mul(op.Add(left, right), product))
    over = op.Add(op.Add(op.Mul(at_left, rest), op.Mul(at_right, part)), op.Mul(slope, both))
    ratio = op.Div(slope, under)
    ladj = op.Log(op.Mul(op.Mul(over, ratio), ratio))
    if inverse:
        ladj, image = op.Neg(ladj), op.Add(start, op.Mul(length, part))
    else:
        share = op.Div(op.Mul(op.Add(op.Mul(slope, part), at_left), part), under)
        image = op.Add(base, op.Mul(height, share))
    moved = op.Mul(op.Squeeze(op.Sub(image, position), axes), width)
    return op.Add(x, moved), op.Squeeze(ladj, axes)


def _part_nodes(op: Any, share: Any, slope: Any, left: Any, right: Any, one: Any) -> Any:
    """Write `rational_quadratic_inverse`."""
    rest = op.Sub(one, share)
    lean = op.Sub(op.Mul(left, rest), op.Mul(right, share))
    up, down = (op.Mul(op.Add(slope, slope), each) for each in (share, rest))
    root = op.Add(op.Abs(lean), op.Sqrt(op.Add(op.Mul(lean, lean), op.Mul(up, down))))
    rising = op.GreaterOrEqual(lean, op.Sub(one, one))
    return op.Where(rising, op.Div(up, op.Add(up, root)), op.Div(root, op.Add(root, down)))


def _whole(op: Any, numbers: list[int]) -> Any:
    return op.Constant(value_ints=numbers)


def _like(op: Any, x: Any, number: float) -> Any:
    """Return a number that float32 holds, of the type of x."""
    return op.CastLike(op.Constant(value_float=number), x)


class GatheredSpline(nn.Module):
    """The constants of `spline_rows`.

    Parameters
    ----------
    curve : RationalQuadraticMap
    """

    adding: Tensor
    even: Tensor
    box: Tensor

    def __init__(self, curve: RationalQuadraticMap) -> None:
        super().__init__()
        bins, bound = curve.bins, curve.bound
        float64 = torch.float64
        ones = torch.ones(bins, bins + 1, dtype=float64)
        self.register_buffer("adding", (1 - FLOOR) * ones.triu(1))
        self.register_buffer("even", FLOOR / bins * torch.arange(bins + 1, dtype=float64) - 0.5)
        self.register_buffer("box", torch.tensor([-bound, bound, 2 * bound], dtype=float64))

    def forward(self, x: Tensor, params: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """Map values of shape (n, m) by parameters of shape (n, m, 3 K + 1)."""
        y, ladj = spline_rows(x, params, self.adding, self.even, self.box, inverse)
        return y, ladj


class GatheredSplineCoupling(Transform):
    """A `Coupling` of rational-quadratic splines, for export.

    Parameters
    ----------
    coupling : Coupling
        Of a `RationalQuadraticMap`; its weights are copied.
    """

    kept: Tensor
    mapped: Tensor
    restore: Tensor

    def __init__(self, coupling: Coupling) -> None:
        super().__init__()
        curve, net = coupling.elementwise, coupling.net
        assert isinstance(curve, RationalQuadraticMap)
        self.bins, self.context_features = curve.bins, net.context_features
        kept, mapped = torch.split(coupling.order, coupling.sizes)
        self.register_buffer("kept", kept.clone())
        self.register_buffer("mapped", mapped.clone())
        self.register_buffer("restore", coupling.restore)
        self.hidden = net.hidden
        self.spline = GatheredSpline(curve)
        self.bias = nn.Parameter(self._by_feature(net.bias))
        weight = net.weight
        self.weight = None if weight is None else nn.Parameter(self._by_feature(weight))

    def _by_feature(self, rows: Tensor) -> Tensor:
        """Return rows of parameters, those of a feature together and its edges around."""
        bins = self.bins
        params = rows.detach().reshape(3 * bins - 1, len(self.mapped), -1).movedim(0, 1)
        raw = pad(params[:, 2 * bins :], (0, 0, 1, 1))
        return torch.cat([params[:, : 2 * bins], raw], 1).reshape(-1, *rows.shape[1:])

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the features that are not kept."""
        return self._mapped(x, context, inverse=False)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo `forward`."""
        return self._mapped(z, context, inverse=True)

    def _mapped(self, x: Tensor, context: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        kept, mapped = x.index_select(1, self.kept), x.index_select(1, self.mapped)
        params = self._params(kept, context).view(-1, len(self.mapped), 3 * self.bins + 1)
        y, ladj = self.spline(mapped, params, inverse=inverse)
        return torch.cat([kept, y], 1).index_select(1, self.restore), ladj.sum(1)

    def _params(self, kept: Tensor, context: Tensor | None) -> Tensor:
        context = checked_context(context, self.context_features)
        if self.weight is None:
            return self.bias.expand(kept.shape[0], -1)
        h = squash(kept if context is None else torch.cat([kept, context], 1))
        for layer in self.hidden:
            h = silu(cast("Tensor", layer(h)))
        return linear(h, self.weight, self.bias)
