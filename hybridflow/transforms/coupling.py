"""Coupling: one half of the features decides how the other half is mapped."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.nets import MLP
from hybridflow.transforms.base import Transform
from hybridflow.transforms.elementwise import ElementwiseMap


def alternating_mask(features: int, layer: int) -> tuple[bool, ...]:
    """Return which features the coupling layer with this number keeps.

    Layers come in complementary pairs; pair p splits the features by bit p of
    their index, so that after ``log2(features)`` pairs any two features have
    conditioned each other. A single feature is never kept.

    Parameters
    ----------
    features : int
        Number of features, at least 1.
    layer : int
        Number of the layer, from 0.

    Returns
    -------
    tuple of bool
        True for the features that stay as they are.

    Examples
    --------
    >>> from hybridflow.transforms import alternating_mask
    >>> alternating_mask(4, 0)
    (True, False, True, False)
    >>> alternating_mask(4, 3)
    (False, False, True, True)
    """
    if features == 1:
        return (False,)
    pair, second = divmod(layer, 2)
    bit = pair % (features - 1).bit_length()
    return tuple((index >> bit) % 2 == second for index in range(features))


class Coupling(Transform):
    r"""Map some features by parameters computed from the others.

    .. math:: z_A = x_A, \qquad z_B = m(x_B;\, \theta = \mathrm{MLP}(x_A, c)).

    The inverse costs as much as the forward direction, since :math:`x_A` is
    known. Where nothing is kept (a single feature), the parameters depend on
    the context alone or are learned constants.

    Parameters
    ----------
    elementwise : ElementwiseMap
        The univariate map m.
    mask : sequence of bool, one per feature
        True for the features A that are kept.
    hidden : tuple of int
        Widths of the hidden layers of the conditioner.
    context_features : int, default=0
        Width of the context.

    Raises
    ------
    ConfigError
        If the mask keeps every feature.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import AffineMap, Coupling
    >>> coupling = Coupling(AffineMap(), mask=[True, False], hidden=(8,))
    >>> x = torch.randn(5, 2)
    >>> torch.equal(coupling(x)[0], x)  # the identity until trained
    True
    """

    order: Tensor
    restore: Tensor

    def __init__(
        self,
        elementwise: ElementwiseMap,
        mask: Sequence[bool],
        hidden: tuple[int, ...],
        context_features: int = 0,
    ) -> None:
        super().__init__()
        kept = [index for index, keep in enumerate(mask) if keep]
        mapped = [index for index, keep in enumerate(mask) if not keep]
        if not mapped:
            raise ConfigError(f"mask: at least one feature must not be kept, got {tuple(mask)}")
        self.elementwise = elementwise
        self.net = MLP(len(kept), hidden, elementwise.n_parameters * len(mapped), context_features)
        self.sizes = [len(kept), len(mapped)]
        # Indices rather than boolean masks: shapes stay static, which export needs.
        order = torch.tensor(kept + mapped, dtype=torch.int64)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("restore", torch.argsort(order), persistent=False)

    @property
    def exact_inverse(self) -> bool:
        """Whether the univariate map has an exact inverse."""
        return self.elementwise.exact_inverse

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the features that are not kept."""
        kept, mapped = self._split(x)
        y, ladj = self.elementwise.forward(mapped, self._params(kept, context))
        return self._join(kept, y), ladj.sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo `forward` from the kept features."""
        kept, mapped = self._split(z)
        x, ladj = self.elementwise.inverse(mapped, self._params(kept, context))
        return self._join(kept, x), ladj.sum(0)

    def rebuild(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Undo and record `forward` with one evaluation of the conditioner."""
        x = z.detach().clone().requires_grad_()
        kept, mapped = self._split(x)
        params = self._params(kept, context)
        mapped, forward = self.elementwise.rebuild(mapped, params)
        with torch.no_grad():
            # What read the kept features has no use for the others, so they may change.
            x.copy_(self._join(kept, mapped))
        y, ladj = forward(self._split(x)[1])
        return x, self._join(kept, y), ladj.sum(0)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the kept and the other features, each a contiguous row."""
        kept, mapped = torch.split(x.t().index_select(0, self.order), self.sizes)
        return kept, mapped

    def _params(self, kept: Tensor, context: Tensor | None) -> Tensor:
        params = self.net.feature_major(kept.t(), context)
        return params.view(self.elementwise.n_parameters, self.sizes[1], kept.shape[1])

    def _join(self, kept: Tensor, mapped: Tensor) -> Tensor:
        # A transposed view: the next coupling reads rows of features again.
        return torch.cat([kept, mapped]).index_select(0, self.restore).t()
