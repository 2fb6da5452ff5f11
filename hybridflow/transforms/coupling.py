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

    kept: Tensor
    mapped: Tensor
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
        # Indices rather than boolean masks: shapes stay static, which export needs.
        for name, indices in (("kept", kept), ("mapped", mapped)):
            self.register_buffer(name, torch.tensor(indices, dtype=torch.int64), persistent=False)
        order = torch.argsort(torch.tensor(kept + mapped, dtype=torch.int64))
        self.register_buffer("restore", order, persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the features that are not kept."""
        kept, mapped, params = self._split(x, context)
        y, ladj = self.elementwise.forward(mapped, params)
        return self._join(kept, y), ladj.sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo `forward` from the kept features."""
        kept, mapped, params = self._split(z, context)
        x, ladj = self.elementwise.inverse(mapped, params)
        return self._join(kept, x), ladj.sum(0)

    def _split(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        kept = x.index_select(1, self.kept)
        mapped = x.t().index_select(0, self.mapped)  # feature-major, (features, n)
        params = self.net.feature_major(kept, context)
        return kept, mapped, params.view(self.elementwise.n_parameters, *mapped.shape)

    def _join(self, kept: Tensor, mapped: Tensor) -> Tensor:
        return torch.cat([kept, mapped.t()], dim=1).index_select(1, self.restore)
