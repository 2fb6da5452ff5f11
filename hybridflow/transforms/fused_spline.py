"""The rational-quadratic spline as one node of the graph, with its derivative by hand.

Recorded operation by operation, a spline keeps dozens of tensors for the way back and
spends most of its time moving them. Here the forward pass keeps the masses of the
bins and eleven more numbers per value, from which the backward pass computes the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridflow.nets import signature_once
from hybridflow.transforms.elementwise import Forward
from hybridflow.transforms.segment import rational_quadratic, rational_quadratic_inverse
from hybridflow.transforms.spline_bins import Bin, gradient, locate


class _Setting(NamedTuple):
    bins: int
    bound: float
    inverse: bool
    known: tuple[Tensor, ...] | None = None
    """What `_FusedSpline` returns, if it has been found already."""


def fused_spline(
    x: Tensor, params: Tensor, *, bins: int, bound: float, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Map values by splines, or back.

    Differentiable as often as wanted, also under `torch.func.vmap` and
    `torch.func.jacrev`; not in forward mode.

    Parameters
    ----------
    x : Tensor of any shape
    params : Tensor of shape (3 K - 1, ``*x.shape``)
    bins : int
        Number K of bins.
    bound : float
        Half-width of the box.
    inverse : bool
        Whether to map back.

    Returns
    -------
    y, ladj : Tensor of the shape of x
        The image and the logarithm of the derivative of the direction taken.
    """
    y, ladj, *_ = _FusedSpline.apply(_Setting(bins, bound, inverse), x, params)  # type: ignore[no-untyped-call]  # torch has no types
    return y, ladj


def rebuilt_spline(y: Tensor, params: Tensor, *, bins: int, bound: float) -> tuple[Tensor, Forward]:
    """Map back by splines, and return the way there, which has nothing left to compute.

    Parameters
    ----------
    y, params, bins, bound
        As x and the others of `fused_spline`.

    Returns
    -------
    x : Tensor of the shape of y
    forward : callable
        From x to ``(y, ladj)``, differentiable with respect to x and `params`.
    """
    with torch.no_grad():
        x, ladj, *found = _FusedSpline.forward(_Setting(bins, bound, inverse=True), y, params)
    # Both directions keep the same of a bin.
    known = _Setting(bins, bound, inverse=False, known=(y, ladj.neg_(), *found))
    return x, lambda x: _FusedSpline.apply(known, x, params)[:2]  # type: ignore[no-untyped-call]  # torch has no types


@signature_once
class _FusedSpline(torch.autograd.Function):
    """The spline; what it found is an output too, so that the way back can be differentiated."""

    @staticmethod
    def forward(setting: _Setting, x: Tensor, params: Tensor) -> tuple[Tensor, ...]:
        if setting.known is not None:
            return tuple(tensor.detach() for tensor in setting.known)
        bins, bound, inverse, _ = setting
        position = (x / (2 * bound)).clamp_(-0.5, 0.5)
        found = locate(position, params, bins, along=int(inverse))
        (start, base), (width, height) = found.corner().unbind(0), found.size().unbind(0)
        left, right = found.derivatives().unbind(0)
        slope = height / width
        if inverse:
            share = (position - base).div_(height).clamp_(0, 1)
            part = rational_quadratic_inverse(share, slope, left, right)
            found.part.copy_(part)
            ladj = rational_quadratic(part, slope, left, right)[1].neg_()
            # The edge stays on the edge: the way back sees which side of it a value is on.
            image = torch.addcmul(start, width, part).clamp_(-0.5, 0.5)
        else:
            part = torch.sub(position, start, out=found.part).div_(width).clamp_(0, 1)
            share, ladj = rational_quadratic(part, slope, left, right)
            image = torch.addcmul(base, height, share)
        # Beyond the box nothing moves.
        y = torch.add(x, image.sub_(position), alpha=2 * bound)
        return y, ladj, *found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.setting, x, _ = inputs
        y, _, *found = output
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y if ctx.setting.inverse else x, *found)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[None, Tensor, Tensor]:
        # Gradients of gradients and batches of `torch.func` need a node of their own.
        way_back = _WayBack.apply if torch.is_grad_enabled() else _way_back
        return None, *way_back(ctx.setting, *ctx.saved_tensors, *grads)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], setting: _Setting, x: Tensor, params: Tensor
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        batched = _batched(info.batch_size, (x, params), in_dims[1:], (0, 1))
        return _FusedSpline.apply(setting, *batched), (0, 0, 1, 2)  # type: ignore[no-untyped-call]  # torch has no types


