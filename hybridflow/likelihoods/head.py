"""The head made of a basis and a likelihood."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hybridflow.errors import InputError
from hybridflow.laws import Law
from hybridflow.likelihoods.base import Head, Likelihood, TargetBatch
from hybridflow.likelihoods.basis import Basis


class GeneralizedLinear(Head):
    r"""A generalized linear model on a basis of the latent.

    .. math:: \eta = A\,\phi(z, c) + b + \mathrm{offset}, \qquad
        y \sim \mathrm{likelihood}(\eta)

    An offset, the logarithm of an exposure, is added to the outputs that are
    logarithms of rates. A starts at zero, so that training starts from the
    model without features.

    Parameters
    ----------
    basis : Basis
    likelihood : Likelihood

    References
    ----------
    .. [1] Generalized Linear Models, J. A. Nelder and R. W. M. Wedderburn, 1972
    .. [2] Hybrid Models with Deep and Invertible Features, E. Nalisnick,
           A. Matsukawa, Y. W. Teh, D. Gorur and B. Lakshminarayanan, 2019

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import GeneralizedLinear, LinearBasis, Poisson
    >>> from hybridflow.specs import Event, Target
    >>> head = GeneralizedLinear(LinearBasis(Event.real(2)), Poisson(Target(kind="regression")))
    >>> head.law(head(torch.zeros(1, 2))).mean()
    array([1.])
    """

    rates: Tensor

    def __init__(self, basis: Basis, likelihood: Likelihood) -> None:
        super().__init__()
        self.basis = basis
        self.likelihood = likelihood
        self.takes_censored = likelihood.takes_censored
        self.weight = nn.Parameter(torch.zeros(likelihood.outputs, basis.features))
        self.bias = nn.Parameter(torch.zeros(likelihood.outputs))
        rates = torch.zeros(likelihood.outputs)
        rates[list(likelihood.rates)] = 1.0
        self.register_buffer("rates", rates, persistent=False)

    def forward(
        self, z: Tensor, context: Tensor | None = None, offset: Tensor | None = None
    ) -> Tensor:
        """Return eta of shape (n, k).

        Raises
        ------
        InputError
            If an offset is given to a likelihood that counts no exposure.
        """
        eta = functional.linear(self.basis(z, context), self.weight, self.bias)
        if offset is None:
            return eta
        if not self.likelihood.takes_offset:
            raise InputError(
                f"an exposure needs a head for counts, and {type(self.likelihood).__name__} is "
                "none: use head='poisson', or leave the exposure out"
            )
        return eta + offset[:, None].to(eta.dtype) * self.rates

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log p(y | eta) of shape (n,), nats, in the units of y; 0 where unlabelled."""
        return self.likelihood.nll(eta, targets)

    def law(self, eta: Tensor) -> Law:
        """Return what eta implies for y, in the units of y."""
        return self.likelihood.law(eta)

    def check(self, targets: TargetBatch) -> None:
        """Raise for targets that the likelihood cannot score."""
        self.likelihood.check(targets)

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: TargetBatch | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Start from the model without features; nothing happens without targets."""
        if y is None:
            return
        if weight is None:
            weight = torch.ones(len(y), dtype=torch.float64, device=y.values.device)
        with torch.no_grad():
            self.likelihood.initialize(y, weight)
            self.bias.copy_(self.likelihood.start(y, weight))
