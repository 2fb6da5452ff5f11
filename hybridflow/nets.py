"""Networks that turn a row (and its context) into the parameters of a map."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from itertools import chain, pairwise
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


@torch.no_grad()
def start(weight: Tensor, read: int | Tensor) -> None:
    r"""Draw the weights of a hidden layer so that its units vary as much as what they read.

    .. math:: w \sim U(-\sqrt{3 / k}, \sqrt{3 / k})

    where k inputs are read: a variance of 1/k. With torch's own start, a third of that,
    a conditioner hardly depends on its input for the first hundreds of steps; with He's,
    twice that, flows of many columns fit the noise of few rows.

    Parameters
    ----------
    weight : Tensor of shape (units, inputs)
        Overwritten.
    read : int or Tensor of shape (units, 1)
        How many of its inputs a unit reads.

    References
    ----------
    Yann LeCun, Leon Bottou, Genevieve B. Orr, Klaus-Robert Müller. Efficient
    BackProp. 1998.
    """
    weight.uniform_(-1, 1)
    weight *= (3 / torch.as_tensor(read).clamp(min=1)).sqrt().to(weight)


class MLP(nn.Module):
    r"""A multilayer perceptron with SiLU units whose output starts at zero.

    .. math:: h_0 = 10\tanh([x, c]/10), \qquad
        h_{l+1} = \mathrm{SiLU}(W_l h_l + b_l), \qquad f(x, c) = W_L h_L + b_L

    with :math:`W_L = 0, b_L = 0` at the start, so that a transform which is
    the identity at zero parameters starts as the identity; the hidden weights
    begin as `start` draws them. With neither input nor context it is a learned
    constant.

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
        for layer in cast("Iterable[nn.Linear]", self.hidden):
            start(layer.weight, layer.in_features)
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
        given = x if context is None else torch.cat([x, context], dim=1)
        layers = [(layer.weight, layer.bias) for layer in cast("Iterable[nn.Linear]", self.hidden)]
        out, *_ = _Perceptron.apply(given, *chain(*layers), self.weight, self.bias)  # type: ignore[no-untyped-call]  # torch has no types
        return cast("Tensor", out)


def signature_once(function: _F) -> _F:
    """Let the signature of an `autograd.Function` be found once and not in every call.

    Its `apply` binds the arguments to the signature whenever there is a
    `setup_context`, and finding that takes longer than a small operation.
    """
    function.forward.__signature__ = inspect.signature(function.forward)  # type: ignore[attr-defined]
    return function


@signature_once
class _Perceptron(torch.autograd.Function):
    """All of an `MLP` as one node of the graph.

    Keeps what enters each SiLU and computes what leaves it anew, which halves the
    memory. That it is an output too lets gradients be differentiated.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        *hidden, weight, bias = parameters
        h = squash(x)
        kept = [h]
        for index in range(0, len(hidden), 2):
            h = linear(h if index == 0 else silu(h), hidden[index], hidden[index + 1])
            kept.append(h)
        last = silu(h) if hidden else h
        return torch.addmm(bias[:, None], weight, last.t()), *kept

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[1::2], *output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, *more: Tensor | None) -> tuple[Tensor | None, ...]:
        count = len(more)
        weights, kept = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        if grad is None:
            grad = weights[-1].new_zeros(weights[-1].shape[0], len(kept[0]))
        found: list[Tensor | None] = []
        for index in reversed(range(count)):
            h = kept[index]
            # Weights and biases are inputs 1 and 2, 3 and 4, ...
            weight_wanted, bias_wanted = ctx.needs_input_grad[2 * index + 1 : 2 * index + 3]
            found.append(grad.sum(1) if bias_wanted else None)
            found.append(grad @ (silu(h) if index else h) if weight_wanted else None)
            back = grad.t() @ weights[index]
            if index:
                back = _through_silu(back, h)
            if (extra := more[index]) is not None:
                back = back + extra
            grad = back.t()
        slope = 1 - (kept[0] / SQUASH_LIMIT).square()
        return grad.t() * slope, *reversed(found)


def _through_silu(grad: Tensor, h: Tensor) -> Tensor:
    """Return the gradient of what enters a SiLU."""
    if torch.is_grad_enabled():  # the fused operation has no derivative
        gate = torch.sigmoid(h)
        return grad * gate * (1 + h * (1 - gate))
    return cast("Tensor", torch.ops.aten.silu_backward(grad, h))
