"""Bases phi(z, c): what a generalized linear model is linear in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise

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


class Dropout(nn.Module):
    """Sets random numbers to zero in training, and scales the others up.

    The draws come from a state of its own, which is a buffer: training leaves the
    caller's random state alone, and goes on after a checkpoint as if not stopped.

    Parameters
    ----------
    rate : float
        Chance of a zero.

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov: "Dropout: a simple way to
    prevent neural networks from overfitting", 2014.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.basis import Dropout
    >>> sorted(set(Dropout(0.5)(torch.ones(100)).tolist()))
    [0.0, 2.0]
    """

    seed: Tensor
    count: Tensor

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.window: tuple[int, int] | None = None
        self.register_buffer("seed", torch.randint(2**62, ()))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return x, or in training x with zeros."""
        if not self.training or self.rate == 0:
            return x
        generator = torch.Generator().manual_seed(int(self.seed) + int(self.count))
        self.count += 1
        # Rows that are a part of a batch meet the draws that they have in the whole of it.
        start, total = self.window or (0, len(x))
        draws = torch.rand(total, *x.shape[1:], generator=generator, dtype=torch.float32)
        kept = draws[start : start + len(x)] >= self.rate
        return x * kept.to(x) / (1 - self.rate)


class HiddenBasis(Basis):
    r"""Hidden layers, with a linear path beside them.

    .. math:: \phi(z, c) = [z,\; c,\; g h_L], \qquad
        h_l = \mathrm{SiLU}(W_l h_{l-1} + b_l), \qquad h_0 = [\,10\tanh(z/10),\, c\,]

    An invertible map with a linear model on top cannot tell concentric rings
    apart, nor bend along a single feature; this can. What the hidden layers
    see of z is bounded, so that far away rows meet the linear path alone. The
    gain g is 1, and less where training rows are few: a step of the optimiser
    then moves the hidden path by less, and the linear path comes first.

    Parameters
    ----------
    event : Event
    units : int, default=128
        Width of each hidden layer; none is built where there is no input.
    layers : int, default=1
    dropout : float, default=0.0
        Share of each hidden layer that a training step leaves out.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import HiddenBasis
    >>> from hybridflow.specs import Event
    >>> HiddenBasis(Event.real(2), units=8)(torch.zeros(5, 2)).shape
    torch.Size([5, 10])
    """

    gain: Tensor

    def __init__(
        self, event: Event, units: int = 128, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones(()))
        self.linear = LinearBasis(event)
        inputs = self.linear.features
        widths = [inputs, *[units] * layers] if inputs else []
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.dropouts = nn.ModuleList(Dropout(dropout) for _ in self.hidden)
        self.features = inputs + (units if inputs else 0)

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return ``[z, c, g h_L]``."""
        phi: Tensor = self.linear(z, context)
        if not self.hidden:
            return phi
        h: Tensor = self.linear(10 * torch.tanh(z / 10), context)
        for layer, dropout in zip(self.hidden, self.dropouts, strict=True):
            h = dropout(functional.silu(layer(h)))
        return torch.cat([phi, self.gain * h], 1)
