"""Inverses found by iteration: safeguarded root finding, and exact gradients afterwards.

A transform whose inverse is no formula finds ``x`` without recording gradients
and then attaches them here, from one recorded pass of the forward direction:
the memory and the time of the iteration do not enter training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hybridflow.errors import HybridFlowError

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps x to (z, log|det dz/dx|), with context and parameters bound."""

Solve = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Maps (g, z, x) to the solution of J^T s = g in every row: see `solve_rows`."""

_NEWTON_STEPS = 40
_NOISE = 32  # rounding error of a value, in units of the precision


def attach_gradient(
    forward: Forward, x: Tensor, z: Tensor, solve: Solve | None = None
) -> tuple[Tensor, Tensor]:
    r"""Make an inverse that was found without gradients differentiable.

    With :math:`z = f(x, \phi)` and :math:`J = \partial f / \partial x`, the
    implicit function theorem gives

    .. math:: dx = J^{-1} \Bigl(dz - \frac{\partial f}{\partial\phi} d\phi\Bigr)

    for all of :math:`\phi`: the parameters and the context. One recorded pass
    of `forward` at x gives the log-determinant and, when gradients are asked
    for, the vector-Jacobian products. The value of x is not changed.

    Parameters
    ----------
    forward : callable
        From x to ``(z, ladj)``, the direction data to latent with everything
        else bound.
    x : Tensor of shape (n, d)
        The solution of ``forward(x)[0] == z``.
    z : Tensor of shape (n, d)
    solve : callable, optional
        ``solve(g, z, x)`` returns :math:`J^{-T} g`, where z is the recorded
        image of the leaf x. By default `solve_rows`, which is exact for any
        transform whose rows do not influence each other and costs d
        vector-Jacobian products; a structured Jacobian is cheaper to solve.

    Returns
    -------
    x : Tensor of shape (n, d)
        The same values, with gradients if they are being recorded and anything
        asks for them.
    ladj : Tensor of shape (n,)
        :math:`\log|\det \partial x/\partial z|`, nats.

    References
    ----------
    Shakir Mohamed, Mihaela Rosca, Michael Figurnov, Andriy Mnih. Monte Carlo
    Gradient Estimation in Machine Learning. 2020.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms.implicit import attach_gradient
    >>> z = torch.tensor([[8.0]], requires_grad=True)
    >>> cube = lambda x: (x**3, torch.log(3 * x**2).sum(1))
    >>> x, ladj = attach_gradient(cube, torch.tensor([[2.0]]), z)
    >>> torch.autograd.grad(x.sum(), z)  # 1 / (3 x^2)
    (tensor([[0.0833]]),)
    """
    if not (torch.is_grad_enabled() and z.requires_grad):
        image, ladj = forward(x)
        if not (image.requires_grad or ladj.requires_grad):
            return x, -ladj  # a frozen model, or no recording: nothing to attach
    leaf = x.detach().requires_grad_()
    image, ladj = forward(leaf)
    attached: tuple[Tensor, Tensor] = _Attach.apply(  # type: ignore[no-untyped-call]  # torch's
        z, image, ladj, leaf, solve or solve_rows
    )
    return attached


def solve_rows(g: Tensor, z: Tensor, x: Tensor) -> Tensor:
    r"""Return :math:`J^{-T} g` for every row, from the dense Jacobian.

    Parameters
    ----------
    g : Tensor of shape (n, d)
    z : Tensor of shape (n, d)
        Recorded image of x.
    x : Tensor of shape (n, d)

    Returns
    -------
    Tensor of shape (n, d)
    """
    rows = [
        torch.autograd.grad(column.sum(), x, retain_graph=True, materialize_grads=True)[0]
        for column in z.unbind(1)
    ]
    if not rows:
        return g
    jacobian = torch.stack(rows, dim=1)
    solved: Tensor = torch.linalg.solve(jacobian.mT, g.unsqueeze(-1)).squeeze(-1)
    return solved


def solve_elementwise(g: Tensor, z: Tensor, x: Tensor) -> Tensor:
    """Return g over the derivative, where every element of z depends on its own x only.

    Parameters
    ----------
    g, z, x : Tensor of one shape
        As in `solve_rows`.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    (slope,) = torch.autograd.grad(z.sum(), x, retain_graph=True, materialize_grads=True)
    return g / slope


