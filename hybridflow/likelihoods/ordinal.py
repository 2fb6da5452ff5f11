"""Classes that have an order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hybridflow.densities.positive import softplus
from hybridflow.errors import ConfigError
from hybridflow.laws import CategoricalLaw
from hybridflow.likelihoods.base import Likelihood, TargetBatch
from hybridflow.likelihoods.classes import class_shares, nll_of_classes
from hybridflow.likelihoods.links import ProbabilityLink
from hybridflow.specs import Target

_NARROWEST = 1e-6
"""Smallest distance of neighbouring cutpoints."""


class Ordinal(Likelihood):
    r"""A cumulative likelihood: one latent number, cut into classes.

    .. math:: P(y \le j) = F(c_j - \eta), \qquad
        c_0 = 0, \quad c_{j+1} = c_j + 10^{-6} + \log(1 + e^{r_j})

    One eta moves all classes at once, and the cutpoints, which all rows share,
    increase whatever is learned; the first is 0 because eta has an intercept.
    With the logistic link these are proportional odds, with the complementary
    log-log link proportional hazards.

    Parameters
    ----------
    target : Target
        With at least two classes; ``order`` says which is lowest, the next,
        and so on, where that is not the order in which they are sorted.
    link : ProbabilityLink

    Raises
    ------
    ConfigError
        If the target has fewer classes.

    References
    ----------
    .. [1] Regression Models for Ordinal Data, P. McCullagh, 1980

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import Ordinal
    >>> from hybridflow.likelihoods.links import Logit
    >>> from hybridflow.specs import Target
    >>> target = Target(kind="classification", classes=("low", "middle", "high"))
    >>> Ordinal(target, Logit()).law(torch.zeros(1, 1)).probabilities.round(3)
    array([[0.5  , 0.167, 0.333]])
    """

    outputs = 1
    order: Tensor
    rank: Tensor

    def __init__(self, target: Target, link: ProbabilityLink) -> None:
        super().__init__()
        if len(target.classes) < 2:
            raise ConfigError(
                f"an ordinal head needs at least two classes, got {list(target.classes)!r}"
            )
        self.classes = target.classes
        order = torch.tensor(target.order or range(len(self.classes)))
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("rank", torch.argsort(order), persistent=False)
        self.link = link
        self.raw_gaps = nn.Parameter(torch.zeros(len(self.classes) - 2))

    def gaps(self) -> Tensor:
        """Return the distances of neighbouring cutpoints, float64 of shape (classes - 2,)."""
        return _NARROWEST + softplus(self.raw_gaps.to(torch.float64))

    def log_probabilities(self, eta: Tensor) -> Tensor:
        """Return the logarithms of the class probabilities, float64 of shape (n, classes)."""
        first = self.link.limited(-eta.to(torch.float64))
        gaps = self.gaps()
        above = first + torch.cumsum(gaps, 0)
        lower = torch.cat([first, above], 1)  # each cutpoint, seen from eta
        parts = [
            self.link.log_cdf(first),
            self.link.log_between(lower[:, :-1], gaps),
            self.link.log_sf(lower[:, -1:]),
        ]
        return torch.cat(parts, 1)[:, self.rank]

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log P(y | eta) of shape (n,), float64; 0 where unlabelled."""
        return nll_of_classes(self.log_probabilities, eta, targets)

    def law(self, eta: Tensor) -> CategoricalLaw:
        """Return the class probabilities."""
        with torch.no_grad():
            logs = self.log_probabilities(eta.detach()).cpu()
        return CategoricalLaw(logs.exp().numpy(), self.classes, logs.numpy())

    def _cuts(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the cutpoints of the weighted class frequencies, around an eta of 0."""
        share = class_shares(targets, weight, len(self.classes))
        return self.link.eta(torch.cumsum(share[self.order], 0)[:-1])

    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the eta of the weighted class frequencies, slightly smoothed."""
        return -self._cuts(targets, weight)[:1]

    def initialize(self, targets: TargetBatch, weight: Tensor) -> None:
        """Start the cutpoints from the weighted class frequencies."""
        gaps = (torch.diff(self._cuts(targets, weight)) - _NARROWEST).clamp(min=_NARROWEST)
        with torch.no_grad():
            self.raw_gaps.copy_(gaps + torch.log(-torch.expm1(-gaps)))
