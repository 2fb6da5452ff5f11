"""Logarithms of normal densities, and of the probabilities of intervals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.likelihoods.links import log_ndtr

_THIN = 0.05
"""Width times distance from 0, below which an interval is integrated by a series."""


def log_normal_density(t: Tensor) -> Tensor:
    r"""Return :math:`\log\varphi(t)`."""
    return -0.5 * t**2 - 0.5 * math.log(2 * math.pi)


def log_normal_between(low: Tensor, gap: Tensor) -> Tensor:
    r"""Return :math:`\log(\Phi(a + \delta) - \Phi(a))`, also of thin slices of far tails.

    Parameters
    ----------
    low, gap : Tensor of one shape
        Float64: a, and the width, which is positive.

    Notes
    -----
    With m the middle, a slice that is thin for where it lies is

    .. math:: \varphi(m)\,\delta\,\Bigl(1 + \frac{\delta^2 (m^2 - 1)}{24}
        + \frac{\delta^4 (m^4 - 6 m^2 + 3)}{1920}\Bigr);

    others are differences in the tail that keeps its digits.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.tails import log_normal_between
    >>> low = torch.tensor([-1.0, 30.0], dtype=torch.float64)
    >>> log_normal_between(low, torch.full_like(low, 2.0))
    tensor([-3.8172e-01, -4.5432e+02], dtype=torch.float64)
    """
    middle = low + gap / 2
    thin = gap * (1 + middle.abs()) < _THIN
    m, delta = torch.where(thin, middle, 0.0), torch.where(thin, gap, _THIN)
    squares = (delta**2 * (m**2 - 1) / 24, delta**4 * (m**4 - 6 * m**2 + 3) / 1920)
    series = log_normal_density(m) + torch.log(delta) + torch.log1p(sum(squares, 0 * m))
    # By symmetry, the half of the line where both ends are below 0, or around it.
    start, width = torch.where(thin, -1.0, low), torch.where(thin, 2.0, gap)
    mirror = start + width / 2 > 0
    top = log_ndtr(torch.where(mirror, -start, start + width))
    bottom = log_ndtr(torch.where(mirror, -start - width, start))
    return torch.where(thin, series, top + torch.log(-torch.expm1(bottom - top)))
