"""A masked network evaluated feature by feature, each hidden unit once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise, repeat

import torch
from torch import Tensor
from torch.nn.functional import silu

from hybridflow.masked.net import MaskedMLP
from hybridflow.nets import SQUASH_LIMIT, squash

BLOCK = 8
"""Features that share one product with all earlier blocks."""

_Product = tuple[int, Tensor, Tensor, Tensor]
"""A number of rows, these rows, and the weights and inputs of what they are added."""


class Sweep(ABC):
    """An evaluation in which the features become known one by one, in order.

    Call `parameters` and then `reveal` for each feature. The units that a
    further feature makes known are computed then and never again, so that all
    features together cost one pass through the network.
    """

    @abstractmethod
    def parameters(self) -> Tensor:
        """Return the parameters of the next feature, shape (n_parameters, n)."""

    @abstractmethod
    def reveal(self, x: Tensor) -> None:
        """Take the value of the next feature, shape (n,)."""


class FunctionalSweep(Sweep):
    """A sweep that changes nothing in place: what an exported graph is made of.

    Parameters
    ----------
    net : MaskedMLP
    rows : int
        Number n of rows.
    context : Tensor of shape (n, context_features), optional

    Examples
    --------
    >>> import torch
    >>> from hybridflow.masked import FunctionalSweep, MaskedMLP
    >>> sweep = FunctionalSweep(MaskedMLP(3, (16,), 2), rows=5)
    >>> sweep.parameters().shape
    torch.Size([2, 5])
    """

    def __init__(self, net: MaskedMLP, rows: int, context: Tensor | None = None) -> None:
        self._net = net
        given = net.given(context)
        self._given = None if given is None else given.t()
        self._known = [net.weight.new_empty(0, rows)] * len(net.known_at)
        self._next = 0

    def parameters(self) -> Tensor:
        """Return the parameters of the next feature, shape (n_parameters, n)."""
        net, i = self._net, self._next
        for index, layer in enumerate(net.layers()):
            first, last = len(self._known[index + 1]), net.known_at[index + 1][i]
            if first == last:
                continue
            inputs = self._known[index]
            weight = layer.weight[first:last, : len(inputs)]
            h = torch.addmm(layer.bias[first:last, None], weight, inputs)
            if index == 0 and self._given is not None:
                h = h + self._given[first:last]
            self._known[index + 1] = torch.cat([self._known[index + 1], silu(h)])
        inputs = self._known[-1]
        weight = net.weight.view(net.n_parameters, net.features, -1)[:, i, : len(inputs)]
        bias = net.bias.view(net.n_parameters, net.features)[:, i, None]
        return torch.addmm(bias, weight, inputs)

    def reveal(self, x: Tensor) -> None:
        """Take the value of the next feature, shape (n,)."""
        self._known[0] = torch.cat([self._known[0], squash(x)[None]])
        self._next += 1


class BlockedSweep(Sweep):
    """A fast sweep without gradients, like a blocked triangular solve.

    Features come in blocks. At the start of a block, one product per layer
    collects what all earlier blocks contribute to the block's units; within
    it, products as small as the block is narrow are added in place. Units of
    all layers lie feature-major, (units, n), in slices of one buffer each.

    Parameters
    ----------
    net : MaskedMLP
    rows : int
        Number n of rows.
    context : Tensor of shape (n, context_features), optional

    Examples
    --------
    >>> import torch
    >>> from hybridflow.masked import BlockedSweep, MaskedMLP
    >>> net, x = MaskedMLP(3, (16,), 2), torch.randn(5, 3)
    >>> sweep = BlockedSweep(net, rows=5)
    >>> for i in range(3):
    ...     assert torch.allclose(sweep.parameters(), net(x)[:, i])
    ...     sweep.reveal(x[:, i])  # x, too, without gradients
    """

    @torch.no_grad()
    def __init__(self, net: MaskedMLP, rows: int, context: Tensor | None = None) -> None:
        self._features = net.features
        first, *rest = net.masked_weights()
        # The inputs are kept as tanh(x / limit): their factor moves into the weights.
        self._weights = [first * SQUASH_LIMIT, *rest, net.masked_outputs()]
        self._biases = [layer.bias[:, None] for layer in net.layers()]
        self._biases.append(net.bias.view(net.n_parameters, -1).t().reshape(-1, 1))
        given = net.given(context)
        if given is not None:
            self._biases[0] = self._biases[0] + given.t()
        widths = [net.features, *(len(weight) for weight in self._weights)]
        self._values = [net.weight.new_empty(width, rows) for width in widths]
        # What is not known yet meets weights of zero, and must be a number for that.
        self._inputs = self._values[0].zero_().unbind()
        # known[l][i]: how many rows of values[l] are known before the turn of feature i.
        self._known = [[0, *known] for known in net.known_at]
        self._known[0] = list(range(net.features + 1))
        self._known.append([net.n_parameters * i for i in range(net.features + 1)])
        self._next = 0
        self._block: list[tuple[_Product, ...]] = []

    def parameters(self) -> Tensor:
        """Return the parameters of the next feature, shape (n_parameters, n)."""
        place = self._next % BLOCK
        if place == 0:
            self._block = self._start_block(self._next)
        *hidden, output = self._block[place]
        for size, target, weight, inputs in hidden:
            if size:
                silu(target.addmm_(weight, inputs), inplace=True)
        _, target, weight, inputs = output
        return target.addmm_(weight, inputs)

    def reveal(self, x: Tensor) -> None:
        """Take the value of the next feature, shape (n,)."""
        torch.tanh(x / SQUASH_LIMIT, out=self._inputs[self._next])
        self._next += 1

    @torch.no_grad()
    def _start_block(self, start: int) -> list[tuple[_Product, ...]]:
        """Add what is known to all units of a block; return what is left to do for each feature.

        The products that are left read the whole block: the weights of what is
        not known yet are zero, and no slices are taken feature by feature.
        """
        end = min(start + BLOCK, self._features)
        products = []
        for layer, (weight, bias) in enumerate(zip(self._weights, self._biases, strict=True)):
            read, written = self._values[layer : layer + 2]
            known, filled = self._known[layer : layer + 2]
            rows = slice(filled[start], filled[end])
            old = slice(0, known[start])
            target = torch.addmm(bias[rows], weight[rows, old], read[old], out=written[rows])
            block = slice(known[start], known[end])
            sizes = [after - before for before, after in pairwise(filled[start : end + 1])]
            products.append(
                zip(
                    sizes,
                    target.split_with_sizes(sizes),
                    weight[rows, block].split_with_sizes(sizes),
                    repeat(read[block]),
                )
            )
        return list(zip(*products, strict=True))
