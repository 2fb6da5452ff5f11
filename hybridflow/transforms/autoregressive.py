"""Masked autoregression: each feature is mapped by parameters from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.masked import BlockedSweep, FunctionalSweep, MaskedMLP, Sweep, solve_adjoint
from hybridflow.transforms.base import Transform
from hybridflow.transforms.elementwise import ElementwiseMap
from hybridflow.transforms.implicit import attach_gradient

_FEW_ROWS = 64
"""Up to here a step costs its calls, not its arithmetic, and few wide ones are faster."""
_MOST_STEPS = 24
_ROUNDING = 4


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

    @property
    def exact_inverse(self) -> bool:
        """Whether the univariate map has an exact inverse."""
        return self.elementwise.exact_inverse

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map all features in one pass."""
        ordered = x.index_select(1, self.order)
        params = self.net(ordered, context)
        z, ladj = self.elementwise.forward(ordered.t().contiguous(), params)
        return z.t().index_select(1, self.place), ladj.sum(0)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Recover the features in order, each from those already known."""
        if torch.compiler.is_exporting():
            return self._by_sweep(FunctionalSweep(self.net, z.shape[0], context), z)
        with torch.no_grad():
            x, ladj = self._solve(z, context)
        if not torch.is_grad_enabled():
            return x, ladj
        forward = partial(self.forward, context=context)
        return attach_gradient(forward, x, z, partial(self._solve_adjoint, context=context))

    def _solve(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if z.shape[0] <= _FEW_ROWS:
            found = self._by_iteration(z, context)
            if found is not None:
                return found
        return self._by_sweep(BlockedSweep(self.net, z.shape[0], context), z)

    def _by_sweep(self, sweep: Sweep, z: Tensor) -> tuple[Tensor, Tensor]:
        """Run through the features once, evaluating each hidden unit once."""
        columns, ladjs = [], []
        for column in z.t().index_select(0, self.order).unbind(0):
            x, ladj = self.elementwise.inverse(column, sweep.parameters())
            sweep.reveal(x)
            columns.append(x)
            ladjs.append(ladj)
        return torch.stack(columns).t().index_select(1, self.place), torch.stack(ladjs).sum(0)

    def _by_iteration(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Recover all features at once, again and again: few wide steps for few rows.

        Every step makes at least one further feature right, so that d steps
        are exact. Usually far fewer leave nothing to change; None if not.
        """
        features = z.shape[1]
        target = z.t().index_select(0, self.order)
        x = target
        for step in range(1, min(features, _MOST_STEPS) + 1):
            before = x
            x, ladj = self.elementwise.inverse(target, self.net(before.t(), context))
            close = _ROUNDING * torch.finfo(x.dtype).eps * x.abs().clamp(min=1)
            if step == features or bool(((x - before).abs() <= close).all()):
                return x.t().index_select(1, self.place), ladj.sum(0)
        return None

    def _solve_adjoint(
        self, g: Tensor, z: Tensor, x: Tensor, context: Tensor | None = None
    ) -> Tensor:
        """Solve the transposed Jacobian at x, triangular in the order of the features."""
        ordered = x.detach().index_select(1, self.order)
        params = self.net(ordered, context).detach().requires_grad_()
        column_major = ordered.t().contiguous().requires_grad_()
        image, _ = self.elementwise.forward(column_major, params)
        slope, sensitivity = torch.autograd.grad(image.sum(), (column_major, params))
        ordered_g = g.t().index_select(0, self.order)
        solved = solve_adjoint(self.net, ordered_g, ordered, context, slope, sensitivity)
        return solved.t().index_select(1, self.place)
