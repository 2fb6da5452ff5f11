"""Likelihoods that a monotone spline turns into logistic ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from hybridflow.densities.positive import softplus
from hybridflow.errors import ConfigError
from hybridflow.laws import SplineLaw
from hybridflow.laws.monotone_spline import MonotoneSpline
from hybridflow.likelihoods.real_valued import RealValued
from hybridflow.specs import Target
from hybridflow.transforms.elementwise import softly_bounded
from hybridflow.transforms.rational_quadratic import RationalQuadraticMap
from hybridflow.transforms.spline_bins import FLOOR, MAX_LOG_SLOPE

_BOUND = 6.0
"""Half-width of the box of the spline: 99.5 % of a logistic variable are inside."""

_LOGISTIC = math.pi / math.sqrt(3)
"""Standard deviation of a logistic variable."""

_FEW = 1e-5
"""Rise of the spline over a cell, relative to its place, below which its slope gives it."""


class ConditionalSpline(RealValued):
    r"""A density of any shape: a one-dimensional flow from y to a logistic variable.

    .. math:: g\Bigl(\frac{v - \mu}{\sigma}\Bigr) \sim \mathrm{logistic}, \qquad
        \mu = \eta_1, \quad \sigma = \mathrm{floor} + \log(1 + e^{\eta_2})

    in standard deviations v of y around its mean. g is the monotone
    rational-quadratic spline of the flows, with its K widths, K heights and
    K - 1 derivatives in eta, and the identity beyond a box: tails fall
    exponentially.

    Parameters
    ----------
    target : Target
        A regression of one output.
    bins : int, default=8
        The number K.

    References
    ----------
    .. [1] Neural Spline Flows, C. Durkan, A. Bekasov, I. Murray and G. Papamakarios, 2019

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import ConditionalSpline
    >>> from hybridflow.specs import Target
    >>> likelihood = ConditionalSpline(Target(kind="regression"), bins=4)
    >>> likelihood.law(torch.zeros(1, likelihood.outputs)).mean().round(6)
    array([0.])
    """

    def __init__(self, target: Target, bins: int = 8) -> None:
        super().__init__(target)
        if bins < 2:
            raise ConfigError(f"bins must be at least 2, got {bins}")
        self.spline = RationalQuadraticMap(bins, _BOUND)
        self.outputs = 2 + self.spline.n_parameters

    def _mapped(self, v: Tensor, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Return g and the logarithm of its derivative in v, each of shape (n, m)."""
        scale = self.spread(eta[:, 1:2])
        parameters = eta[:, 2:].T[:, :, None].expand(-1, *v.shape).contiguous()
        image, log_slope = self.spline.forward((v - eta[:, :1]) / scale, parameters)
        return image, log_slope - torch.log(scale)

    def log_density(self, v: Tensor, eta: Tensor) -> Tensor:
        """Return the log-density of standardised targets, shape (n, m)."""
        image, log_slope = self._mapped(v, eta)
        return log_slope - softplus(image) - softplus(-image)

    def log_mass(self, v: Tensor, half: float, eta: Tensor) -> Tensor:
        """Return the log-probability of the cells around v, shape (n,)."""
        images, log_slopes = self._mapped(torch.cat([v - half, v, v + half], 1), eta)
        low, middle, high = images.unbind(1)
        # The difference of the images of the ends of a cell much thinner than their distance
        # from 0 has no digits; its slope has, and is constant over it.
        enough = high - low > _FEW * (1 + middle.abs())
        thin = 2 * half * torch.exp(log_slopes[:, 1])
        gap = torch.where(enough, high - low, thin)
        return torch.log(-torch.expm1(-gap)) - softplus(-high) - softplus(low)

    def continuous_law(self, eta: Tensor) -> SplineLaw:
        """Return the laws, in the units of y."""
        bins, n = self.spline.bins, len(eta)
        logits = eta[:, 2 : 2 + 2 * bins].reshape(n, 2, bins)
        sizes = torch.softmax(logits, 2) * (1 - FLOOR) + FLOOR / bins
        knots = functional.pad(sizes[..., :-1].cumsum(2), (1, 0)) - 0.5
        knots = 2 * _BOUND * functional.pad(knots, (0, 1), value=0.5)
        slopes = torch.exp(softly_bounded(eta[:, 2 + 2 * bins :], MAX_LOG_SLOPE))
        slopes = functional.pad(slopes, (1, 1), value=1.0)
        x, y = knots.cpu().numpy().transpose(1, 0, 2)
        location, scale = eta[:, 0].cpu().numpy(), self.spread(eta[:, 1]).cpu().numpy()
        return SplineLaw(
            self.location + self.scale * location,
            self.scale * scale,
            MonotoneSpline(x, y, slopes.cpu().numpy()),
        )

    def standard_start(self, mean: float, std: float) -> Tensor:
        """Return the location and scale of a logistic variable, bent by nothing."""
        start = torch.zeros(self.outputs, dtype=torch.float64)
        start[0], start[1] = mean, self.raw_spread(std / _LOGISTIC)
        return start
