"""Masked autoregression: each feature is mapped by parameters from those before it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.nets import MaskedMLP
from hybridflow.transforms.base import Transform
from hybridflow.transforms.elementwise import ElementwiseMap


class MaskedAutoregressive(Transform):
    r"""Map every feature by parameters computed from the features before it.

    .. math:: z_i = m(x_i;\, \theta_i(x_1, \dots, x_{i-1}, c)).

    One pass gives z and the log-determinant. The inverse recovers one feature
    after the other; since hidden units are ordered by what they depend on,
    each is computed once, so that all d steps together cost one pass and not d.

    Parameters
    ----------
    elementwise : ElementwiseMap
        The univariate map m.
    features : int
        Number d of features.
    hidden : tuple of int
        Widths of the hidden layers of the conditioner, at least one.
    order : sequence of int, optional
        ``order[i]`` is the feature that comes at place i; 0, 1, 2, ... if not
        given.
    context_features : int, default=0
        Width of the context.

    Raises
    ------
    ConfigError
        If `order` does not name every feature once.

    References
    ----------
    George Papamakarios, Theo Pavlakou, Iain Murray. Masked Autoregressive Flow
    for Density Estimation. 2017.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import AffineMap, MaskedAutoregressive
    >>> flow = MaskedAutoregressive(AffineMap(), features=3, hidden=(16,), order=[2, 1, 0])
    >>> x = torch.randn(5, 3)
    >>> torch.equal(flow(x)[0], x)  # the identity until trained
    True
    """

    order: Tensor
    place: Tensor

    def __init__(
        self,
        elementwise: ElementwiseMap,
        features: int,
        hidden: tuple[int, ...],
        order: Sequence[int] | None = None,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        sequence = list(range(features)) if order is None else list(order)
        if sorted(sequence) != list(range(features)):
            raise ConfigError(
                f"order: expected each of 0 to {features - 1} once, got {tuple(sequence)}"
            )
        self.elementwise = elementwise
        self.net = MaskedMLP(features, hidden, elementwise.n_parameters, context_features)
        indices = torch.tensor(sequence, dtype=torch.int64)
        self.register_buffer("order", indices, persistent=False)
        self.register_buffer("place", torch.argsort(indices), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map all features in one pass."""
        ordered = x.index_select(1, self.order)
        params = self.net(ordered, context)
        z, ladj = self.elementwise.forward(ordered.t().contiguous(), params)
        return z.t().index_select(1, self.place), ladj.sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Recover the features in order, each from those already known."""
        sweep = self.net.sweep(z.shape[0], context)
        columns: list[Tensor] = []
        total = z.new_zeros(z.shape[0])
        for column in z.t().index_select(0, self.order).unbind(0):
            x, ladj = self.elementwise.inverse(column, sweep.parameters())
            sweep.reveal(x)
            columns.append(x)
            total = total + ladj
        return torch.stack(columns, dim=1).index_select(1, self.place), total
