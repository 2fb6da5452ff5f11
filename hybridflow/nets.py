"""Networks that turn a row (and its context) into the parameters of a map."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from hybridflow.errors import ConfigError, InputError

_LIMIT = 10.0


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
    return _LIMIT * torch.tanh(x / _LIMIT)


def _expected(context: Tensor | None, width: int) -> Tensor | None:
    """Return the context, or None for a network that was declared without one."""
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
        h = self._last_hidden(x, context)
        if self.weight is None:
            return self.bias.expand(x.shape[0], -1)
        return linear(h, self.weight, self.bias)

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
        h = self._last_hidden(x, context)
        if self.weight is None:
            return self.bias[:, None].expand(-1, x.shape[0])
        return torch.addmm(self.bias[:, None], self.weight, h.t())

    def _last_hidden(self, x: Tensor, context: Tensor | None) -> Tensor:
        context = _expected(context, self.context_features)
        h = squash(x if context is None else torch.cat([x, context], dim=1))
        for layer in self.hidden:
            h = silu(layer(h))
        return h


class MaskedMLP(nn.Module):
    r"""A masked perceptron: the outputs for feature i read features before i only.

    Every hidden unit has a degree m and reads the features 1..m; the outputs
    for feature i read the units of degree below i. Units are *ordered by
    degree*, so what becomes known with each further feature is a contiguous
    slice, and `sweep` can evaluate the network one feature at a time at the
    total cost of one pass. The context feeds all units of the first layer;
    with a context, some units have degree 0.

    Parameters
    ----------
    features : int
        Number d of features, in the order of dependence.
    hidden : tuple of int
        Widths of the hidden layers; at least one.
    n_parameters : int
        Number of outputs for each feature.
    context_features : int, default=0
        Width of the context.

    References
    ----------
    Mathieu Germain, Karol Gregor, Iain Murray, Hugo Larochelle. MADE: Masked
    Autoencoder for Distribution Estimation. 2015.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.nets import MaskedMLP
    >>> MaskedMLP(3, (16,), 2)(torch.randn(5, 3)).shape
    torch.Size([2, 3, 5])
    """

    def __init__(
        self,
        features: int,
        hidden: tuple[int, ...],
        n_parameters: int,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ConfigError("hidden: a masked network needs at least one hidden layer, got ()")
        self.features = features
        self.n_parameters = n_parameters
        self.context_features = context_features

        lowest = 0 if context_features else min(1, features - 1)
        degrees = [torch.arange(1, features + 1)]
        for width in hidden:
            # Counted from the top, so that the last degree is never left out.
            steps = torch.arange(width - 1, -1, -1) * (features - lowest) // width
            degrees.append(features - 1 - steps)
        # known_at[l][i]: units of layer l that are known once i features are.
        self.known_at = [[int((degree <= i).sum()) for i in range(features)] for degree in degrees]

        self.hidden = nn.ModuleList(
            nn.Linear(before, after) for before, after in pairwise((features, *hidden))
        )
        self.context = (
            nn.Linear(context_features, hidden[0], bias=False) if context_features else None
        )
        self.weight = nn.Parameter(torch.zeros(n_parameters * features, hidden[-1]))
        self.bias = nn.Parameter(torch.zeros(n_parameters * features))
        for layer, (before, after) in enumerate(pairwise(degrees)):
            mask = (after[:, None] >= before[None, :]).to(self.weight.dtype)
            self.register_buffer(f"mask_{layer}", mask, persistent=False)
        reads = (degrees[0][:, None] > degrees[-1][None, :]).to(self.weight.dtype)
        self.register_buffer("mask_out", reads.repeat(n_parameters, 1), persistent=False)

    def layers(self) -> list[nn.Linear]:
        """Return the hidden layers, first to last."""
        return list(cast("Iterable[nn.Linear]", self.hidden))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the parameters of all features in one pass.

        Parameters
        ----------
        x : Tensor of shape (n, d)
        context : Tensor of shape (n, context_features), optional

        Returns
        -------
        Tensor of shape (n_parameters, d, n)
        """
        context = _expected(context, self.context_features)
        h = squash(x)
        for index, layer in enumerate(self.layers()):
            h = linear(h, layer.weight * self.get_buffer(f"mask_{index}"), layer.bias)
            if index == 0 and self.context is not None and context is not None:
                h = h + self.context(squash(context))
            h = silu(h)
        weight = self.weight * self.get_buffer("mask_out")
        out = torch.addmm(self.bias[:, None], weight, h.t())
        return out.view(self.n_parameters, self.features, x.shape[0])

    def sweep(self, rows: int, context: Tensor | None = None) -> Sweep:
        """Start an evaluation in which the features become known one by one.

        Parameters
        ----------
        rows : int
            Number n of rows.
        context : Tensor of shape (n, context_features), optional

        Returns
        -------
        Sweep
        """
        context = _expected(context, self.context_features)
        return Sweep(self, rows, context)


class Sweep:
    """A masked network evaluated feature by feature, each hidden unit once.

    Call `parameters` and then `reveal` for each feature in order.

    Parameters
    ----------
    net : MaskedMLP
    rows : int
    context : Tensor of shape (n, context_features) or None
    """

    def __init__(self, net: MaskedMLP, rows: int, context: Tensor | None) -> None:
        self._net = net
        self._given = None
        if net.context is not None and context is not None:
            self._given = net.context(squash(context)).t()
        widths = [net.features, *(layer.out_features for layer in net.layers())]
        self._known = [_GrowingRows(width, rows, net.weight) for width in widths]
        self._next = 0

    def parameters(self) -> Tensor:
        """Return the parameters of the next feature, shape (n_parameters, n)."""
        net, i = self._net, self._next
        for index, layer in enumerate(net.layers()):
            first = net.known_at[index + 1][i - 1] if i else 0
            last = net.known_at[index + 1][i]
            if first == last:
                continue
            inputs = self._known[index].rows()
            weight = layer.weight[first:last, : inputs.shape[0]]
            h = torch.addmm(layer.bias[first:last, None], weight, inputs)
            if index == 0 and self._given is not None:
                h = h + self._given[first:last]
            self._known[index + 1].append(silu(h))
        inputs = self._known[-1].rows()
        weight = net.weight.view(net.n_parameters, net.features, -1)[:, i, : inputs.shape[0]]
        bias = net.bias.view(net.n_parameters, net.features)[:, i, None]
        return torch.addmm(bias, weight, inputs)

    def reveal(self, x: Tensor) -> None:
        """Take the value of the next feature, shape (n,)."""
        self._known[0].append(squash(x)[None])
        self._next += 1


class _GrowingRows:
    """Rows that become known in order: one buffer, or pieces while gradients are recorded."""

    def __init__(self, capacity: int, columns: int, like: Tensor) -> None:
        # Autograd keeps views of what was read, which later writes would spoil.
        self._recording = torch.is_grad_enabled()
        self._buffer = like.new_empty(0 if self._recording else capacity, columns)
        self._length = 0

    def append(self, rows: Tensor) -> None:
        if self._recording:
            self._buffer = torch.cat([self._buffer, rows])
        else:
            self._buffer[self._length : self._length + rows.shape[0]] = rows
        self._length += rows.shape[0]

    def rows(self) -> Tensor:
        return self._buffer[: self._length]
