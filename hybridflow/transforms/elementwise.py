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

import torch
from torch import Tensor


class ElementwiseMap(ABC):
    """An increasing map of the real line with a given number of parameters.

    To write one, set `n_parameters` and define `forward` and `inverse`
    elementwise; both return the value and the logarithm of the derivative of
    the direction called. Zero parameters must give the identity.
    """

    n_parameters: int

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

    def _log_scale(self, raw: Tensor) -> Tensor:
        return self.max_log_scale * torch.tanh(raw / self.max_log_scale)

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Scale what lies within the box and shift."""
        log_scale = self._log_scale(params[1])
        inside = x.clamp(-self.bound, self.bound)
        y = torch.exp(log_scale) * inside + (x - inside) + params[0]
        return y, log_scale * (inside == x)

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Shift back and unscale what lies within the box."""
        log_scale = self._log_scale(params[1])
        scale = torch.exp(log_scale)
        centred = y - params[0]
        edge = scale * self.bound
        inside = torch.minimum(torch.maximum(centred, -edge), edge)
        return inside / scale + (centred - inside), -log_scale * (inside == centred)
