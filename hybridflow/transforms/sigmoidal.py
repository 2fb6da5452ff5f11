"""Deep sigmoidal curves: two layers of sigmoid units with positive weights."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.transforms.anchored import AnchoredMap
from hybridflow.transforms.elementwise import softly_bounded
from hybridflow.transforms.logistic_mixture import (
    MAX_LOG_SCALE,
    MAX_MEAN,
    mix_sigmoids,
    offsets,
)


class DeepSigmoidalMap(AnchoredMap):
    r"""A monotone network of two layers of sigmoid units.

    .. math::
        h_i(x) = \mathrm{logit} \sum_{j=1}^{H} W_{ij}\,
        \sigma\!\Bigl(\frac{x - \mu_j}{s_j}\Bigr), \qquad
        g(x) = \mathrm{logit} \sum_{i=1}^{H} w_i\,
        \sigma\!\Bigl(\frac{h_i(x) - \nu_i}{r_i}\Bigr)

    is the curve of an `AnchoredMap`. Rows of W and w are softmaxes, so that
    both layers increase. The first layer's units are shared by the H mixtures
    that the second one reads. The derivative is the chain rule, in logarithms.
    Centres and scales are bounded as in `LogisticMixtureMap`; there are
    :math:`H^2 + 5H` parameters.

    Parameters
    ----------
    units : int, default=4
        Number H of units in each layer.
    bound : float, default=50.0
        Half-width of the box beyond which the slope is one, in units of x.

    References
    ----------
    Chin-Wei Huang, David Krueger, Alexandre Lacoste, Aaron Courville. Neural
    Autoregressive Flows. 2018.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import DeepSigmoidalMap
    >>> network = DeepSigmoidalMap(units=3)
    >>> x = torch.tensor([-9.0, 0.5])
    >>> params = torch.randn(network.n_parameters, 2)
    >>> back, _ = network.inverse(network.forward(x, params)[0], params)
    >>> torch.allclose(back, x, atol=1e-4)
    True
    """

    def __init__(self, units: int = 4, bound: float = 50.0) -> None:
        if units < 2:
            raise ConfigError(f"units: a layer needs at least 2, got {units}")
        super().__init__(bound)
        self.units = units
        self.n_parameters = units**2 + 5 * units

    def curve(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate both layers."""
        units = self.units
        shape = params.shape[1:]
        weights = params[: units**2].view(units, units, *shape)  # of unit j in mixture i
        vectors = params[units**2 :].view(5, units, *shape)

        inner = self._centred(x, vectors[0], vectors[1])
        inner_slope = -softly_bounded(vectors[1], MAX_LOG_SCALE)
        hidden, slope = mix_sigmoids(inner.unsqueeze(1), inner_slope.unsqueeze(1), weights)

        outer = self._centred(hidden, vectors[2], vectors[3])
        outer_slope = slope - softly_bounded(vectors[3], MAX_LOG_SCALE)
        return mix_sigmoids(outer, outer_slope, vectors[4])

    def _centred(self, x: Tensor, shift: Tensor, raw_scale: Tensor) -> Tensor:
        center = offsets(self.units, shift[0]) + softly_bounded(shift, MAX_MEAN)
        return (x - center) * torch.exp(-softly_bounded(raw_scale, MAX_LOG_SCALE))
