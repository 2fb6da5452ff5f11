"""The bins of monotone splines: which one a value is in, and the way back to the parameters.

A spline has 3 K - 1 parameters for each value: the logits of the K widths, the
logits of the K heights, and one number for the derivative at each inner knot.
Moving these is most of its cost, so everything here makes few passes over them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FLOOR = 0.25
"""Share of the box that is divided equally among the bins."""

MAX_LOG_SLOPE = 2.0
"""Bound S of the logarithm of a knot's derivative, :math:`S \\tanh(a / S)`."""
# Weaker bounds of either fitted held-out rows no better, and cost digits in float32,
# since a round trip loses as many as the slopes span.

# Sums of exponentials between these have lost nothing to overflow or underflow.
_SMALLEST, _LARGEST = 1e-20, 1e30


class Bin(NamedTuple):
    """The bin of each value.

    Tensors of the values' shape behind an axis of 2: along x and along y, or
    left and right. A mass is the exponential of a logit.
    """

    before: Tensor
    """Mass of the bins before it."""
    mass: Tensor
    """Its own mass."""
    scale: Tensor
    """What makes a mass a length: the share to divide over the mass of all bins."""
    bend: Tensor
    """Logarithms of the derivatives at its ends over their bound, from -1 to 1."""
    number: Tensor
    """How many bins come before it; without the axis of 2."""
    masses: Tensor
    """Masses of all bins, (2, K, ...)."""

    def size(self, bins: int) -> Tensor:
        """Return its width and height."""
        return (self.mass * self.scale).add_(FLOOR / bins)

    def corner(self, bins: int) -> Tensor:
        """Return where it starts, in a box from -1/2 to 1/2."""
        return (self.before * self.scale).add_(self.number, alpha=FLOOR / bins).sub_(0.5)


def locate(position: Tensor, params: Tensor, bins: int, along: int) -> Bin:
    """Find the bin of each value, by halving a window of bins until one is left.

    What belongs to the window is moved by masks, which are floats written in
    place: Boolean ones cost several times more, and so do searches and gathers.

    Parameters
    ----------
    position : Tensor of any shape
        From -1/2 to 1/2.
    params : Tensor of shape (3 K - 1, ``*position.shape``)
    bins : int
    along : int
        0 if the position is one of x, 1 if of y.

    Returns
    -------
    Bin
    """
    masses, total = _exponentials(params[: 2 * bins].view(2, bins, *position.shape))
    scale = total.reciprocal().mul_(1 - FLOOR)
    # From here on lengths are in units of masses, of which every bin has `equal` more.
    target = (position + 0.5).div_(scale[along])
    equal = total[along] * (FLOOR / (bins * (1 - FLOOR)))

    window, knots, edges = masses, params[2 * bins :], True
    before, number = torch.zeros_like(total), torch.zeros_like(position)
    beyond, offset = torch.empty_like(position), torch.empty_like(position)
    while (count := window.shape[1]) > 1:
        # Two windows of half the bins, which overlap where their number is odd.
        half, skipped = (count + 1) // 2, count // 2
        passed = window[:, :skipped].sum(1) if skipped > 1 else window[:, 0]
        torch.add(passed[along], equal, alpha=skipped, out=offset)
        edge = offset if half == skipped else offset + window[along, skipped] + equal
        torch.ge(target, edge, out=beyond)
        target.addcmul_(offset, beyond, value=-1)
        before.addcmul_(passed, beyond)
        number.add_(beyond, alpha=skipped)
        window = torch.lerp(window[:, :half], window[:, skipped:], beyond)
        knots = _half_of_knots(knots, beyond, half, skipped, edges=edges)
        edges = False
    return Bin(before, window[:, 0], scale, knots.div_(MAX_LOG_SLOPE).tanh_(), number, masses)


