"""Univariate monotone maps: pure functions of a value and its parameters.

A map neither owns parameters nor knows where they come from: `Coupling`,
`MaskedAutoregressive` and `Affine` supply them. Parameters come
*parameter-major*, shape ``(n_parameters, *x.shape)``, so that each is
contiguous and x may be laid out feature-major, (d, n), which is what makes
training fast. All maps are the identity at zero parameters, move far-away
values by a bounded amount, and are increasing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor


def softly_bounded(raw: Tensor, limit: float) -> Tensor:
    r"""Keep a parameter within limits that it never reaches: :math:`L \tanh(a / L)`.

    Close to the identity around 0. A hard clamp would stop gradients.

    Parameters
    ----------
    raw : Tensor
        The parameter a.
    limit : float
        The bound L.

    Returns
    -------
    Tensor
        Of the same shape, within (-limit, limit).
    """
    return limit * torch.tanh(raw / limit)


Forward = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps x to its image and the logarithm of the derivative, with parameters bound."""


class ElementwiseMap(ABC):
    """An increasing map of the real line with a given number of parameters.

    To write one, set `n_parameters` and define `forward` and `inverse`
    elementwise; both return the value and the logarithm of the derivative of
    the direction called. Zero parameters must give the identity.
    """

    n_parameters: int
    exact_inverse: bool = True
    """Whether `inverse` is exact to rounding; False where it iterates."""

    @abstractmethod
    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Map data to latent.

        Parameters
        ----------
        x : Tensor of any shape
        params : Tensor of shape ``(n_parameters, *x.shape)``

        Returns
        -------
        y, ladj : Tensor of the shape of x
            The image and the logarithm of the derivative, in nats.
        """

    @abstractmethod
    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Map latent to data.

        Parameters
        ----------
        y : Tensor of any shape
        params : Tensor of shape ``(n_parameters, *y.shape)``

        Returns
        -------
        x, ladj : Tensor of the shape of y
            The preimage and the logarithm of the derivative of the inverse.
        """

    def rebuild(self, y: Tensor, params: Tensor) -> tuple[Tensor, Forward]:
        """Find the preimage, and the forward direction at it.

        What back-propagation needs of a map whose activations were not kept.
        Override it where `forward` can use what `inverse` found.

        Parameters
        ----------
        y : Tensor of any shape
        params : Tensor of shape ``(n_parameters, *y.shape)``

        Returns
        -------
        x : Tensor of the shape of y
            Without gradient.
        forward : callable
            `forward` with these parameters, to be called once, with x.
        """
        with torch.no_grad():
            x, _ = self.inverse(y, params)
        return x, lambda x: self.forward(x, params)


class AdditiveMap(ElementwiseMap):
    r"""A shift: :math:`y = x + b`.

    References
    ----------
    Laurent Dinh, David Krueger, Yoshua Bengio. NICE: Non-linear Independent
    Components Estimation. 2014.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import AdditiveMap
    >>> AdditiveMap().forward(torch.zeros(2), torch.ones(1, 2))[0]
    tensor([1., 1.])
    """

    n_parameters = 1

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Add the shift."""
        return x + params[0], torch.zeros_like(x)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Subtract the shift."""
        return y - params[0], torch.zeros_like(y)


class AffineMap(ElementwiseMap):
    r"""A scale and a shift with slope one far out.

    .. math:: y = b + e^{s} t + (x - t), \qquad t = \min(\max(x, -B), B),
        \qquad s = S \tanh(a / S).

    The log-scale is bounded smoothly. Beyond the box the slope is one: a
    scale that depends on rounded coordinates would multiply a value of
    :math:`10^8` by slightly different factors on the way there and back.

    Parameters
    ----------
    max_log_scale : float, default=2.0
        The bound S, in nats.
    bound : float, default=50.0
        The half-width B of the box, in units of x.

    References
    ----------
    Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using
    Real NVP. 2017.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import AffineMap
    >>> y, ladj = AffineMap().forward(torch.ones(1), torch.tensor([[2.0], [0.0]]))
    >>> y, ladj
    (tensor([3.]), tensor([0.]))
    """

    n_parameters = 2

    def __init__(self, max_log_scale: float = 2.0, bound: float = 50.0) -> None:
        self.max_log_scale = max_log_scale
        self.bound = bound

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Scale what lies within the box and shift."""
        log_scale = softly_bounded(params[1], self.max_log_scale)
        inside = x.clamp(-self.bound, self.bound)
        y = torch.exp(log_scale) * inside + (x - inside) + params[0]
        return y, log_scale * (inside == x)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Shift back and unscale what lies within the box."""
        shift, raw = params.unbind()
        log_scale = softly_bounded(raw, self.max_log_scale)
        scale = torch.exp(log_scale)
        centred = y - shift
        edge = scale * self.bound
        inside = torch.clamp(centred, -edge, edge)
        return torch.addcdiv(centred - inside, inside, scale), -log_scale * (inside == centred)
