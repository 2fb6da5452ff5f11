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
    """Find the bin of each value, by comparing with one knot after the other.

    What belongs to the bin is chosen by masks that are floats written in place.
    Boolean masks cost several times more, and so do searches and gathers.

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
    raw = params[2 * bins :]
    scale = total.reciprocal().mul_(1 - FLOOR)
    # In units of masses, in which every bin is longer than its own by an equal share.
    remainder = (position + 0.5).div_(scale[along])
    equal = total[along] * (FLOOR / (bins * (1 - FLOOR)))
    threshold = equal.clone()

    bins_of_both, lengths = masses.unbind(1), masses[along].unbind(0)
    beyond, number = torch.empty_like(position), torch.zeros_like(position)
    before, mass = torch.zeros_like(total), bins_of_both[0].clone()
    # At the edges of the box there is no parameter: derivative 1, its logarithm 0.
    bend = torch.zeros_like(total)
    left, right = bend.unbind(0)
    right.copy_(raw[0])
    for k in range(bins - 1):
        torch.ge(remainder.sub_(lengths[k]), threshold, out=beyond)
        threshold.add_(equal)
        number.add_(beyond)
        before.addcmul_(bins_of_both[k], beyond)
        mass.lerp_(bins_of_both[k + 1], beyond)
        if k < bins - 2:
            bend.lerp_(raw[k : k + 2], beyond)
        else:
            left.lerp_(raw[k], beyond)
            right.addcmul_(right, beyond, value=-1)
    return Bin(before, mass, scale, bend.div_(MAX_LOG_SLOPE).tanh_(), number, masses)


def _exponentials(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Exponentiate up to a common factor, and sum over axis 1."""
    if logits.device.type == "cpu" and logits.numel():
        # Two passes less, where no sum over- or underflows: nearly always.
        masses = logits.exp()
        total = masses.sum(1)
        smallest, largest = total.aminmax()
        if float(smallest) > _SMALLEST and float(largest) < _LARGEST:
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

    before, mass = torch.stack(corner).mul_(found.scale), torch.stack(size).mul_(found.scale)
    constant = (before * found.before).addcmul_(mass, found.mass).mul_(found.scale)
    constant = constant.mul_(-1 / (1 - FLOOR))
    if more.scale is not None:
        constant = constant - more.scale * found.scale.square() / (1 - FLOOR)
    if more.before is not None:
        before = before + more.before
    if more.mass is not None:
        mass = mass + more.mass
    grad = size[0].new_empty((3 * bins - 1, *number.shape))
    logits = grad[: 2 * bins].view(2, bins, *number.shape)
    logits.copy_(constant.unsqueeze(1))
    if more.masses is not None:
        logits.add_(more.masses)
    logits[:, 0].add_(mass)
    logits[:, 1:].addcmul_(passed, mass.unsqueeze(1))
    logits[:, :-1].addcmul_(passed, before.sub_(mass).unsqueeze(1))
    logits.mul_(found.masses)

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
