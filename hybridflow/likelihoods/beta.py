"""Shares: numbers between 0 and 1."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.laws import BetaLaw
from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.likelihoods.dispersion import Dispersion
from hybridflow.likelihoods.links import Logit, tempered, untempered
from hybridflow.likelihoods.ranges import expect_one_output, refuse
from hybridflow.likelihoods.stirling import log_beta_rest
from hybridflow.specs import Target

_NARROWEST = 1e-4
"""Smallest distance of a mean from 0 and 1 that training starts from."""


class Beta(Likelihood):
    r"""A beta likelihood, with the logistic link.

    .. math:: E[y] = \mu, \qquad \operatorname{Var}[y] = \frac{\mu(1 - \mu)}{1 + \phi}, \qquad
        \log\frac{\mu}{1 - \mu} = \eta_1, \quad \log\phi = \eta_2

    Beyond 20 and 12 in size the predictors are tempered to their logarithms.

    Parameters
    ----------
    target : Target
        A regression of one output, of numbers between 0 and 1.
    per_row : bool, default=True
        Whether the precision depends on the row; else one is learned for all.

    Raises
    ------
    ConfigError
        If the target has more than one output.

    References
    ----------
    .. [1] Beta Regression for Modelling Rates and Proportions, S. Ferrari and
           F. Cribari-Neto, 2004

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Beta
    >>> from hybridflow.specs import Target
    >>> Beta(Target(kind="regression")).law(torch.zeros(1, 2)).mean()
    array([0.5])
    """

    def __init__(self, target: Target, per_row: bool = True) -> None:
        super().__init__()
        expect_one_output(target)
        self.link = Logit()
        self.precision = Dispersion(per_row)
        self.outputs = 1 + self.precision.outputs

    def _parameters_of(self, eta: Tensor) -> tuple[Tensor, Tensor]:
        """Return alpha and beta, each of shape (n,)."""
        logit, log_precision = tempered(eta[:, 0]), self.precision(eta[:, 1:])
        alpha = torch.exp(log_precision + self.link.log_cdf(logit))
        return alpha, torch.exp(log_precision + self.link.log_sf(logit))

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log p(y | eta) of shape (n,), float64; 0 where unlabelled."""
        observed = targets.observed[:, 0]
        y = _shares(targets)
        eta = torch.where(observed[:, None], eta.to(torch.float64), 0.0)
        logit, (alpha, beta) = tempered(eta[:, 0]), self._parameters_of(eta)
        # By the distance from the mean, so that nothing cancels for high precisions.
        low, high = torch.log(y), torch.log1p(-y)
        powers = alpha * (self.link.log_cdf(logit) - low) + beta * (self.link.log_sf(logit) - high)
        return torch.where(observed, powers + log_beta_rest(alpha, beta) + low + high, 0.0)

    def law(self, eta: Tensor) -> BetaLaw:
        """Return the beta laws."""
        with torch.no_grad():
            parameters = self._parameters_of(eta.detach().to(torch.float64))
        return BetaLaw(*(part.cpu().numpy() for part in parameters))

    def _moments(self, targets: TargetBatch, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted mean, and the precision of the weighted variance."""
        y = _shares(targets)
        share = torch.where(targets.observed[:, 0], weight.to(torch.float64), 0.0)
        share = share / share.sum()
        mean = (share * y).sum()
        variance = (share * (y - mean) ** 2).sum()
        mean = mean.clamp(_NARROWEST, 1 - _NARROWEST)
        return mean, (mean * (1 - mean) / variance.clamp(min=1e-300) - 1).clamp(min=1e-2)

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the eta of the weighted mean and precision."""
        mean, precision = self._moments(targets, weight)
        return torch.cat([untempered(self.link.eta(mean))[None], self.precision.start(precision)])

    def initialize(self, targets: TargetBatch, weight: Tensor) -> None:
        """Start a precision that rows share from their variance."""
        self.precision.initialize(self._moments(targets, weight)[1])

    def check(self, targets: TargetBatch) -> None:
        """Raise for numbers that are not between 0 and 1.

        Raises
        ------
        InputError
            How many values are not, and where the first one is.
        """
        y = _shares(targets)
        refuse(
            y,
            (y < 0) | (y > 1),
            "Beta needs 0 < y < 1",
            "values beyond",
            "divide by the total, y = y / total, or use head='mixture'",
        )
        refuse(
            y,
            (y == 0) | (y == 1),
            "Beta needs 0 < y < 1",
            "values at the ends",
            "move them inside, y = (y * (len(y) - 1) + 0.5) / len(y)",
        )


def _shares(targets: TargetBatch) -> Tensor:
    return torch.where(targets.observed[:, 0], targets.values[:, 0].to(torch.float64), 0.5)
