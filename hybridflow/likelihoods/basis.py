"""Bases phi(z, c): what a generalized linear model is linear in."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from hybridflow.specs import Event


class Basis(nn.Module, ABC):
    """A map from latent and context to the features of a linear model.

    To write one, set `features` and define `forward`. Both inputs may have no
    columns, and phi then has none either: the model is its intercept.
    """

    features: int
    """Width of phi."""

    @abstractmethod
    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return phi.

        Parameters
        ----------
        z : Tensor of shape (n, ...)
            Latent rows; all dimensions but the first are flattened.
        context : Tensor of shape (n, c), optional

        Returns
        -------
        Tensor of shape (n, features)
        """


class LinearBasis(Basis):
    r"""The latent and the context themselves.

    .. math:: \phi(z, c) = [z, c]

    Parameters
    ----------
    event : Event

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import LinearBasis
    >>> from hybridflow.specs import Event
    >>> LinearBasis(Event.real(2, context_features=1))(torch.ones(1, 2), torch.zeros(1, 1))
    tensor([[1., 1., 0.]])
    """

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.features = event.features + event.context_features

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return ``[z, c]``."""
        z = z.flatten(1)
        return z if context is None else torch.cat([z, context.to(z.dtype)], 1)


class HiddenBasis(Basis):
    r"""One hidden layer, with a linear path beside it.

    .. math:: \phi(z, c) = \bigl[z,\; c,\;
        \mathrm{SiLU}\bigl(W\,[\,10\tanh(z/10),\, c\,] + b\bigr)\bigr]

    An invertible map with a linear model on top cannot tell concentric rings
    apart, nor bend along a single feature; this can. What the hidden layer
    sees of z is bounded, so that far away rows meet the linear path alone.

    Parameters
    ----------
    event : Event
    units : int, default=128
        Width of the hidden layer; none is built where there is no input.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import HiddenBasis
    >>> from hybridflow.specs import Event
    >>> HiddenBasis(Event.real(2), units=8)(torch.zeros(5, 2)).shape
    torch.Size([5, 10])
    """

    def __init__(self, event: Event, units: int = 128) -> None:
        super().__init__()
        self.linear = LinearBasis(event)
        inputs = self.linear.features
        self.hidden = nn.Linear(inputs, units) if inputs else None
        self.features = inputs + (units if inputs else 0)

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return ``[z, c, SiLU(W [z, c] + b)]``."""
        phi: Tensor = self.linear(z, context)
        if self.hidden is None:
            return phi
        bounded: Tensor = self.linear(10 * torch.tanh(z / 10), context)
        return torch.cat([phi, functional.silu(self.hidden(bounded))], 1)
