"""Networks that bring any two points closer together, and their Jacobians."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from hybridflow.errors import ConfigError
from hybridflow.nets import SQUASH_LIMIT, checked_context, squash
from hybridflow.transforms.spectral import spectral_bound

Activation = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps x and a positive sharpness to a value and its slope, which lies within [-1, 1]."""

_STEEPEST = 1.1
"""No Swish function is steeper than 1.09984."""

_BLUNTEST = 0.1
"""Floor of the sharpness, which starts at 1."""


def sine(x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the sine activation and its derivative, which lies within [-1, 1].

    .. math:: \phi(x) = \frac{\sin \beta x}{\beta}

    It begins with slope 1, so that a stack of layers begins with the whole of
    the slope that it is allowed, and its slope is nowhere flat.

    Parameters
    ----------
    x : Tensor
    beta : Tensor of shape ()
        Positive.

    Returns
    -------
    value, slope : Tensor of the shape of x

    References
    ----------
    Cheng Lu, Jianfei Chen, Chongxuan Li, Qiuhao Wang, Jun Zhu. Implicit
    Normalizing Flows. 2021.
    """
    angle = beta * x
    return torch.sin(angle) / beta, torch.cos(angle)


def lip_swish(x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the LipSwish activation and its derivative, which lies within (-1, 1).

    .. math:: \phi(x) = \frac{x\,\sigma(\beta x)}{1.1}

    Parameters
    ----------
    x : Tensor
    beta : Tensor of shape ()
        Positive.

    Returns
    -------
    value, slope : Tensor of the shape of x

    References
    ----------
    Ricky Chen, Jens Behrmann, David Duvenaud, Jörn-Henrik Jacobsen. Residual
    Flows for Invertible Generative Modeling. 2019.
    """
    gate = torch.sigmoid(beta * x)
    value = x * gate / _STEEPEST
    return value, gate / _STEEPEST + beta * value * (1 - gate)


@dataclass(frozen=True)
class Linearised:
    r"""The Jacobian of a network at n rows, kept as its factors.

    .. math:: J = W_L\, \Phi_{L-1} \cdots \Phi_1\, W_1\, \Phi_0

    with diagonal :math:`\Phi_l`: the slopes of the activations of a row.

    Parameters
    ----------
    weights : list of Tensor
        :math:`W_1, \dots, W_L`.
    slopes : list of Tensor
        The diagonals of :math:`\Phi_0, \dots, \Phi_{L-1}`, a row for each.
    """

    weights: list[Tensor]
    slopes: list[Tensor]

    def transposed(self) -> Tensor:
        """Return the transpose of J, dense, of shape (n, d, d)."""
        product = self.slopes[0][:, :, None] * self.weights[0].t()
        for weight, slope in zip(self.weights[1:], self.slopes[1:], strict=True):
            product = linear(product * slope[:, None, :], weight)
        return product

    def times(self, v: Tensor) -> Tensor:
        """Return J v for every row, shape (n, d)."""
        for weight, slope in zip(self.weights, self.slopes, strict=True):
            v = linear(v * slope, weight)
        return v

    def transposed_times(self, v: Tensor) -> Tensor:
        """Return the transpose of J times v for every row, shape (n, d)."""
        for weight, slope in zip(reversed(self.weights), reversed(self.slopes), strict=True):
            v = (v @ weight) * slope
        return v

    def rows(self, part: slice) -> Linearised:
        """Return the Jacobians of some rows."""
        return Linearised(self.weights, [slope[part] for slope in self.slopes])


@dataclass(frozen=True)
class Contraction:
    """A contractive network as a function of x alone.

    Parameters
    ----------
    weights : list of Tensor
        The matrices as they are used, each of bounded spectral norm.
    first : Tensor of shape (n, h)
        Bias of the first layer, in which the context is.
    biases : list of Tensor
        Of the other layers.
    betas : list of Tensor
        Sharpness of the activations.
    activation : callable
    """

    weights: list[Tensor]
    first: Tensor
    biases: list[Tensor]
    betas: list[Tensor]
    activation: Activation

    def linearise(self, x: Tensor) -> tuple[Tensor, Linearised]:
        """Return g(x), shape (n, d), and its Jacobian."""
        h = squash(x)
        slopes = [1 - (h / SQUASH_LIMIT).square()]
        h = linear(h, self.weights[0]) + self.first
        for weight, bias, beta in zip(self.weights[1:], self.biases, self.betas, strict=True):
            h, slope = self.activation(h, beta)
            slopes.append(slope)
            h = linear(h, weight, bias)
        return h, Linearised(self.weights, slopes)

    def rows(self, part: Tensor) -> Contraction:
        """Return the function for some rows."""
        return replace(self, first=self.first[part])


class ContractiveMLP(nn.Module):
    r"""A perceptron of Lipschitz constant below 1 in x, which starts at zero.

    .. math:: h_0 = 10\tanh(x/10), \qquad h_{l+1} = \phi(\bar W_l h_l + b_l), \qquad
        g(x, c) = \bar W_L h_L + b_L, \qquad
        \bar W = W \frac{\ell}{\max(\ell, b(W))}

    with :math:`\phi` an activation of slope at most 1, b the bound of `spectral_bound`
    and :math:`\ell` the root of `lipschitz` of as many factors as there are
    matrices, so that :math:`|g(x) - g(x')| \le \mathrm{lipschitz}\,|x - x'|` holds
    whatever the parameters are. The context feeds the first layer, unbounded.

    Parameters
    ----------
    features : int
        Width of x and of the output.
    hidden : tuple of int
        Widths of the hidden layers; at least one.
    lipschitz : float, default=0.9
        Bound of the Lipschitz constant, below 1.
    context_features : int, default=0
        Width of the context.
    activation : callable, default=sine
        The activation: `sine` or `lip_swish`.

    Raises
    ------
    ConfigError
        If `hidden` is empty or `lipschitz` is not between 0 and 1.

    References
    ----------
    Jens Behrmann, Will Grathwohl, Ricky Chen, David Duvenaud, Jörn-Henrik
    Jacobsen. Invertible Residual Networks. 2019.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms.contractive import ContractiveMLP
    >>> x = torch.randn(5, 2)
    >>> value, jacobian = ContractiveMLP(2, (8,)).bind(x).linearise(x)
    >>> value.shape, jacobian.transposed().shape
    (torch.Size([5, 2]), torch.Size([5, 2, 2]))
    """

    def __init__(
        self,
        features: int,
        hidden: tuple[int, ...],
        lipschitz: float = 0.9,
        context_features: int = 0,
        activation: Activation = sine,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ConfigError("hidden: a contractive network needs at least one layer, got ()")
        if not 0 < lipschitz < 1:
            raise ConfigError(f"lipschitz: expected a number between 0 and 1, got {lipschitz}")
        self.lipschitz = lipschitz
        self.activation = activation
        self.context_features = context_features
        widths = (features, *hidden, features)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.context = (
            nn.Linear(context_features, hidden[0], bias=False) if context_features else None
        )
        self.raw_beta = nn.Parameter(
            torch.full((len(hidden),), math.log(math.expm1(1 - _BLUNTEST)))
        )
        # Equal singular values: what is bounded by the largest is not small by the others.
        *others, last = self._layers()
        for layer in others:
            nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def _layers(self) -> list[nn.Linear]:
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def bind(self, x: Tensor, context: Tensor | None = None) -> Contraction:
        """Return g as a function of x alone, its matrices bounded once.

        Parameters
        ----------
        x : Tensor of shape (n, d)
            Of which only the number of rows counts.
        context : Tensor of shape (n, context_features), optional
        """
        layers = self._layers()
        limit = self.lipschitz ** (1 / len(layers))
        first = layers[0].bias.expand(x.shape[0], -1)
        context = checked_context(context, self.context_features)
        if self.context is not None and context is not None:
            first = first + self.context(squash(context))
        return Contraction(
            weights=[
                layer.weight * (limit / spectral_bound(layer.weight).clamp(min=limit))
                for layer in layers
            ],
            first=first,
            biases=[layer.bias for layer in layers[1:]],
            betas=list(_BLUNTEST + softplus(self.raw_beta)),
            activation=self.activation,
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return g(x, c), shape (n, d)."""
        return self.bind(x, context).linearise(x)[0]
