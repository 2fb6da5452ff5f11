"""The planar map: a bend along one direction, anywhere in space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from hybridflow.nets import MLP
from hybridflow.transforms.base import Transform
from hybridflow.transforms.implicit import (
    attach_gradient,
    monotone_inverse,
    solve_elementwise,
)

_MAX_LOG = 2.0


def bound_log(raw: Tensor) -> Tensor:
    r"""Bound the logarithm of a scale smoothly: :math:`2 \tanh(a / 2)`.

    Parameters
    ----------
    raw : Tensor

    Returns
    -------
    Tensor
        Of the same shape, within (-2, 2), with slope one at 0.
    """
    return _MAX_LOG * torch.tanh(raw / _MAX_LOG)


class Planar(Transform):
    r"""Move every row along u by a sigmoid of its place along w.

    .. math:: z = x + u\,h, \qquad h = \tanh(\kappa\, w^\top x + b), \qquad
        \mathrm{ladj} = \log\bigl(1 + (e^s - 1)(1 - h^2)\bigr)

    with a unit vector w, a gain :math:`\kappa = e^{2\tanh(g/2)}` and
    :math:`u = v + ((e^s - 1) / \kappa - w^\top v)\,w`, where
    :math:`s = 2 \tanh(w^\top v / 2)`. This is the paper's correction of a free
    vector v to :math:`\kappa\, w^\top u > -1`, which makes the map invertible, with a
    slope along w between :math:`e^{-2}` and :math:`e^{2}`. The vector v, the
    gain and b are affine in the context; w is shared by all rows.

    The inverse is one increasing scalar equation for :math:`w^\top x`, solved
    within a bracket to the precision of the dtype. Far out the map is a shift.
    Starts as the identity. The paper maps latent to data; here, as everywhere,
    `forward` is data to latent, so a density takes one pass.

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
    >>> from hybridflow.transforms import Planar
    >>> x = torch.randn(5, 2)
    >>> torch.equal(Planar(2)(x)[0], x)  # the identity until trained
    True
    """

    def __init__(self, features: int, context_features: int = 0) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(features))
        self.net = MLP(0, (), features + 2, context_features)
        with torch.no_grad():
            self.net.bias[features].normal_()  # layers that bend at different places

    @property
    def exact_inverse(self) -> bool:
        """Whether the inverse is a formula: it iterates."""
        return False

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Bend along w."""
        bend = _Bend(self.direction, self.net(x[:, :0], context))
        place = x @ bend.direction
        _, ladj = bend.along(place)
        return x + bend.move(place), ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Find the place along w that lands where z is, and move back from there."""
        bend = _Bend(self.direction, self.net(z[:, :0], context))
        image = z @ bend.direction
        reach = bend.rise.abs()
        found = monotone_inverse(bend.along, image, image - reach, image + reach)
        place, ladj = attach_gradient(bend.along, found, image, solve_elementwise)
        return z - bend.move(place), ladj


class _Bend:
    """The map of some rows, with all parameters of each."""

    def __init__(self, direction: Tensor, params: Tensor) -> None:
        features = direction.shape[0]
        free, raw_gain = params[:, :features], params[:, features + 1]
        self.direction = normalize(direction, dim=0)
        self.shift = params[:, features]
        self.gain = torch.exp(bound_log(raw_gain))
        along = free @ self.direction
        self.stretch = torch.expm1(bound_log(along))
        self.rise = self.stretch / self.gain  # the part of u along w
        self.vector = free + (self.rise - along)[:, None] * self.direction

    def _sigmoid(self, place: Tensor) -> Tensor:
        return torch.tanh(self.gain * place + self.shift)

    def along(self, place: Tensor) -> tuple[Tensor, Tensor]:
        """Map the place of each row along w, with the logarithm of the slope."""
        h = self._sigmoid(place)
        return place + self.rise * h, torch.log1p(self.stretch * (1 - h.square()))

    def move(self, place: Tensor) -> Tensor:
        """Return the displacement of each row, shape (n, d)."""
        return self.vector * self._sigmoid(place)[:, None]
