"""A fitted linear map that removes correlations."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.transforms.base import Transform
from hybridflow.transforms.statistics import (
    MidDistribution,
    drop_unweighted,
    moments,
    winsorize,
)

_FLOOR = 1e-4  # smallest eigenvalue of the correlations, against their mean


class Whiten(Transform):
    r"""Remove the correlations between features, as fitted.

    .. math:: z = \Sigma^{-1/2} (x - m)

    with the shrunk covariance of Ledoit and Wolf, taken in units of each
    feature's deviation. The symmetric root turns features as little as a
    whitening can, so z stays close to x. Followed by a standard normal base it
    is the Ledoit-Wolf Gaussian, from which a flow starts. The number of rows
    that sets the shrinkage is the sum of the weights.

    Parameters
    ----------
    features : int

    References
    ----------
    Olivier Ledoit, Michael Wolf. A well-conditioned estimator for
    large-dimensional covariance matrices. 2004.

    Agnan Kessy, Alex Lewin, Korbinian Strimmer. Optimal whitening and
    decorrelation. 2018.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Whiten
    >>> x = torch.randn(1000, 2, dtype=torch.float64) @ torch.tensor([[1, 0.9], [0, 1]]).double()
    >>> whiten = Whiten(2)
    >>> whiten.initialize(x)
    >>> abs(torch.corrcoef(whiten(x)[0].t())[0, 1].item()) < 0.05
    True
    """

    location: Tensor
    scale: Tensor
    factor: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("location", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(features, dtype=torch.float64))
        # The root's lower Cholesky factor, whose determinant is its diagonal's in any dtype.
        self.register_buffer("factor", torch.eye(features, dtype=torch.float64))

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Fit the mean and the covariance to the rows."""
        x, weight = drop_unweighted(x, weight)
        if x.numel() == 0:
            return
        x = winsorize(x, MidDistribution(x, weight))
        location, scale = moments(x, weight)
        values, vectors = torch.linalg.eigh(_ledoit_wolf((x - location) / scale, weight))
        floor = _FLOOR * values.mean()
        # A single row has no covariance: it is only shifted.
        values = torch.where(floor > 0, torch.maximum(values, floor), 1.0)
        root = vectors * values.rsqrt() @ vectors.t()
        self.location.copy_(location)
        self.scale.copy_(scale)
        self.factor.copy_(torch.linalg.cholesky(root))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Whiten, in float64: nearly collinear features cancel."""
        location, scale, factor = self._in_float64()
        z = (x.to(torch.float64) - location) / scale @ factor @ factor.t()
        return z.to(x.dtype), _ladj(scale, factor).to(x.dtype).expand(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solve for x, in float64."""
        location, scale, factor = self._in_float64()
        x = torch.cholesky_solve(z.to(torch.float64).t(), factor).t() * scale + location
        return x.to(z.dtype), -_ladj(scale, factor).to(z.dtype).expand(z.shape[0])

    def _in_float64(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.location.double(), self.scale.double(), self.factor.double()


def _ladj(scale: Tensor, factor: Tensor) -> Tensor:
    return 2 * factor.diagonal().log().sum() - scale.log().sum()


def _ledoit_wolf(x: Tensor, weight: Tensor) -> Tensor:
    """Shrink the weighted covariance of centred rows towards a multiple of the identity."""
    rows, features = weight.sum(), x.shape[1]
    share = (weight / rows)[:, None]
    covariance = x.t() @ (share * x)
    target = covariance.diagonal().mean() * torch.eye(features, dtype=x.dtype, device=x.device)
    distance = (covariance - target).square().sum()
    squares = x.square()
    noise = ((squares.t() @ (share * squares)).sum() - covariance.square().sum()) / rows
    shrinkage = torch.where(distance > 0, noise / distance, 1.0).clamp(0, 1)
    return (1 - shrinkage) * covariance + shrinkage * target
