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
    """The bin of each value, from which everything else can be computed."""

    state: Tensor
    """(10, ...): the rows that the properties name, and last the position in the bin."""
    masses: Tensor
    """(2, K, ...): exponentials of the logits, called masses."""

    @property
    def before(self) -> Tensor:
        """(2, ...): mass of the bins before it, along x and along y."""
        return self.state[0:2]

    @property
    def bend(self) -> Tensor:
        """(2, ...): logarithms of the derivatives at its ends over their bound."""
        return self.state[2:4]

    @property
    def number(self) -> Tensor:
        """(...): how many bins come before it."""
        return self.state[4]

    @property
    def mass(self) -> Tensor:
        """(2, ...): its own mass, along x and along y."""
        return self.state[5:7]

    @property
    def scale(self) -> Tensor:
        """(2, ...): what makes a mass a length: the share to divide over the mass of all bins."""
        return self.state[7:9]

    @property
    def part(self) -> Tensor:
        """(...): position in the bin, from 0 to 1; the caller of `locate` writes it."""
        return self.state[9]

    def size(self) -> Tensor:
        """Return its width and height in a box of size 1."""
        return (self.mass * self.scale).add_(FLOOR / self.masses.shape[1])

    def corner(self) -> Tensor:
        """Return where it starts, in a box from -1/2 to 1/2."""
        equal = FLOOR / self.masses.shape[1]
        return (self.before * self.scale).add_(self.number, alpha=equal).sub_(0.5)

    def derivatives(self) -> Tensor:
        """Return the derivatives at its left and right end."""
        return (self.bend * MAX_LOG_SLOPE).exp_()


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
    found = Bin(position.new_empty((10, *position.shape)), masses)
    found.state[:5].zero_()
    before, bend, number, mass = found.before, found.bend, found.number, found.mass
    scale = torch.reciprocal(total, out=found.scale).mul_(1 - FLOOR)
    # In units of masses, in which every bin is longer than its own by an equal share.
    remainder = (position + 0.5).div_(scale[along])
    equal = total[along] * (FLOOR / (bins * (1 - FLOOR)))
    threshold, beyond = equal.clone(), torch.empty_like(position)

    columns, lengths = masses.unbind(1), masses[along].unbind(0)
    mass.copy_(columns[0])
    # At the edges of the box there is no parameter: derivative 1, its logarithm 0.
    left, right = bend.unbind(0)
    right.copy_(raw[0])
    for k in range(bins - 1):
        torch.ge(remainder.sub_(lengths[k]), threshold, out=beyond)
        threshold.add_(equal)
        number.add_(beyond)
        before.addcmul_(columns[k], beyond)
        mass.lerp_(columns[k + 1], beyond)
        if k < bins - 2:
            bend.lerp_(raw[k : k + 2], beyond)
        else:
            left.lerp_(raw[k], beyond)
            right.addcmul_(right, beyond, value=-1)
    bend.div_(MAX_LOG_SLOPE).tanh_()
    return found


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
    corner: tuple[Tensor, Tensor],
    size: tuple[Tensor, Tensor],
    log_slope: tuple[Tensor, Tensor],
    more_state: Tensor | None,
    more_masses: Tensor | None,
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
    corner, size : tuple of Tensor
        Gradients of the corner and the size of the bin, along x and along y.
    log_slope : tuple of Tensor
        Gradients of the logarithms of the derivatives at its left and right end.
    more_state, more_masses : Tensor or None
        Gradients of what was found itself.

    Returns
    -------
    Tensor of shape (3 K - 1, ...)
    """
    bins, number, scale = found.masses.shape[1], found.number, found.scale
    steps = torch.arange(bins - 1, dtype=number.dtype, device=number.device)
    passed = (number - steps.view(-1, *(1,) * number.dim())).clamp_(0, 1)

    before, mass = torch.stack(corner).mul_(scale), torch.stack(size).mul_(scale)
    constant = (before * found.before).addcmul_(mass, found.mass).mul_(scale)
    constant = constant.mul_(-1 / (1 - FLOOR))
    slopes = torch.stack(log_slope)
    slopes = torch.addcmul(slopes, slopes * found.bend, found.bend, value=-1)
    if more_state is not None:
        more = Bin(more_state, found.masses)
        constant = constant - more.scale * scale.square() / (1 - FLOOR)
        before, mass = before + more.before, mass + more.mass
        slopes = slopes + more.bend * (1 - found.bend.square()) / MAX_LOG_SLOPE

    grad = size[0].new_empty((3 * bins - 1, *number.shape))
    logits = grad[: 2 * bins].view(2, bins, *number.shape)
    logits.copy_(constant.unsqueeze(1))
    if more_masses is not None:
        logits.add_(more_masses)
    logits[:, 0].add_(mass)
    logits[:, 1:].addcmul_(passed, mass.unsqueeze(1))
    logits[:, :-1].addcmul_(passed, (before - mass).unsqueeze(1))
    logits.mul_(found.masses)

    left, right = slopes.unbind(0)
    raw = grad[2 * bins :]
    raw.copy_(passed).mul_(left - right)
    raw[1:].addcmul_(passed[:-1], right)
    raw[0].add_(right)
    raw[:-1].addcmul_(passed[1:], left, value=-1)
    return grad
