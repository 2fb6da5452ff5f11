"""The Sylvester map: a triangular layer of bends along orthogonal directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridflow.nets import MLP
from hybridflow.transforms.base import Transform
from hybridflow.transforms.implicit import (
    attach_gradient,
    monotone_inverse,
    solve_elementwise,
)
from hybridflow.transforms.mixing import reflect
from hybridflow.transforms.planar import bound_log


class Sylvester(Transform):
    r"""A residual layer of d hidden units with a triangular Jacobian.

    .. math:: z = x + Q R\,h, \qquad h = \tanh(a), \qquad
        a = \tilde R\, Q^\top x + b, \qquad
        \mathrm{ladj} = \sum_i \log\bigl(1 + (e^{s_i} - 1)(1 - h_i^2)\bigr)

    with an orthogonal Q, a product of reflections, and upper triangular R and
    :math:`\tilde R` whose diagonals are :math:`\tilde r_{ii} = e^{g_i}` and
    :math:`r_{ii} = (e^{s_i} - 1) / \tilde r_{ii}`, so that the paper's condition
    :math:`r_{ii} \tilde r_{ii} > -1` holds always. The diagonals and b are affine
    in the context, g and s between -2 and 2; the rest is shared by all rows.

    The inverse is exact back-substitution: :math:`a + \tilde R R \tanh(a)` is known,
    so each :math:`a_i` from the last to the first is the root of one increasing
    scalar equation, solved within a bracket to the precision of the dtype. Far
    out the map is a shift. Starts as the identity. The paper maps latent to
    data; here, as everywhere, `forward` is data to latent.

    Parameters
    ----------
    features : int
        Number d of features.
    reflections : int
        Number of reflections that make up Q.
    context_features : int, default=0
        Width of the context.

    References
    ----------
    Rianne van den Berg, Leonard Hasenclever, Jakub Tomczak, Max Welling.
    Sylvester Normalizing Flows for Variational Inference. 2018.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Sylvester
    >>> x = torch.randn(5, 3)
    >>> torch.equal(Sylvester(3, reflections=2)(x)[0], x)  # the identity until trained
    True
    """

    def __init__(self, features: int, reflections: int, context_features: int = 0) -> None:
        super().__init__()
        self.normals = nn.Parameter(torch.randn(reflections, features))
        self.outer = nn.Parameter(torch.zeros(features, features))
        self.inner = nn.Parameter(torch.zeros(features, features))
        self.net = MLP(0, (), 3 * features, context_features)
        with torch.no_grad():
            self.net.bias[:features].normal_()  # units that bend at different places

    @property
    def exact_inverse(self) -> bool:
        """Whether the inverse is a formula: it iterates."""
        return False

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Add the layer."""
        shift, gain, stretch = self._params(x, context)
        rotation, outer, inner = self._matrices()
        turned = x @ rotation.t()
        h = torch.tanh(gain * turned + turned @ inner.t() + shift)
        added = stretch / gain * h + h @ outer.t()
        return x + added @ rotation, torch.log1p(stretch * (1 - h.square())).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solve for the hidden units, last to first, and take the layer off."""
        shift, gain, stretch = self._params(z, context)
        rotation, outer, inner = self._matrices()
        turned = z @ rotation.t()
        image = gain * turned + turned @ inner.t() + shift
        # Units and what they add, each known from its place on.
        h, added = z[:, :0], z[:, :0]
        total = z.new_zeros(z.shape[0])
        for i in reversed(range(z.shape[1])):
            later = h @ outer[i, i + 1 :]
            rest = image[:, i] - gain[:, i] * later - added @ inner[i, i + 1 :]
            unit, ladj = _solve(rest, stretch[:, i])
            total = total + ladj
            h = torch.cat([torch.tanh(unit)[:, None], h], dim=1)
            mine = stretch[:, i] / gain[:, i] * h[:, 0] + later
            added = torch.cat([mine[:, None], added], dim=1)
        return z - added @ rotation, total

    def _params(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        shift, gain, slope = self.net(x[:, :0], context).chunk(3, dim=1)
        return shift, torch.exp(bound_log(gain)), torch.expm1(bound_log(slope))

    def _matrices(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the transpose of Q, and what R and R-tilde have above their diagonals."""
        identity = torch.eye(self.outer.shape[0], dtype=self.outer.dtype, device=self.outer.device)
        rotation = reflect(identity, self.normals)
        return rotation, torch.triu(self.outer, 1), torch.triu(self.inner, 1)


def _solve(image: Tensor, stretch: Tensor) -> tuple[Tensor, Tensor]:
    """Solve a + stretch * tanh(a) = image; return a and minus the logarithm of the slope."""

    def bend(a: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(a)
        return a + stretch * h, torch.log1p(stretch * (1 - h.square()))

    reach = stretch.abs()
    found = monotone_inverse(bend, image, image - reach, image + reach)
    return attach_gradient(bend, found, image, solve_elementwise)
