"""The normal law in operations that every ONNX runtime has in float64."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

Floats = NDArray[np.float64]

_TERMS = 32


def _coefficients() -> tuple[float, ...]:
    r"""Return the polynomial of :math:`\operatorname{erfcx}(z) / t`, with :math:`t = 2/(2+z)`.

    In :math:`2t - 1`, which lies between -1 and 1; exact to rounding.
    """

    def scaled(y: Floats) -> Floats:
        t = (y + 1) / 2
        z = 2 / np.maximum(t, 1e-300) - 2
        # At infinity erfcx(z) is 1 / (z sqrt(pi)).
        far = 0.5 / math.sqrt(math.pi)
        return np.where(t > 1e-8, special.erfcx(z) / np.maximum(t, 1e-300), far)

    fitted = np.polynomial.chebyshev.Chebyshev.interpolate(scaled, _TERMS - 1)
    return tuple(fitted.convert(kind=np.polynomial.Polynomial).coef.tolist())


COEFFICIENTS = _coefficients()


def tail(x: Tensor, coefficients: Tensor | None = None) -> Tensor:
    r"""Return the smaller of :math:`\Phi(x)` and :math:`\Phi(-x)`, with all its digits.

    ONNX has erf, but no complement of it that keeps digits, and runtimes have it in
    float32 alone. So :math:`\tfrac12 e^{-x^2/2} \operatorname{erfcx}(|x|/\sqrt2)`, with erfcx
    a polynomial in :math:`2 / (2 + |x|/\sqrt2)`.

    Parameters
    ----------
    x : Tensor
    coefficients : Tensor of shape (32,), optional
        `COEFFICIENTS`, where no tensor may be made: in the body of a loop.

    References
    ----------
    Press, Teukolsky, Vetterling, Flannery: "Numerical Recipes", section 6.2.2, 2007.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.export.normal import tail
    >>> [f"{p:.4e}" for p in tail(torch.tensor([0.0, -3.0, 30.0], dtype=torch.float64)).tolist()]
    ['5.0000e-01', '1.3499e-03', '4.9067e-198']
    """
    z = x.abs() / math.sqrt(2)
    t = 2 / (2 + z)
    y = (2 * t - 1)[..., None]
    powers, square = torch.cat([torch.ones_like(y), y], -1), y * y
    while powers.shape[-1] < _TERMS:  # doubled at each turn
        powers = torch.cat([powers, powers * square], -1)
        square = square * square
    if coefficients is None:
        coefficients = torch.tensor(COEFFICIENTS, dtype=x.dtype)
    series = powers @ coefficients
    return 0.5 * t * series * torch.exp(-x.square() / 2)