@signature_once
class _WayBack(torch.autograd.Function):
    """The gradient of the spline, with a gradient of its own."""

    @staticmethod
    def forward(setting: _Setting, *tensors: Any) -> tuple[Tensor, Tensor]:
        return _way_back(setting, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.setting, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        given = [index for index, tensor in enumerate(tensors) if tensor is not None]

        def again(*inputs: Tensor) -> tuple[Tensor, Tensor]:
            everything = list(tensors)
            for index, tensor in zip(given, inputs, strict=True):
                everything[index] = tensor
            return _way_back(ctx.setting, *everything)

        pull_back = torch.func.vjp(again, *(tensors[index] for index in given))[1]
        found = dict(zip(given, pull_back(grads), strict=True))
        return None, *(found.get(index) for index in range(len(tensors)))

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], setting: _Setting, *tensors: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        axes = (0, 1, 2, 0, 0, 1, 2)
        batched = _batched(info.batch_size, tensors, in_dims[1:], axes)
        return _WayBack.apply(setting, *batched), (0, 1)  # type: ignore[no-untyped-call]  # torch has no types


def _batched(
    size: int,
    tensors: Sequence[Tensor | None],
    in_dims: Sequence[int | None],
    axes: Sequence[int],
) -> list[Tensor | None]:
    """Move the axis of a batch to where the values' own axes begin."""

    def batched(tensor: Tensor, axis: int | None, to: int) -> Tensor:
        if axis is None:
            return tensor.unsqueeze(to).expand(*tensor.shape[:to], size, *tensor.shape[to:])
        return tensor.movedim(axis, to)

    return [
        None if tensor is None else batched(tensor, axis, to)
        for tensor, axis, to in zip(tensors, in_dims, axes, strict=True)
    ]


def _way_back(
    setting: _Setting,
    x: Tensor,
    state: Tensor,
    masses: Tensor,
    grad_y: Tensor | None,
    grad_ladj: Tensor | None,
    more_state: Tensor | None,
    more_masses: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of x and the parameters.

    Parameters
    ----------
    setting : _Setting
    x : Tensor
        The value on the side of x, whatever the direction.
    state, masses : Tensor
        The `Bin`.
    grad_y, grad_ladj, more_state, more_masses : Tensor or None
        Gradients of what `_FusedSpline` returned.
    """
    _, bound, inverse, _ = setting
    found = Bin(state, masses)
    width, height = found.size().unbind(0)
    left, right = found.derivatives().unbind(0)
    within = x.detach().clamp(-bound, bound).eq_(x.detach())
    part = found.part
    if torch.is_grad_enabled():  # it is to be differentiated too
        part = (x.clamp(-bound, bound) / (2 * bound) - found.corner()[0]) / width
    grad_y = torch.zeros_like(x) if grad_y is None else grad_y
    grad_ladj = torch.zeros_like(x) if grad_ladj is None else grad_ladj * within
    grad_image = (grad_y * within).mul_(2 * bound)

    rest, slope = 1 - part, height / width
    tilt = rest - part
    at_left, at_right, middle = left * rest, right * part, slope * part * rest
    numerator = torch.lerp(at_left, at_right, part).add_(middle, alpha=2)
    per = torch.lerp(at_right, at_left, part).add_(slope).sub_(middle, alpha=2).reciprocal()
    part_per = part * per
    share = torch.addcmul(at_left, slope, part).mul_(part_per)
    # Derivatives of the share and of half the log-derivative with respect to the part.
    rate = slope * numerator * per * per
    turn = torch.addcmul(at_right - at_left, slope, tilt).div_(numerator)
    turn.addcmul_((left + right).sub_(slope, alpha=2).mul_(per), tilt, value=-1)

    if inverse:
        # Where the image of x has to stay, x moves against everything else.
        grad_ladj = -grad_ladj
        moved = torch.addcdiv(grad_image, grad_ladj * turn, width, value=2)
        grad_flow = -moved / (slope * rate)
    else:
        grad_flow = grad_image
    grad_share = grad_flow * height
    scaled, of_log = grad_share * share, grad_ladj / numerator
    # With respect to the logarithms of the derivatives at the ends and of the slope. A common
    # factor of all three leaves the share alone and multiplies the derivative.
    of_left = torch.sub(grad_share - scaled, grad_ladj, alpha=2).mul_(part_per)
    of_left = of_left.addcmul_(rest, of_log).mul_(at_left)
    of_right = torch.add(scaled, grad_ladj, alpha=2).mul_(rest).mul_(per)
    of_right = torch.addcmul(of_right, part, of_log, value=-1).mul_(at_right).neg_()
    of_slope = grad_ladj - of_left - of_right

    grad_part = (grad_share * rate).addcmul(grad_ladj, turn, value=2)
    grad_position = grad_part / width
    grad_width = torch.addcdiv(grad_position * part, of_slope, width).neg_()
    grad_height = torch.addcdiv(grad_flow * share, of_slope, height)
    through = -grad_flow if inverse else grad_position
    grad_x = torch.add(grad_y, through - grad_image, alpha=1 / (2 * bound))
    grad_params = gradient(
        found,
        corner=(-grad_position, grad_flow),
        size=(grad_width, grad_height),
        log_slope=(of_left, of_right),
        more_state=more_state,
        more_masses=more_masses,
    )
    return grad_x, grad_params
