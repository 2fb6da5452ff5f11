"""The masked perceptron, with units ordered by what they depend on."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from hybridflow.errors import ConfigError
from hybridflow.nets import checked_context, squash, start


class MaskedMLP(nn.Module):
    r"""A masked perceptron: the outputs for feature i read features before i only.

    Every hidden unit has a degree m and reads the features 1..m; the outputs
    for feature i read the units of degree below i. Units are *ordered by
    degree*, so what becomes known with each further feature is a contiguous
    slice, and a sweep (`BlockedSweep`) evaluates the network one feature at a
    time at the total cost of one pass. The context feeds all units of the
    first layer; with a context, some units have degree 0.

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

    Attributes
    ----------
    known_at : list of list of int
        ``known_at[l][i]``: how many units of layer l (0 is the input) are
        known once i features are.

    References
    ----------
    Mathieu Germain, Karol Gregor, Iain Murray, Hugo Larochelle. MADE: Masked
    Autoencoder for Distribution Estimation. 2015.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.masked import MaskedMLP
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
            start(self.layers()[layer].weight, mask.sum(1, keepdim=True))
        reads = (degrees[0][:, None] > degrees[-1][None, :]).to(self.weight.dtype)
        self.register_buffer("mask_out", reads.repeat(n_parameters, 1), persistent=False)

    def layers(self) -> list[nn.Linear]:
        """Return the hidden layers, first to last."""
        return list(cast("Iterable[nn.Linear]", self.hidden))

    def masked_weights(self) -> list[Tensor]:
        """Return the weights of the hidden layers, zero where a unit must not read."""
        return [
            layer.weight * self.get_buffer(f"mask_{index}")
            for index, layer in enumerate(self.layers())
        ]

    def masked_outputs(self) -> Tensor:
        """Return the weights of the last layer, the parameters of a feature next to each other.

        Returns
        -------
        Tensor of shape (d * n_parameters, width of the last hidden layer)
            Zero where an output must not read.
        """
        weight = (self.weight * self.get_buffer("mask_out")).view(
            self.n_parameters, self.features, -1
        )
        return weight.transpose(0, 1).reshape(self.features * self.n_parameters, -1)

    def given(self, context: Tensor | None) -> Tensor | None:
        """Return what the context adds to the first layer, shape (n, width), if there is one.

        Parameters
        ----------
        context : Tensor of shape (n, context_features), optional

        Raises
        ------
        InputError
            If the context is not what the network was declared with.
        """
        context = checked_context(context, self.context_features)
        if self.context is None or context is None:
            return None
        given: Tensor = self.context(squash(context))
        return given

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
        given = self.given(context)
        h = squash(x)
        for index, (layer, weight) in enumerate(
            zip(self.layers(), self.masked_weights(), strict=True)
        ):
            h = linear(h, weight, layer.bias)
            if index == 0 and given is not None:
                h = h + given
            h = silu(h)
        weight = self.weight * self.get_buffer("mask_out")
        out = torch.addmm(self.bias[:, None], weight, h.t())
        return out.view(self.n_parameters, self.features, x.shape[0])
