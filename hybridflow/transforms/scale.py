"""Maps that shift and scale each feature: fitted, data-dependent or learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hybridflow.nets import MLP
from hybridflow.transforms.base import Transform
from hybridflow.transforms.elementwise import AffineMap
from hybridflow.transforms.statistics import (
    MidDistribution,
    drop_unweighted,
    moments,
    robust_unit,
    winsorize,
)


class Standardize(Transform):
    r"""Shift and scale each feature to mean 0 and deviation 1, as fitted.

    .. math:: z = (u x - m) / s

    with a power of two u that keeps huge and tiny numbers within range. Mean
    and deviation are taken after values beyond six robust standard deviations
    (from the median, by the quartiles) have been pulled back to there: for
    well-behaved data they are the usual ones, and one absurd value does not
    move the others. A constant feature is only shifted. Computes in float64,
    whatever the dtype of x.

    Parameters
    ----------
    features : int
    least : sequence of float, optional
        Smallest deviation of each feature, in its own units: features that vary
        less are not stretched to deviation 1.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Standardize
    >>> scale = Standardize(1)
    >>> scale.initialize(torch.tensor([[1.0], [3.0]]))
    >>> scale(torch.tensor([[5.0]]))[0]
    tensor([[3.]])
    """

    unit: Tensor
    location: Tensor
    scale: Tensor

    def __init__(self, features: int, least: Sequence[float] | None = None) -> None:
        super().__init__()
        self.least = tuple(least or ())
        self.register_buffer("unit", torch.ones(features, dtype=torch.float64))
        self.register_buffer("location", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(features, dtype=torch.float64))

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Fit the location and the scale to the rows."""
        x, weight = drop_unweighted(x, weight)
        if x.numel() == 0:
            return
        unit = robust_unit(MidDistribution(x, weight))
        x = x * unit
        location, scale = moments(winsorize(x, MidDistribution(x, weight)), weight)
        if self.least:
            scale = torch.maximum(scale, scale.new_tensor(self.least) * unit)
        self.unit.copy_(unit)
        self.location.copy_(location)
        self.scale.copy_(scale)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shift and scale."""
        z = (x.to(self.unit) * self.unit - self.location) / self.scale
        return z.to(x.dtype), self._ladj().to(x.dtype).expand(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift back."""
        x = (z.to(self.unit) * self.scale + self.location) / self.unit
        return x.to(z.dtype), -self._ladj().to(z.dtype).expand(z.shape[0])

    def _ladj(self) -> Tensor:
        return (torch.log(self.unit) - torch.log(self.scale)).sum()


class ActNorm(Transform):
    r"""A learned shift and scale that starts by normalising its input.

    .. math:: z = e^{s} (x - b), \qquad \mathrm{ladj} = \sum_i s_i.

    `initialize` sets b and s so that the training rows come out with mean 0
    and deviation 1, by the robust moments of `Standardize`.

    Parameters
    ----------
    features : int

    References
    ----------
    Diederik Kingma, Prafulla Dhariwal. Glow: Generative Flow with Invertible
    1x1 Convolutions. 2018.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import ActNorm
    >>> norm = ActNorm(1)
    >>> norm.initialize(torch.tensor([[1.0], [3.0]]))
    >>> norm(torch.tensor([[5.0]]))[0].item()
    3.0
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(features))
        self.log_scale = nn.Parameter(torch.zeros(features))

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Normalise the rows."""
        x, weight = drop_unweighted(x, weight)
        if x.numel() == 0:
            return
        location, scale = moments(winsorize(x, MidDistribution(x, weight)), weight)
        with torch.no_grad():
            self.shift.copy_(location)
            self.log_scale.copy_(-torch.log(scale))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shift and scale."""
        z = (x - self.shift) * torch.exp(self.log_scale)
        return z, self.log_scale.sum().expand(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift back."""
        x = z * torch.exp(-self.log_scale) + self.shift
        return x, -self.log_scale.sum().expand(z.shape[0])


class Affine(Transform):
    r"""A learned shift and scale of each feature, constant or set by the context.

    .. math:: z_i = m(x_i;\, \theta_i), \qquad \theta = W c + b

    with m an `AffineMap`. Starts as the identity.

    Parameters
    ----------
    features : int
    context_features : int, default=0
        Width of the context.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Affine
    >>> Affine(2)(torch.ones(1, 2))[0].detach()
    tensor([[1., 1.]])
    """

    def __init__(self, features: int, context_features: int = 0) -> None:
        super().__init__()
        self.elementwise = AffineMap()
        self.net = MLP(0, (), self.elementwise.n_parameters * features, context_features)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift."""
        z, ladj = self.elementwise.forward(x.t(), self._params(x, context))
        return z.t(), ladj.sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shift and scale back."""
        x, ladj = self.elementwise.inverse(z.t(), self._params(z, context))
        return x.t(), ladj.sum(0)

    def _params(self, x: Tensor, context: Tensor | None) -> Tensor:
        params = self.net.feature_major(x[:, :0], context)
        return params.reshape(self.elementwise.n_parameters, x.shape[1], x.shape[0])
