"""Mixtures of logistic distributions as maps: the curve of Flow++."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.transforms.anchored import AnchoredMap
from hybridflow.transforms.elementwise import softly_bounded

MAX_MEAN = 10.0
# Units begin this far from the middle. Wider, the curve at the start is less steep in the
# middle, which bounds the slope from below; closer, units take longer to part.
_SPREAD = 0.5
MAX_LOG_SCALE = 2.5


def mix_sigmoids(u: Tensor, log_slope: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the log-odds of a weighted mean of sigmoids, and their slope.

    .. math:: g = \mathrm{logit} \sum_k w_k\, \sigma(u_k), \qquad
        g' = \frac{\sum_k w_k\, \sigma(u_k)\, \sigma(-u_k)\, u_k'}
        {\sum_k w_k\, \sigma(u_k) \; \sum_k w_k\, \sigma(-u_k)}.

    Computed from logarithms, with
    :math:`\log\sigma(\pm u) = \pm u/2 - \log(2\cosh(u/2))`, so that both tails
    keep all digits. Since :math:`p(1 - p)` is concave, :math:`g'` is at most
    the largest :math:`u_k'`.

    Parameters
    ----------
    u : Tensor of shape (K, ...)
        Increasing functions of x.
    log_slope : Tensor of shape (K, ...)
        Logarithms of their derivatives.
    log_weight : Tensor of shape (K, ...)
        Defined up to a constant: the weights are normalised here.

    Returns
    -------
    value, log_slope : Tensor of shape (...)
    """
    log_weight = log_weight.log_softmax(dim=0)
    size = u.abs() / 2
    log_cosh = size + torch.log1p(torch.exp(-2 * size))
    log_part = log_weight - log_cosh
    below = torch.logsumexp(log_part + u / 2, dim=0)
    above = torch.logsumexp(log_part - u / 2, dim=0)
    spread = torch.logsumexp(log_part - log_cosh + log_slope, dim=0)
    return below - above, spread - below - above


def offsets(units: int, like: Tensor) -> Tensor:
    """Return where the units of a layer are centred at the start: apart, so that they can part.

    Parameters
    ----------
    units : int
        Number K of units.
    like : Tensor
        Whose shape, dtype and device decide those of the result.

    Returns
    -------
    Tensor of shape (K, 1, ..., 1)
        Which broadcasts against (K, \\*like.shape).
    """
    spread = torch.linspace(-_SPREAD, _SPREAD, units, dtype=like.dtype, device=like.device)
    return spread.view(-1, *[1] * like.dim())


class LogisticMixtureMap(AnchoredMap):
    r"""The quantile of a mixture of logistic distributions, scaled and shifted.

    .. math:: g(x) = e^{a}\, \mathrm{logit} \sum_{k=1}^{K} w_k\,
        \sigma\!\Bigl(\frac{x - \mu_k}{s_k}\Bigr) + b

    is the curve of an `AnchoredMap`: it takes the mixture to a logistic
    distribution. Its parameters are K logits of the weights, K means, K
    log-scales, a and b. Means lie between -0.5 and 0.5 at the start and stay
    within 10 of there; log-scales and a stay within 2.5 of 0, all smoothly.

    Parameters
    ----------
    components : int, default=8
        Number K of logistic distributions.
    bound : float, default=50.0
        Half-width of the box beyond which the slope is one, in units of x.

    References
    ----------
    Jonathan Ho, Xi Chen, Aravind Srinivas, Yan Duan, Pieter Abbeel. Flow++:
    Improving Flow-Based Generative Models with Variational Dequantization and
    Architecture Design. 2019.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import LogisticMixtureMap
    >>> mixture = LogisticMixtureMap(components=4)
    >>> x = torch.tensor([-9.0, 0.5])
    >>> params = torch.randn(mixture.n_parameters, 2)
    >>> back, _ = mixture.inverse(mixture.forward(x, params)[0], params)
    >>> torch.allclose(back, x, atol=1e-4)
    True
    """

    def __init__(self, components: int = 8, bound: float = 50.0) -> None:
        if components < 2:
            raise ConfigError(f"components: a mixture needs at least 2, got {components}")
        super().__init__(bound)
        self.components = components
        self.n_parameters = 3 * components + 2

    def curve(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the mixture's log-odds, scaled and shifted."""
        log_weight, shift, raw_scale = params[: 3 * self.components].chunk(3)
        mean = offsets(self.components, x) + softly_bounded(shift, MAX_MEAN)
        log_scale = softly_bounded(raw_scale, MAX_LOG_SCALE)
        value, log_slope = mix_sigmoids((x - mean) * torch.exp(-log_scale), -log_scale, log_weight)
        stretch = softly_bounded(params[-2], MAX_LOG_SCALE)
        return torch.exp(stretch) * value + params[-1], stretch + log_slope
