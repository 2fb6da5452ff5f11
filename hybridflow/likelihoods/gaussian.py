"""Normal likelihoods, with one spread or a spread per row."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hybridflow.laws import GaussianLaw
from hybridflow.likelihoods.continuous import Continuous
from hybridflow.specs import Target


class Gaussian(Continuous):
    r"""A normal likelihood.

    .. math:: y \sim N(\mu, \sigma^2), \qquad
        \mu = \eta_1, \quad \sigma = \mathrm{floor} + \log(1 + e^{\eta_2})

    in standard deviations of y around its mean.

    Parameters
    ----------
    target : Target
        A regression of one output.
    per_row : bool, default=True
        Whether the spread depends on the row; else one is learned for all,
        starting from the standard deviation of y.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Gaussian
    >>> from hybridflow.specs import Target
    >>> likelihood = Gaussian(Target(kind="regression", location=(5.0,), scale=(2.0,)))
    >>> likelihood.law(torch.tensor([[1.0, 0.0]])).mean()
    array([7.])
    """

    def __init__(self, target: Target, per_row: bool = True) -> None:
        super().__init__(target)
        self.outputs = 2 if per_row else 1
        shared = torch.tensor(self.raw_spread(1.0))
        self.shared = None if per_row else nn.Parameter(shared)

    def _mean_and_std(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        if self.shared is None:
            return eta[:, :1], self.spread(eta[:, 1:])
        return eta, self.spread(self.shared.to(eta.dtype)).expand(eta.shape)

    def log_density(self, v: Tensor, eta: Tensor) -> Tensor:
        """Return the log-density of standardised targets, shape (n, m)."""
        mean, std = self._mean_and_std(eta)
        return -0.5 * ((v - mean) / std) ** 2 - torch.log(std) - 0.5 * math.log(2 * math.pi)

    def continuous_law(self, eta: Tensor) -> GaussianLaw:
        """Return the normal laws, in the units of y."""
        mean, std = (part[:, 0].cpu().numpy() for part in self._mean_and_std(eta))
        return GaussianLaw(self.location + self.scale * mean, self.scale * std)

    def standard_start(self, mean: float, std: float) -> Tensor:
        """Return the mean, and the spread unless it is shared."""
        start = torch.tensor([mean, self.raw_spread(std)], dtype=torch.float64)
        return start[: self.outputs]
