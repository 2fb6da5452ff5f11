"""Positive numbers whose spread grows with their mean."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from hybridflow.laws import Discretized, GammaLaw, Law
from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.likelihoods.dispersion import Dispersion
from hybridflow.likelihoods.links import PositiveLink
from hybridflow.likelihoods.ranges import expect_one_output, refuse
from hybridflow.likelihoods.stirling import stirling_rest
from hybridflow.specs import Target

_CELL = 4.0
"""Widest cell of a lattice, in standard deviations."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(math.ceil(8 + 3 * _CELL))


class Gamma(Likelihood):
    r"""A gamma likelihood.

    .. math:: E[y] = \mu, \qquad \operatorname{Var}[y] = \phi\mu^2, \qquad
        g(\mu / m) = \eta_1, \quad \log\phi = \eta_2

    with the weighted mean m of y as the unit, so that eta does not depend on
    the units of y. Under the logarithmic link effects are relative changes.
    Predictors are tempered to their logarithm beyond what float64 holds.

    A target on a lattice of step s is scored by the mass of its cell, as in
    `Continuous`, and no standard deviation is below a quarter of it: then
    :math:`\phi` becomes :math:`\phi + (s / 4\mu)^2`.

    Parameters
    ----------
    target : Target
        A regression of one output, of positive numbers.
    link : PositiveLink
    per_row : bool, default=True
        Whether the dispersion depends on the row; else one is learned for all.

    Raises
    ------
    ConfigError
        If the target has more than one output.

    References
    ----------
    .. [1] Generalized Linear Models, P. McCullagh and J. A. Nelder, 1989

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Gamma
    >>> from hybridflow.likelihoods.links import Log
    >>> from hybridflow.specs import Target
    >>> likelihood = Gamma(Target(kind="regression", location=(5.0,), scale=(2.0,)), Log())
    >>> likelihood.law(torch.zeros(1, 2)).mean()
    array([5.])
    """

    def __init__(self, target: Target, link: PositiveLink, per_row: bool = True) -> None:
        super().__init__()
        expect_one_output(target)
        self.link = link
        self.unit = target.location[0] if target.location[0] > 0 else target.scale[0]
        self.step = target.step
        self.dispersion = Dispersion(per_row)
        self.outputs = 1 + self.dispersion.outputs

    def _mean_and_shape(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithm of the mean in units, and the shape, each of shape (n,)."""
        log_mean = self.link.log_mean(eta[:, 0])
        dispersion = torch.exp(self.dispersion(eta[:, 1:]))
        if self.step > 0:
            dispersion = dispersion + (self.step / self.unit / _CELL * torch.exp(-log_mean)) ** 2
        return log_mean, 1 / dispersion

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log p(y | eta), or -log P(y | eta) on a lattice, float64; 0 where unlabelled."""
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0].to(torch.float64), self.unit)
        eta = torch.where(observed[:, None], eta.to(torch.float64), 0.0)
        log_mean, shape = self._mean_and_shape(eta)
        if self.step > 0:
            half = self.step / 2
            points = y[:, None] + half * y.new_tensor(_NODES)
            density = self._log_density(points, log_mean[:, None], shape[:, None])
            log_prob = torch.logsumexp(density + y.new_tensor(np.log(_WEIGHTS)), 1) + math.log(half)
        else:
            log_prob = self._log_density(y, log_mean, shape)
        return torch.where(observed, -log_prob, 0.0)

    def _log_density(self, y: Tensor, log_mean: Tensor, shape: Tensor) -> Tensor:
        log_y = torch.log(y.clamp(min=torch.finfo(torch.float64).tiny))
        # By the distance from the mean, so that nothing cancels for large shapes.
        d = log_y - math.log(self.unit) - log_mean
        kernel = shape * (d - torch.expm1(d))
        return kernel + 0.5 * torch.log(shape / (2 * math.pi)) - stirling_rest(shape) - log_y

    def law(self, eta: Tensor) -> Law:
        """Return the gamma laws, in the units of y; rounded to the lattice if any."""
        with torch.no_grad():
            log_mean, shape = self._mean_and_shape(eta.detach().to(torch.float64))
        mean = self.unit * torch.exp(log_mean)
        law = GammaLaw(mean.cpu().numpy(), shape.cpu().numpy())
        return Discretized(law, self.step) if self.step > 0 else law

    def _moments(self, targets: TargetBatch, weight: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return the weighted mean in units, and a dispersion close to the most likely one.

        .. math:: s = \log E[y] - E[\log y], \qquad
            \phi \approx \frac{12 s}{3 - s + \sqrt{(s - 3)^2 + 24 s}}

        References
        ----------
        .. [1] Estimating a Gamma Distribution, T. P. Minka, 2002
        """
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0].to(torch.float64), self.unit) / self.unit
        share = torch.where(observed, weight.to(torch.float64), 0.0)
        share = share / share.sum()
        mean = (share * y).sum()
        s = (torch.log(mean) - (share * torch.log(y)).sum()).clamp(min=0.0)
        return mean, 12 * s / (3 - s + torch.sqrt((s - 3) ** 2 + 24 * s))

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the eta of the weighted mean and dispersion."""
        mean, dispersion = self._moments(targets, weight)
        return torch.cat([self.link.eta(mean)[None], self.dispersion.start(dispersion)])

    def initialize(self, targets: TargetBatch, weight: Tensor) -> None:
        """Start a dispersion that rows share from that of all of them."""
        self.dispersion.initialize(self._moments(targets, weight)[1])

    def check(self, targets: TargetBatch) -> None:
        """Raise for numbers that are not positive.

        Raises
        ------
        InputError
            How many values are not, and where the first one is.
        """
        observed = targets.observed[:, 0]
        y = torch.where(observed, targets.values[:, 0].to(torch.float64), 1.0)
        instead = "remove them, or use head='mixture'"
        refuse(y, ~(y > 0), "Gamma needs y > 0", "values that are not", instead)
