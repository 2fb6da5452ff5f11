"""Parts of a model in the form that a graph runs fastest, or at all."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from hybridflow.export.splines import GatheredSplineCoupling
from hybridflow.model import HybridModel
from hybridflow.transforms import (
    LU,
    Coupling,
    Gaussianize,
    Householder,
    Orthogonal,
    RationalQuadraticMap,
    Transform,
    Whiten,
)
from hybridflow.transforms.segment import rational_quadratic, rational_quadratic_inverse


class Baked(Transform):
    r"""A fitted affine map whose matrix, and the inverse of it, are constants.

    .. math:: z = x A + b

    Parameters
    ----------
    transform : Transform
        Any affine map.
    features : int

    Examples
    --------
    >>> import torch
    >>> from hybridflow.export.rewriting import Baked
    >>> from hybridflow.transforms import LU
    >>> baked = Baked(LU(2, order=[1, 0]).double(), features=2)
    >>> baked(torch.tensor([[1.0, 2.0]]).double())[0]
    tensor([[2., 1.]], dtype=torch.float64)
    """

    there: Tensor
    shift: Tensor
    back: Tensor
    origin: Tensor
    ladj: Tensor

    def __init__(self, transform: Transform, features: int) -> None:
        super().__init__()
        points = torch.cat([torch.zeros(1, features), torch.eye(features)]).double()
        transform = transform.double()
        with torch.no_grad():
            image, ladj = transform(points)
            preimage, _ = transform.inverse(points)
        self.register_buffer("there", image[1:] - image[:1])
        self.register_buffer("shift", image[0])
        self.register_buffer("back", preimage[1:] - preimage[:1])
        self.register_buffer("origin", preimage[0])
        self.register_buffer("ladj", ladj[0].clone())

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply and shift."""
        return torch.addmm(self.shift, x, self.there), self.ladj.expand(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply by the inverse and shift."""
        return torch.addmm(self.origin, z, self.back), -self.ladj.expand(z.shape[0])


class GatheredGaussianize(Transform):
    """A fitted `Gaussianize` that finds all segments at once.

    Parameters
    ----------
    fitted : Gaussianize
    """

    knots: Tensor
    table: Tensor
    first: Tensor

    def __init__(self, fitted: Gaussianize) -> None:
        super().__init__()
        self.standardize = fitted.standardize
        knots = torch.stack([fitted.position, fitted.normal, fitted.slope]).transpose(1, 2)
        features, count = knots.shape[1:]
        self.register_buffer("knots", knots.contiguous())  # (3, d, knots)
        self.register_buffer("table", knots.flatten(1).t().contiguous())
        rows = count * torch.arange(features)[:, None] + torch.arange(2)
        self.register_buffer("first", rows)  # of the two ends of the first segment

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map quantiles to normal quantiles."""
        scaled, ladj = self.standardize(x)
        inside, beyond, (start, base, left), (end, top, right) = self._segment(scaled, 0)
        width, height = end - start, top - base
        part = ((inside - start) / width).clamp(0, 1)
        share, log_slope = rational_quadratic(part, height / width, left, right)
        return base + height * share + beyond * self._tail(beyond), ladj + log_slope.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map normal quantiles to quantiles."""
        inside, beyond, (start, base, left), (end, top, right) = self._segment(z, 1)
        width, height = end - start, top - base
        slope = height / width
        part = rational_quadratic_inverse(
            ((inside - base) / height).clamp(0, 1), slope, left, right
        )
        _, log_slope = rational_quadratic(part, slope, left, right)
        x, ladj = self.standardize.inverse(start + width * part + beyond / self._tail(beyond))
        return x, ladj - log_slope.sum(1)

    def _segment(
        self, value: Tensor, along: int
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the value within the knots, what is beyond, and both ends of its segment."""
        knots = self.knots[along]
        inside = torch.minimum(torch.maximum(value, knots[:, 0]), knots[:, -1])
        before = (inside[..., None] >= knots[:, 1:-1]).to(torch.int64).sum(-1, keepdim=True)
        low, high = embedding(before + self.first, self.table).unbind(-2)
        return inside, value - inside, low.unbind(-1), high.unbind(-1)

    def _tail(self, beyond: Tensor) -> Tensor:
        return torch.where(beyond < 0, self.knots[2, :, 0], self.knots[2, :, -1])


def _of_coupling(coupling: Coupling) -> Transform:
    if isinstance(coupling.elementwise, RationalQuadraticMap):
        return GatheredSplineCoupling(coupling)
    return coupling


REWRITES: dict[type[nn.Module], Callable[..., Transform]] = {
    Coupling: _of_coupling,
    Gaussianize: GatheredGaussianize,
    Householder: lambda turn: Baked(turn, turn.normals.shape[1]),
    LU: lambda matrix: Baked(matrix, len(matrix.log_diagonal)),
    Orthogonal: lambda turn: Baked(turn, len(turn.angles)),
    Whiten: lambda whiten: Baked(whiten, len(whiten.location)),
}
"""What stands for a module of exactly this type in a graph."""


def for_export(model: HybridModel) -> HybridModel:
    """Return a copy of a fitted model, on the CPU, made of what a graph can hold.

    Parameters
    ----------
    model : HybridModel
    """
    # A head of Bayes' rule shares the base of its model, which a deep copy keeps shared.
    fresh = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    fresh.network_to(torch.float64)
    _rewrite(fresh)
    return fresh


def _rewrite(module: nn.Module) -> None:
    for name, child in module.named_children():
        made = REWRITES.get(type(child))
        if made is None:
            _rewrite(child)
        else:
            setattr(module, name, made(child).requires_grad_(False))
