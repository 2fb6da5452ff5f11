"""The transposed solve of a masked autoregressive Jacobian, in one reverse sweep."""

from __future__ import annotations

from itertools import pairwise, repeat

import torch
from torch import Tensor

from hybridflow.masked.net import MaskedMLP
from hybridflow.masked.sweeps import BLOCK
from hybridflow.nets import SQUASH_LIMIT, squash


@torch.no_grad()
def solve_adjoint(
    net: MaskedMLP,
    g: Tensor,
    x: Tensor,
    context: Tensor | None,
    slope: Tensor,
    sensitivity: Tensor,
) -> Tensor:
    r"""Solve :math:`J^T \lambda = g` for :math:`z_i = m(x_i;\, \theta_i(x_1, \dots, x_{i-1}))`.

    The transposed system is upper triangular,

    .. math:: \lambda_i = \frac{1}{\partial z_i/\partial x_i} \Bigl(g_i - \sum_{m>i}
        \lambda_m \frac{\partial z_m}{\partial\theta_m}
        \frac{\partial\theta_m}{\partial x_i}\Bigr),

    and is solved from the last feature to the first while the network is
    back-propagated once: the adjoint of a unit is complete when all features
    above its degree are done. As in `BlockedSweep`, one product per block of
    features and layer collects what lies behind the block.

    Parameters
    ----------
    net : MaskedMLP
    g : Tensor of shape (d, n)
    x : Tensor of shape (n, d)
        Where the Jacobian is taken, features in the order of dependence.
    context : Tensor of shape (n, context_features) or None
    slope : Tensor of shape (d, n)
        :math:`\partial z_i / \partial x_i`.
    sensitivity : Tensor of shape (n_parameters, d, n)
        :math:`\partial z_i / \partial\theta_i`.

    Returns
    -------
    Tensor of shape (d, n)
    """
    features, per_feature = net.features, net.n_parameters
    # Row u of weights[l]: how the next layer reads unit u of layer l.
    weights = [weight.t().contiguous() for weight in (*net.masked_weights(), net.masked_outputs())]
    # firsts[l][i]: the first unit of layer l above degree i, the first parameter of feature i.
    firsts = [[*known, len(weights[layer])] for layer, known in enumerate(net.known_at)]
    firsts.append([per_feature * i for i in range(features + 1)])

    derivatives = _derivatives(net, x, context)
    # Of the values of each layer before their activation; the parameters' wait for their lambda.
    adjoints = [torch.empty_like(derivative) for derivative in derivatives]
    adjoints.append(sensitivity.transpose(0, 1).reshape(per_feature * features, -1))
    parameters = adjoints[-1].view(features, per_feature, -1).unbind()
    solution = torch.empty_like(g)

    for end in range(features, 0, -BLOCK):
        start = max(0, end - BLOCK)
        products = []
        for layer, weight in enumerate(weights):
            ours, readers = firsts[layer], firsts[layer + 1]
            units = slice(ours[start], ours[end])
            target = adjoints[layer][units]
            behind = slice(readers[end], None)
            torch.mm(weight[units, behind], adjoints[layer + 1][behind], out=target)
            # What is left reads the whole block: the weights of what is not done yet are zero.
            block = slice(readers[start], readers[end])
            sizes = [after - before for before, after in pairwise(ours[start : end + 1])]
            products.append(
                zip(
                    sizes,
                    target.split_with_sizes(sizes),
                    weight[units, block].split_with_sizes(sizes),
                    repeat(adjoints[layer + 1][block]),
                    derivatives[layer][units].split_with_sizes(sizes),
                )
            )
        steps = list(zip(range(start, end), *products, strict=True))
        for i, *layers in reversed(steps):
            for size, target, weight, readers_adjoint, derivative in reversed(layers):
                if size:
                    target.addmm_(weight, readers_adjoint).mul_(derivative)
            torch.sub(g[i], adjoints[0][i], out=solution[i]).div_(slope[i])
            parameters[i].mul_(solution[i])
    return solution


def _derivatives(net: MaskedMLP, x: Tensor, context: Tensor | None) -> list[Tensor]:
    """Return the slopes of the activations of all layers, the input's squashing first."""
    given = net.given(context)
    h = squash(x).t()
    derivatives = [1 - (h / SQUASH_LIMIT).square()]
    for index, (layer, weight) in enumerate(zip(net.layers(), net.masked_weights(), strict=True)):
        h = torch.addmm(layer.bias[:, None], weight, h)
        if index == 0 and given is not None:
            h = h + given.t()
        gate = torch.sigmoid(h)
        h = h * gate
        derivatives.append(gate + h * (1 - gate))
    return derivatives
