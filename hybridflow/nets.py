"""Networks that turn a row (and its context) into the parameters of a map."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from hybridflow.errors import InputError

_F = TypeVar("_F", bound=type[torch.autograd.Function])

SQUASH_LIMIT = 10.0
"""What no network sees more of: the bound of `squash`."""


def squash(x: Tensor) -> Tensor:
    r"""Bound the input of a network: :math:`10 \tanh(x / 10)`.

    Close to the identity where the data lie, constant far out. A conditioner
    reads coordinates that its transform leaves unchanged, so bounding what it
    sees costs no invertibility, and a row a million standard deviations away
    still gets sane parameters.

    Parameters
    ----------
    x : Tensor

    Returns
    -------
    Tensor
        Of the same shape, within (-10, 10).
    """
    return SQUASH_LIMIT * torch.tanh(x / SQUASH_LIMIT)


def checked_context(context: Tensor | None, width: int) -> Tensor | None:
    """Return the context, or None for a network that was declared without one.

    Parameters
    ----------
    context : Tensor of shape (n, width) or None
    width : int
        The number of context features that the network was declared with.

    Raises
    ------
    InputError
        If the context is missing or has another width.
    """
    if width == 0:
        return None
    if context is None or context.shape[-1] != width:
        raise InputError(
            f"context: expected a tensor of shape (n, {width}), got "
            f"{'None' if context is None else tuple(context.shape)}; "
            "pass what the event's context_features declares"
        )
    return context


class MLP(nn.Module):
    r"""A multilayer perceptron with SiLU units whose output starts at zero.

    .. math:: h_0 = 10\tanh([x, c]/10), \qquad
        h_{l+1} = \mathrm{SiLU}(W_l h_l + b_l), \qquad f(x, c) = W_L h_L + b_L

    with :math:`W_L = 0, b_L = 0` at the start, so that a transform which is
    the identity at zero parameters starts as the identity. With neither input
    nor context it is a learned constant.

    Parameters
    ----------
    in_features : int
        Width of x; may be 0.
    hidden : tuple of int
        Widths of the hidden layers; may be empty.
    out_features : int
        Width of the output.
    context_features : int, default=0
        Width of the context.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.nets import MLP
    >>> net = MLP(2, (16, 16), 3)
    >>> net(torch.randn(5, 2)).shape
    torch.Size([5, 3])
    >>> net.feature_major(torch.randn(5, 2)).shape
    torch.Size([3, 5])
    """

    def __init__(
        self,
        in_features: int,
        hidden: tuple[int, ...],
        out_features: int,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        self.context_features = context_features
        self.constant = in_features + context_features == 0
        # Without an input, hidden units would only hold another constant.
        widths = () if self.constant else (in_features + context_features, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.weight = nn.Parameter(torch.zeros(out_features, widths[-1])) if widths else None
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the outputs, one row each.

        Parameters
        ----------
        x : Tensor of shape (n, in_features)
        context : Tensor of shape (n, context_features), optional

        Returns
        -------
        Tensor of shape (n, out_features)
        """
        return self.feature_major(x, context).t()

    def feature_major(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the outputs transposed, laid out for elementwise maps.

        The last product is computed in this layout, so each output occupies
        contiguous memory and nothing is copied.

        Parameters
        ----------
        x : Tensor of shape (n, in_features)
        context : Tensor of shape (n, context_features), optional

        Returns
        -------
        Tensor of shape (out_features, n)
        """
        context = checked_context(context, self.context_features)
        if self.weight is None:
            return self.bias[:, None].expand(-1, x.shape[0])
        h = squash(x if context is None else torch.cat([x, context], dim=1))
        if not len(self.hidden):
            return torch.addmm(self.bias[:, None], self.weight, h.t())
        first, *others = cast("Iterable[nn.Linear]", self.hidden)
        h = first(h)
        for layer in others:
            h = silu_linear(h, layer.weight, layer.bias)
        return silu_linear(h, self.weight, self.bias, feature_major=True)


def silu_linear(h: Tensor, weight: Tensor, bias: Tensor, *, feature_major: bool = False) -> Tensor:
    r"""Apply SiLU units and the linear layer behind them.

    .. math:: W\,\mathrm{SiLU}(h) + b

    Keeps h for the gradient and computes its SiLU anew: half the memory of the
    two operations by themselves.

    Parameters
    ----------
    h : Tensor of shape (n, in_features)
    weight : Tensor of shape (out_features, in_features)
    bias : Tensor of shape (out_features,)
    feature_major : bool, default=False
        Whether to return the transpose, contiguous.

    Returns
    -------
    Tensor of shape (n, out_features), or its transpose
    """
    if not torch.is_grad_enabled():
        return _silu_linear(h, weight, bias, feature_major)
    out: Tensor = _SiLULinear.apply(h, weight, bias, feature_major)  # type: ignore[no-untyped-call]  # torch has no types
    return out


def _silu_linear(h: Tensor, weight: Tensor, bias: Tensor, feature_major: bool) -> Tensor:
    if feature_major:
        return torch.addmm(bias[:, None], weight, silu(h).t())
    return linear(silu(h), weight, bias)


def signature_once(function: _F) -> _F:
    """Let the signature of an `autograd.Function` be found once and not in every call.

    Its `apply` binds the arguments to the signature whenever there is a
    `setup_context`, and finding that takes longer than a small operation.
    """
    function.forward.__signature__ = inspect.signature(function.forward)  # type: ignore[attr-defined]
    return function


@signature_once
class _SiLULinear(torch.autograd.Function):
    """SiLU units and a linear layer; see `silu_linear`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(h: Tensor, weight: Tensor, bias: Tensor, feature_major: bool) -> Tensor:
        return _silu_linear(h, weight, bias, feature_major)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        h, weight, _, ctx.feature_major = inputs
        ctx.save_for_backward(h, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        h, weight = ctx.saved_tensors
        grad = grad if ctx.feature_major else grad.t()
        _, weight_wanted, bias_wanted, _ = ctx.needs_input_grad
        return (
            torch.ops.aten.silu_backward(grad.t() @ weight, h),
            grad @ silu(h) if weight_wanted else None,
            grad.sum(1) if bias_wanted else None,
            None,
        )
