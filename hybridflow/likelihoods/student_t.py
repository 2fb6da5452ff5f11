"""Student-t likelihoods."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.densities.positive import Degrees, log_gamma_step
from hybridflow.laws import StudentTLaw
from hybridflow.likelihoods.continuous import Continuous
from hybridflow.specs import Target


class StudentT(Continuous):
    r"""A Student-t likelihood: as the normal one, with tails as heavy as the data ask for.

    .. math:: y \sim t_\nu(\mu, \sigma), \qquad
        \mu = \eta_1, \quad \sigma = \mathrm{floor} + \log(1 + e^{\eta_2})

    in standard deviations of y around its mean. The degrees of freedom are one
    learned number between 2.05 and 100: tails need more rows than centres, and
    the variance stays finite.

    Parameters
    ----------
    target : Target
        A regression of one output.

    References
    ----------
    .. [1] Robust Statistical Modeling Using the t Distribution, K. L. Lange,
           R. J. A. Little and J. M. G. Taylor, 1989

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import StudentT
    >>> from hybridflow.specs import Target
    >>> likelihood = StudentT(Target(kind="regression"))
    >>> likelihood.law(torch.tensor([[1.0, 0.0]])).df.round(3)
    array([8.])
    """

    outputs = 2

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.degrees = Degrees(1, low=2.05)

    def log_density(self, v: Tensor, eta: Tensor) -> Tensor:
        """Return the log-density of standardised targets, shape (n, m)."""
        df: Tensor = self.degrees().to(eta.dtype)
        scale = self.spread(eta[:, 1:])
        t = (v - eta[:, :1]) / scale
        normaliser = log_gamma_step(df / 2) - 0.5 * torch.log(math.pi * df)
        return normaliser - torch.log(scale) - (df + 1) / 2 * torch.log1p(t**2 / df)

    def continuous_law(self, eta: Tensor) -> StudentTLaw:
        """Return the t laws, in the units of y."""
        location, scale = eta[:, 0].cpu().numpy(), self.spread(eta[:, 1]).cpu().numpy()
        df = self.degrees().to(eta.dtype).cpu().numpy()
        return StudentTLaw(df, self.location + self.scale * location, self.scale * scale)

    def standard_start(self, mean: float, std: float) -> Tensor:
        """Return the location and the scale that give this standard deviation."""
        df = self.degrees().item()
        scale = std * math.sqrt((df - 2) / df)
        return torch.tensor([mean, self.raw_spread(scale)], dtype=torch.float64)
