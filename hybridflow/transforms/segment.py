"""One segment of a monotone rational-quadratic spline, and its stable inverse."""

from __future__ import annotations

import torch
from torch import Tensor


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
    # Sums of positive terms only: nothing cancels, whatever the slopes.
    rest = 1 - part
    at_left, at_right, middle = left * rest, right * part, slope * part * rest
    numerator = torch.lerp(at_left, at_right, part).add_(middle, alpha=2)
    denominator = torch.lerp(at_right, at_left, part).add_(slope).sub_(middle, alpha=2)
    share = torch.addcmul(at_left, slope, part).mul_(part).div_(denominator)
    ratio = slope / denominator
    return share, numerator.mul_(ratio).mul_(ratio).log_()


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
