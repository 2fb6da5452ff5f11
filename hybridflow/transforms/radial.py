"""The radial map: contract or expand around a centre."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.nets import MLP
from hybridflow.transforms.base import Transform
from hybridflow.transforms.planar import bound_log


class Radial(Transform):
    r"""Pull rows towards a centre, or push them away from it.

    .. math:: z = x + \gamma q\,(x - m), \qquad q = \frac{\alpha}{\alpha + r},
        \qquad r = |x - m|, \qquad
        \mathrm{ladj} = (d - 1) \log(1 + \gamma q) + \log(1 + \gamma q^2)

    with :math:`\gamma = e^s - 1`; the paper's :math:`\beta` is
    :math:`\alpha\gamma > -\alpha`. The centre m and the raw values of
    :math:`s = 2\tanh(\cdot/2)` and
    :math:`\alpha = \sqrt d\, e^{2\tanh(\cdot/2)}` are affine in the context.

    The inverse is closed: with :math:`\rho = |z - m|`, the radius r is the
    positive root of :math:`r^2 + (\alpha e^s - \rho)\,r = \alpha\rho`. Rows move by
    less than :math:`\alpha|\gamma|`, and the map starts as the identity. The
    paper maps latent to data; here, as everywhere, `forward` is data to latent.

    Parameters
    ----------
    features : int
        Number d of features.
    context_features : int, default=0
        Width of the context.

    References
    ----------
    Danilo Rezende, Shakir Mohamed. Variational Inference with Normalizing
    Flows. 2015.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Radial
    >>> x = torch.randn(5, 2)
    >>> torch.equal(Radial(2)(x)[0], x)  # the identity until trained
    True
    """

    def __init__(self, features: int, context_features: int = 0) -> None:
        super().__init__()
        self.features = features
        self.net = MLP(0, (), features + 2, context_features)
        with torch.no_grad():
            self.net.bias[:features].normal_()  # layers with different centres

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Move along the ray from the centre."""
        centre, log_slope, size = self._params(x, context)
        offset = x - centre
        stretch = torch.expm1(log_slope)
        near = size / (size + torch.linalg.vector_norm(offset, dim=1))
        return x + (stretch * near)[:, None] * offset, self._ladj(stretch, near)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Move back along the ray."""
        centre, log_slope, size = self._params(z, context)
        offset = z - centre
        stretch = torch.expm1(log_slope)
        image = torch.linalg.vector_norm(offset, dim=1)
        # The roots have the product -size * image: the one that does not cancel gives the other.
        half = (image - size * torch.exp(log_slope)) / 2
        root = half.abs() + torch.sqrt(half.square() + size * image)
        radius = torch.where(half >= 0, root, size * image / root)
        near = size / (size + radius)
        share = stretch * near
        return z - (share / (1 + share))[:, None] * offset, -self._ladj(stretch, near)

    def _params(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        params = self.net(x[:, :0], context)
        centre, slope, size = params.split([self.features, 1, 1], dim=1)
        size = math.sqrt(self.features) * torch.exp(bound_log(size[:, 0]))
        return centre, bound_log(slope[:, 0]), size

    def _ladj(self, stretch: Tensor, near: Tensor) -> Tensor:
        across = torch.log1p(stretch * near)
        return (self.features - 1) * across + torch.log1p(stretch * near.square())
