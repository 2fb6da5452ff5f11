"""A fitted map of the circle onto itself that spreads angles evenly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.transforms.base import Transform
from hybridflow.transforms.circular import wrap
from hybridflow.transforms.segment import rational_quadratic, rational_quadratic_inverse
from hybridflow.transforms.statistics import drop_unweighted

_KNOTS = 64
_GRID = 4096  # points on which densities are computed; a multiple of the knots
_WAVES = 256  # frequencies that are kept of a density
_NARROWEST, _WIDEST = 0.05, 1.5  # bandwidths, in radians
_EVEN_ROWS = 10.0  # rows' worth of the uniform distribution that every angle starts from


class EqualizeAngles(Transform):
    r"""Bend each circle so that the angles lie evenly on it.

    .. math:: z = 2\pi \hat F(\theta) - \pi

    with :math:`\hat F` the distribution function from :math:`-\pi` on of a kernel
    estimate of the density, as a rational-quadratic spline through 64 even
    knots whose slopes are that density: smooth, also across the cut, with an
    exact log-determinant and a closed-form inverse.

    The kernel is a wrapped normal. Its width minimises the cross-validated
    squared error, which is a closed form in the trigonometric moments, and is
    at least 0.05 and :math:`n^{-1/2}`. To the n rows come 10 rows' worth of the uniform
    distribution, so that no angle is impossible. Computes in float64, whatever
    the dtype of x.

    Parameters
    ----------
    features : int

    References
    ----------
    Peter Hall, G. S. Watson, Javier Cabrera. Kernel density estimation with
    spherical data. 1987.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import EqualizeAngles
    >>> angles = 0.5 * torch.linspace(-2, 2, 999)[:, None]
    >>> spread = EqualizeAngles(1)
    >>> spread.initialize(angles)
    >>> (angles.std() < 0.6).item(), (spread(angles)[0].std() > 1.7).item()
    (True, True)
    """

    image: Tensor
    slope: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        even = torch.linspace(-math.pi, math.pi, _KNOTS + 1, dtype=torch.float64)
        self.register_buffer("image", even[:, None].repeat(1, features))
        self.register_buffer("slope", torch.ones_like(self.image))

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Fit the densities of the angles."""
        x, weight = drop_unweighted(x, weight)
        if x.numel() == 0:
            return
        for j, angles in enumerate(x.unbind(1)):
            density = _density(angles, weight)
            steps = (density + density.roll(-1)) / 2
            rise = steps.view(_KNOTS, -1).sum(1)
            self.image[1:, j] = 2 * math.pi * rise.cumsum(0) / rise.sum() - math.pi
            self.slope[:-1, j] = density[:: _GRID // _KNOTS]
        self.slope[-1] = self.slope[0]
        self.image[-1] = math.pi

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spread the angles."""
        width = 2 * math.pi / _KNOTS
        place = (wrap(x.to(self.image)) + math.pi) / width
        index = place.floor().clamp(0, _KNOTS - 1).to(torch.int64)
        base, height, left, right = self._segment(index)
        share, log_slope = rational_quadratic(
            (place - index).clamp(0, 1), height / width, left, right
        )
        z = base + height * share
        return z.to(x.dtype), log_slope.sum(1).to(x.dtype)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Gather the angles."""
        width = 2 * math.pi / _KNOTS
        latent = wrap(z.to(self.image))
        # One knot at a time: comparing all at once would hold n * d * knots bytes.
        index = torch.zeros_like(latent, dtype=torch.int64)
        for knot in self.image[1:-1].unbind(0):
            index = index + (latent >= knot)
        base, height, left, right = self._segment(index)
        slope = height / width
        share = ((latent - base) / height).clamp(0, 1)
        part = rational_quadratic_inverse(share, slope, left, right)
        _, log_slope = rational_quadratic(part, slope, left, right)
        x = width * (index + part) - math.pi
        return x.to(z.dtype), -log_slope.sum(1).to(z.dtype)

    def _segment(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        base, left = self.image.gather(0, index), self.slope.gather(0, index)
        top, right = self.image.gather(0, index + 1), self.slope.gather(0, index + 1)
        return base, top - base, left, right


def _density(angles: Tensor, weight: Tensor) -> Tensor:
    r"""Return the density from :math:`-\pi` on, times :math:`2\pi`, on an even grid."""
    rows = weight.sum()
    place = (wrap(angles) + math.pi) * (_GRID / (2 * math.pi))
    index = place.floor()
    share = place - index
    mass = weight.new_zeros(_GRID)
    for offset, part in ((0, 1 - share), (1, share)):
        mass.index_add_(0, (index.to(torch.int64) + offset) % _GRID, weight * part)
    waves = torch.fft.rfft(mass / rows)[: _WAVES + 1]
    damping = _damping(waves[1:].abs().square(), rows)
    spectrum = torch.zeros(_GRID // 2 + 1, dtype=waves.dtype, device=waves.device)
    spectrum[0] = 1.0
    spectrum[1 : _WAVES + 1] = waves[1:] * damping * rows / (rows + _EVEN_ROWS)
    density: Tensor = torch.fft.irfft(spectrum, n=_GRID) * _GRID
    # The kernel is positive; what is cut off of its spectrum is not.
    return density.clamp(min=0.5 * _EVEN_ROWS / float(rows + _EVEN_ROWS))


def _damping(power: Tensor, rows: Tensor) -> Tensor:
    """Return the spectrum of the kernel that fits best, from the squares of the moments."""
    frequency = torch.arange(1, len(power) + 1, dtype=power.dtype, device=power.device)
    # Few rows, which may happen to lie close together, make no narrow peak.
    narrowest = min(max(_NARROWEST, float(rows) ** -0.5), _WIDEST)
    widths = torch.logspace(
        math.log10(narrowest), math.log10(_WIDEST), 48, dtype=power.dtype, device=power.device
    )
    kernels = torch.exp(-0.5 * (frequency * widths[:, None]) ** 2)
    # Squares of moments less what chance alone adds to them.
    unbiased = (rows * power - 1) / (rows - 1).clamp(min=1e-9) if rows > 1 else 0 * power
    error = (kernels.square() * power - 2 * kernels * unbiased).sum(1)
    return kernels[error.argmin()]