def _half_of_knots(
    knots: Tensor, beyond: Tensor, half: int, skipped: int, *, edges: bool
) -> Tensor:
    """Return the derivatives at the ends of the bins of one of two windows."""
    if not edges:
        return torch.lerp(knots[: half + 1], knots[skipped:], beyond)
    # At the edges of the box there is no parameter: derivative 1, its logarithm 0.
    chosen = knots.new_empty((half + 1, *beyond.shape))
    torch.mul(knots[skipped - 1], beyond, out=chosen[0])
    torch.lerp(knots[: half - 1], knots[skipped:], beyond, out=chosen[1:-1])
    torch.addcmul(knots[half - 1], knots[half - 1], beyond, value=-1, out=chosen[-1])
    return chosen


def _exponentials(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Exponentiate up to a common factor, and sum over axis 1."""
    if logits.device.type == "cpu" and logits.numel():
        # Two passes less, where no sum over- or underflows: nearly always.
        masses = logits.exp()
        total = masses.sum(1)
        smallest, largest = total.aminmax()
        if smallest > _SMALLEST and largest < _LARGEST:
            return masses, total
    masses = (logits - logits.amax(1, keepdim=True)).exp_()
    return masses, masses.sum(1)


def gradient(
    found: Bin,
    bins: int,
    corner: tuple[Tensor, Tensor],
    size: tuple[Tensor, Tensor],
    log_slope: tuple[Tensor, Tensor],
    more: Bin,
) -> Tensor:
    r"""Carry gradients back to the parameters.

    With :math:`c_j` one where the bin found is bin j or comes after it, the
    gradient of logit j is

    .. math:: p_j \bigl(c_j g_s + c_{j+1} (g_c - g_s) - m\bigr),

    and the mean m needs no sum over the bins, since it follows from the
    corner and the size.

    Parameters
    ----------
    found : Bin
    bins : int
    corner, size : tuple of Tensor
        Gradients of the corner and the size of the bin, along x and along y.
    log_slope : tuple of Tensor
        Gradients of the logarithms of the derivatives at its left and right end.
    more : Bin
        Gradients of what was found itself; None where there is none.

    Returns
    -------
    Tensor of shape (3 K - 1, ...)
    """
    number = found.number
    steps = torch.arange(bins - 1, dtype=number.dtype, device=number.device)
    passed = (number - steps.view(-1, *(1,) * number.dim())).clamp_(0, 1)
    grad = size[0].new_empty((3 * bins - 1, *number.shape))
    for axis in range(2):
        scale = found.scale[axis]
        grad_before, grad_mass = corner[axis] * scale, size[axis] * scale
        constant = (grad_before * found.before[axis]).addcmul(grad_mass, found.mass[axis])
        constant = constant.mul_(scale).mul_(-1 / (1 - FLOOR))
        if more.scale is not None:
            constant = constant - more.scale[axis] * scale.square() / (1 - FLOOR)
        if more.before is not None:
            grad_before = grad_before + more.before[axis]
        if more.mass is not None:
            grad_mass = grad_mass + more.mass[axis]
        logits = grad[axis * bins : (axis + 1) * bins]
        logits.copy_(constant)
        if more.masses is not None:
            logits.add_(more.masses[axis])
        logits[0].add_(grad_mass)
        logits[1:].addcmul_(passed, grad_mass)
        logits[:-1].addcmul_(passed, grad_before - grad_mass)
        logits.mul_(found.masses[axis])

    left, right = (
        torch.addcmul(end, end * bend, bend, value=-1)
        for end, bend in zip(log_slope, found.bend.unbind(0), strict=True)
    )
    if more.bend is not None:
        more_left, more_right = (more.bend * (1 - found.bend.square()) / MAX_LOG_SLOPE).unbind(0)
        left, right = left + more_left, right + more_right
    raw = grad[2 * bins :]
    raw.copy_(passed).mul_(left - right)
    raw[1:].addcmul_(passed[:-1], right)
    raw[0].add_(right)
    raw[:-1].addcmul_(passed[1:], left, value=-1)
    return grad