class _Attach(torch.autograd.Function):
    """Values of the inverse; gradients through the recorded forward direction."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, image: Tensor, ladj: Tensor, leaf: Tensor, solve: Solve
    ) -> tuple[Tensor, Tensor]:
        # Kept with their graphs, which `backward` runs through before autograd does.
        ctx.recorded = image, ladj, leaf
        ctx.solve = solve
        return leaf.detach().clone(), -ladj.detach()

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor, grad_ladj: Tensor) -> tuple[Tensor | None, ...]:
        image, ladj, leaf = ctx.recorded
        with torch.enable_grad():
            # x moves the log-determinant too: -ladj = -log|det J(x)|.
            if ladj.requires_grad and bool((grad_ladj != 0).any()):
                (through,) = torch.autograd.grad(
                    ladj, leaf, grad_ladj, retain_graph=True, materialize_grads=True
                )
                grad_x = grad_x - through
            solved = ctx.solve(grad_x, image, leaf).detach()
        if torch.is_grad_enabled():  # by create_graph=True
            solved = _Once.apply(solved, image)  # type: ignore[no-untyped-call]
        return solved, -solved, -grad_ladj, None, None


class _Once(torch.autograd.Function):
    """A gradient that refuses to be differentiated, where a constant would be silently wrong."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, recorded: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        raise HybridFlowError(
            "the gradient of an inverse that was found by iteration cannot be differentiated "
            "again; take second derivatives of the forward direction"
        )


@torch.no_grad()
def monotone_inverse(
    function: Forward, y: Tensor, low: Tensor | float, high: Tensor | float
) -> Tensor:
    r"""Invert an increasing scalar map elementwise, to the precision of its dtype.

    Newton's method inside a bracket: a step that would leave the bracket, or
    is not at most half as long as the one before, is replaced by a bisection.
    Whatever has not settled after a fixed number of steps is bisected until
    the bracket holds no further number, so that the result never depends on
    luck. No gradients are recorded: `attach_gradient` adds them.

    Parameters
    ----------
    function : callable
        From x to ``(y, log-derivative)``, elementwise, of the shape of y.
    y : Tensor of any shape
        Values to invert; a NaN stays NaN.
    low, high : Tensor or float
        Bracket, which broadcasts to the shape of y. A root outside is taken
        to the nearer end.

    Returns
    -------
    Tensor
        x of the shape of y.

    References
    ----------
    William Press, Saul Teukolsky, William Vetterling, Brian Flannery.
    Numerical Recipes: Newton-Raphson Method Using Derivative. 2007.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms.implicit import monotone_inverse
    >>> function = lambda x: (x + x**3, torch.log(1 + 3 * x**2))
    >>> monotone_inverse(function, torch.tensor([2.0, 10.0]), -5.0, 5.0)
    tensor([1., 2.])
    """
    eps = torch.finfo(y.dtype).eps
    low = torch.as_tensor(low, dtype=y.dtype, device=y.device).expand(y.shape)
    high = torch.as_tensor(high, dtype=y.dtype, device=y.device).expand(y.shape)
    x = low + (high - low) / 2
    step = high - low
    settled = torch.isnan(y)
    for _ in range(_NEWTON_STEPS):
        value, log_slope = function(x)
        gap = y - value
        # At a gap of rounding size, one more step is good and further ones would follow
        # noise, which leads to bisections of a bracket that is still wide. An
        # infinite gap is never small.
        found = gap.abs() < _NOISE * eps * y.abs().clamp(min=1)
        low = torch.where(gap > 0, x, low)
        high = torch.where(gap < 0, x, high)
        newton = gap * torch.exp(-log_slope)
        safe = (x + newton > low) & (x + newton < high) & (newton.abs() <= step.abs() / 2)
        middle = low + (high - low) / 2
        step = torch.where(safe, newton, middle - x)
        proposal = torch.where(safe, x + newton, torch.where(found, x, middle))
        x = torch.where(settled, x, proposal)
        settled = settled | found | (step.abs() <= eps * proposal.abs())
        if bool(settled.all()):
            return torch.where(torch.isnan(y), y, x)
    return torch.where(settled, x, _bisect(function, y, low, high)).masked_fill(
        torch.isnan(y), torch.nan
    )


def _bisect(function: Forward, y: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Halve the bracket until its middle is one of its ends."""
    while True:
        middle = low + (high - low) / 2
        if not bool(((middle > low) & (middle < high)).any()):
            return middle
        below = function(middle)[0] < y
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
