"""Normalising each feature over the batch, as an invertible layer."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hybridflow.transforms.base import Transform
from hybridflow.transforms.statistics import (
    MidDistribution,
    drop_unweighted,
    moments,
    winsorize,
)

_OWN_ROWS = 8.0  # rows that the fixed statistics count for in a batch
_SMALLEST = 1e-6  # variance that a column which is constant in every batch sinks to
_FAR = 10.0  # deviations beyond which a row is pulled back before it is counted


class BatchNorm(Transform):
    r"""Shift and scale each feature by the statistics of the batch.

    .. math:: z = \beta + e^{\gamma} \frac{x - m}{\sqrt{v}}, \qquad
        \mathrm{ladj} = \sum_i \gamma_i - \tfrac12 \log v_i

    with learned :math:`\beta` and :math:`\gamma`, zero at the start. While
    training (in training mode, with gradients recorded) m and v are those of
    the batch, in which the fixed statistics count as eight further rows, so
    that a batch of one row or with a constant column is harmless; each
    such pass moves the fixed statistics a little towards the batch. Any
    other pass, and the inverse always, uses the fixed ones: rows do not then
    influence each other, and z has a density. `initialize` sets them from the
    rows by the robust moments of `ActNorm`, and `finish` exactly to the
    weighted mean and variance of the training rows, where a value ten
    deviations out or more counts as ten.

    The rows of a batch count equally, whatever their weights.

    Parameters
    ----------
    features : int
    momentum : float, default=0.1
        Share by which a batch moves the fixed statistics.

    References
    ----------
    Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using
    Real NVP. 2017.

    George Papamakarios, Theo Pavlakou, Iain Murray. Masked Autoregressive Flow
    for Density Estimation. 2017.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import BatchNorm
    >>> norm = BatchNorm(1).eval()
    >>> norm.finish([(torch.tensor([[1.0], [3.0]]), None)])
    >>> norm(torch.tensor([[5.0]]))[0].item()
    3.0
    """

    location: Tensor
    variance: Tensor

    def __init__(self, features: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.momentum = momentum
        self.shift = nn.Parameter(torch.zeros(features))
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.register_buffer("location", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))

    @property
    def repeatable(self) -> bool:
        """Whether a pass learns nothing from its batch: only outside training."""
        return not self.training

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Set the fixed statistics to the robust moments of the rows."""
        x, weight = drop_unweighted(x, weight)
        if x.numel() == 0:
            return
        self._fix(*moments(winsorize(x, MidDistribution(x, weight)), weight))

    def finish(
        self,
        batches: Iterable[tuple[Tensor, Tensor | None]],
        weight: Tensor | None = None,
    ) -> None:
        """Set the fixed statistics to the moments of all training rows."""
        rows = [x for x, _ in batches]
        if not rows:
            return
        x, weight = drop_unweighted(torch.cat(rows), weight)
        if x.numel() == 0:
            return
        reach = _FAR * self.variance.sqrt()
        low, high = self.location - reach, self.location + reach
        self._fix(*moments(x.clamp(low.to(x), high.to(x)), weight))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normalise."""
        location, variance = self.location, self.variance
        if self.training and torch.is_grad_enabled():
            location, variance = self._pooled(x)
            with torch.no_grad():
                self.location.lerp_(location, self.momentum)
                self.variance.lerp_(variance, self.momentum)
        z = (x - location) * (torch.exp(self.log_scale) * variance.rsqrt()) + self.shift
        ladj = (self.log_scale - torch.log(variance) / 2).sum()
        return z, ladj.expand(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo the fixed statistics."""
        scale = torch.exp(-self.log_scale) * self.variance.sqrt()
        ladj = (torch.log(self.variance) / 2 - self.log_scale).sum()
        return (z - self.shift) * scale + self.location, ladj.expand(z.shape[0])

    def _pooled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the batch together with the fixed statistics' rows."""
        # Copies: autograd keeps what it read, and the buffers change after this.
        own_location, own_variance = self.location.clone(), self.variance.clone()
        rows = x.shape[0] + _OWN_ROWS
        location = (x.sum(0) + _OWN_ROWS * own_location) / rows
        own = own_variance + (own_location - location).square()
        variance = ((x - location).square().sum(0) + _OWN_ROWS * own) / rows
        return location, variance.clamp(min=_SMALLEST)

    def _fix(self, location: Tensor, scale: Tensor) -> None:
        with torch.no_grad():
            self.location.copy_(location)
            self.variance.copy_(scale.square())
