"""A flow of zuko as a transform of hybridflow."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from zuko.flows.gaussianization import ElementWiseTransform
from zuko.lazy import Flow
from zuko.transforms import (
    AutoregressiveTransform,
    ComposedTransform,
    DependentTransform,
    SoftclipTransform,
)

from hybridflow.nets import checked_context
from hybridflow.transforms import Transform
from hybridflow.transforms.implicit import attach_gradient, monotone_inverse

_REACH = 1e6
"""Beyond this no input of the first layer is looked for."""

_CALM = 0.1
"""What maps without a conditioner start at, against zuko's standard normal draws."""


class ZukoTransform(Transform):
    """The map of a zuko flow, from data to latent; its base is left out.

    Where zuko bisects, between -10 and 10 to 1e-6, roots are found here to the
    precision of the dtype and farther out, feature after feature, and gradients
    are those of the implicit function theorem.

    Parameters
    ----------
    flow : zuko.lazy.Flow
    context_features : int
    bisects : bool
        Whether zuko inverts it by bisection.
    """

    def __init__(self, flow: Flow, context_features: int, bisects: bool) -> None:
        super().__init__()
        self.map = flow.transform
        self.context_features = context_features
        self.bisects = bisects
        for module in self.map.modules():
            if isinstance(module, ElementWiseTransform) and context_features == 0:
                for parameter in module.phi:
                    parameter.data.mul_(_CALM)

    def train(self, mode: bool = True) -> ZukoTransform:
        """Choose the mode, but not of zuko's modules: in evaluation they drop gradients."""
        super().train(mode)
        self.map.train()
        return self

    @property
    def exact_inverse(self) -> bool:
        """Whether the inverse is a formula."""
        return not self.bisects

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to latent."""
        bound = self._bound(context)
        if _is_empty(x):
            return x, x.new_zeros(0)
        z, ladj = bound.call_and_ladj(x)
        if not torch.is_grad_enabled():  # slopes by differentiation are recorded all the same
            z, ladj = z.detach(), ladj.detach()
        return z, ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map latent to data."""
        bound = self._bound(context)
        if _is_empty(z):
            return z, z.new_zeros(0)
        if not self.bisects:
            x, ladj = bound.inv.call_and_ladj(z)
            return x, ladj
        with torch.no_grad():
            x = z
            layers = bound.transforms
            for position in reversed(range(len(layers))):
                before = layers[position - 1] if position else None
                reach = before.bound if isinstance(before, SoftclipTransform) else _REACH
                x = _inverted(layers[position], x, reach)
        return attach_gradient(partial(self.forward, context=context), x, z)

    def _bound(self, context: Tensor | None) -> ComposedTransform:
        return self.map(checked_context(context, self.context_features))


def _is_empty(x: Tensor) -> bool:
    """Say whether there are no rows, which zuko cannot reshape; an export asks nothing."""
    return not torch.compiler.is_exporting() and len(x) == 0


def _inverted(layer: torch.distributions.Transform, z: Tensor, reach: float) -> Tensor:
    """Invert one layer, whose inputs lie within a reach."""
    if isinstance(layer, DependentTransform):  # one feature, or none that depends on another
        return monotone_inverse(layer.base.call_and_ladj, z, -reach, reach)
    if isinstance(layer, AutoregressiveTransform):
        x = torch.zeros_like(z)
        for _ in range(layer.passes):
            x = monotone_inverse(layer.meta(x).base.call_and_ladj, z, -reach, reach)
        return x
    x: Tensor = layer.inv(z)
    return x
