"""Generalized linear models with a Laplace approximation of the posterior of their weights."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn import functional

from hybridflow.errors import InputError
from hybridflow.laws import CategoricalLaw, Floats, Law, MixtureLaw
from hybridflow.likelihoods.base import Head, Likelihood, TargetBatch
from hybridflow.likelihoods.basis import Basis
from hybridflow.likelihoods.bayesian_linear import Batches, variance_of, weighted
from hybridflow.likelihoods.categorical import Categorical
from hybridflow.likelihoods.poisson import Poisson
from hybridflow.specs import Target

_ROUNDS = 5
"""How often the precision of the prior is fitted, and the mode found again."""

_PRECISIONS = (1e-6, 1e6)
"""Between which the precision of the prior is fitted."""

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(24)


class Laplace(Head):
    r"""A generalized linear model whose weights have a normal posterior, approximately.

    .. math:: \eta = W\phi(z, c) + b, \qquad W_{ki} \sim N(0, 1/\alpha), \qquad
        p(W_k, b_k \mid \mathrm{data}) \approx N(\hat W_k, H_k^{-1})

    with a flat prior of b. The basis is trained with the flow, on a point estimate.
    Then `finish` finds the mode, and the curvature :math:`H_k` of minus the
    log-posterior in the weights of output k there; outputs are taken for
    independent. The precision alpha is MacKay's:
    :math:`\alpha = \gamma / \|\hat W\|^2`, with gamma the number of weights that
    the rows determine. So eta has a mean and a variance.

    To write one, define `curvature`, `predicted`, `nll` and `law`.

    Parameters
    ----------
    basis : Basis
    likelihood : Likelihood
    """

    factors: Tensor

    def __init__(self, basis: Basis, likelihood: Likelihood) -> None:
        super().__init__()
        self.basis = basis
        self.likelihood = likelihood
        outputs, size = likelihood.outputs, basis.features + 1
        self.weight = nn.Parameter(torch.zeros(outputs, basis.features))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("factors", torch.zeros(outputs, size, size))

    @abstractmethod
    def curvature(self, eta: Tensor) -> Tensor:
        """Return the second derivatives of the loss in each column of eta, shape (n, k)."""

    @abstractmethod
    def predicted(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the eta that `nll` and `law` take, from mean and variance of shape (n, k)."""

    def forward(
        self, z: Tensor, context: Tensor | None = None, offset: Tensor | None = None
    ) -> Tensor:
        """Return eta.

        Raises
        ------
        InputError
            If an offset is given to a likelihood that counts no exposure.
        """
        phi = self.basis(z, context)
        mean = functional.linear(phi, self.weight, self.bias)
        if offset is not None:
            if not self.likelihood.takes_offset:
                raise InputError(
                    "an exposure needs a head for counts, and 'bayesian-linear' is none: use "
                    "head='bayesian-poisson', or leave the exposure out"
                )
            mean = mean + offset[:, None].to(mean.dtype)
        variance = torch.stack([variance_of(phi, factor) for factor in self.factors], 1)
        return self.predicted(mean, variance)

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
            self.bias.copy_(self.likelihood.start(y, weight))

    @torch.no_grad()
    def finish(self, batches: Batches, weight: Tensor | None = None) -> None:
        """Replace the weights by their posterior, given the basis.

        Parameters
        ----------
        batches : sequence of (z, context, targets)
            All labelled training rows, in parts.
        weight : Tensor of shape (n,), optional
            A weight counts rows.
        """
        parts = [
            (self._design(z, c), y, w) for z, c, y, w in weighted(batches, weight) if len(y) > 0
        ]
        if not sum(float(w.sum()) for *_, w in parts) > 0:
            return
        alpha = 1.0
        mode = torch.cat([self.weight, self.bias[:, None]], 1).to(torch.float64)
        for _ in range(_ROUNDS):
            mode = self._mode(parts, mode, alpha)
            hessians = self._hessians(parts, mode, alpha)
            roots = torch.linalg.inv(torch.linalg.cholesky(hessians))
            variances = roots.square().sum(1)[:, :-1]
            determined = variances.numel() - alpha * float(variances.sum())
            size = float(mode[:, :-1].square().sum())
            low, high = _PRECISIONS
            alpha = min(max(determined / max(size, 1e-300), low), high)
        self.weight.copy_(mode[:, :-1])
        self.bias.copy_(mode[:, -1])
        self.factors.copy_(roots)

    def _design(self, z: Tensor, context: Tensor | None) -> Tensor:
        """Return phi and a column of ones, float64."""
        phi = self.basis(z.to(self.weight.dtype), context).to(torch.float64)
        return torch.cat([phi, phi.new_ones(phi.shape[0], 1)], 1)

    def _eta(self, design: Tensor, targets: TargetBatch, weights: Tensor) -> Tensor:
        eta = design @ weights.T
        return eta if targets.offset is None else eta + targets.offset[:, None]

    def _mode(
        self, parts: list[tuple[Tensor, TargetBatch, Tensor]], start: Tensor, alpha: float
    ) -> Tensor:
        """Return the weights of the largest posterior, in coordinates where curvatures are 1."""
        curved = self._hessians(parts, start, alpha).mean(0)
        root = torch.linalg.cholesky(curved)

        def loss(flat: Floats) -> tuple[float, Floats]:
            with torch.enable_grad():
                moved = torch.as_tensor(flat, device=start.device).reshape(start.shape)
                moved = moved.requires_grad_()
                weights = _unscaled(moved, root)
                value = alpha / 2 * weights[:, :-1].square().sum()
                for design, targets, weight in parts:
                    eta = self._eta(design, targets, weights)
                    value = value + (weight * self.likelihood.nll(eta, targets)).sum()
                (slope,) = torch.autograd.grad(value, moved)
            return value.item(), np.asarray(slope.cpu().numpy()).ravel()

        first: Floats = np.asarray((start @ root).cpu().numpy()).ravel()
        found = minimize(
            loss,
            first,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 500, "ftol": 1e-14, "gtol": 1e-8},
        ).x
        moved = torch.as_tensor(found, device=start.device).reshape(start.shape)
        return _unscaled(moved, root)

    def _hessians(
        self, parts: list[tuple[Tensor, TargetBatch, Tensor]], weights: Tensor, alpha: float
    ) -> Tensor:
        """Return the curvatures of minus the log-posterior, one matrix for each output."""
        size = weights.shape[1]
        prior = torch.full((size,), alpha, dtype=torch.float64, device=weights.device)
        prior[-1] = 1e-9  # the intercept is free, up to what keeps the matrix positive
        total = torch.diag(prior).repeat(len(weights), 1, 1)
        for design, targets, weight in parts:
            curvature = self.curvature(self._eta(design, targets, weights)) * weight[:, None]
            for k in range(len(weights)):
                total[k] += design.T @ (curvature[:, k : k + 1] * design)
        return total


def _unscaled(moved: Tensor, root: Tensor) -> Tensor:
    """Return weights from coordinates in which the curvature is about one."""
    weights: Tensor = torch.linalg.solve_triangular(root.T, moved.T, upper=True)
    return weights.T


class LaplaceCategorical(Laplace):
    r"""Logistic or softmax regression with a normal posterior of its weights, approximately.

    The predictions are MacKay's moderated ones, within two hundredths of the
    integral over the posterior for two classes:

    .. math:: \eta_k = \frac{m_k}{\sqrt{1 + \pi v_k / 8}}

    with m and v the mean and variance of the linear predictor. Far from all rows
    the variance outgrows the mean, and classes are no longer near certain.

    Parameters
    ----------
    basis : Basis
    target : Target
        With at least two classes.

    References
    ----------
    .. [1] The Evidence Framework Applied to Classification Networks, D. J. C. MacKay, 1992
    .. [2] Laplace Redux: Effortless Bayesian Deep Learning, E. Daxberger, A. Kristiadi,
           A. Immer, R. Eschenhagen, M. Bauer and P. Hennig, 2021

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import LaplaceCategorical, LinearBasis
    >>> from hybridflow.specs import Event, Target
    >>> target = Target(kind="classification", classes=("no", "yes"))
    >>> head = LaplaceCategorical(LinearBasis(Event.real(1)), target)
    >>> head.law(head(torch.zeros(1, 1))).probabilities
    array([[0.5, 0.5]])
    """

    likelihood: Categorical

    def __init__(self, basis: Basis, target: Target) -> None:
        super().__init__(basis, Categorical(target))

    def curvature(self, eta: Tensor) -> Tensor:
        """Return p (1 - p) of each class."""
        logs = self.likelihood.log_probabilities(eta)
        each = logs[:, 1:] if self.likelihood.outputs == 1 else logs
        return each.exp() * -torch.expm1(each)

    def predicted(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the moderated linear predictor."""
        return mean / torch.sqrt(1 + math.pi / 8 * variance)

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log P(y | eta) of shape (n,), float64; 0 where unlabelled."""
        return self.likelihood.nll(eta, targets)

    def law(self, eta: Tensor) -> CategoricalLaw:
        """Return the class probabilities."""
        return self.likelihood.law(eta)


class LaplacePoisson(Laplace):
    r"""Poisson regression with a normal posterior of its weights, approximately.

    The prediction is a Poisson law averaged over the log-normal law of its rate, by
    Gauss-Hermite quadrature with 24 nodes:

    .. math:: P(y) = \int \mathrm{Poisson}(y; e^{m + \sqrt v\,u})\, N(u; 0, 1)\, du

    with m and v, the mean and variance of the linear predictor, the columns of eta.

    Parameters
    ----------
    basis : Basis
    target : Target
        A regression of one output.

    References
    ----------
    .. [1] Laplace Redux: Effortless Bayesian Deep Learning, E. Daxberger, A. Kristiadi,
           A. Immer, R. Eschenhagen, M. Bauer and P. Hennig, 2021

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import LaplacePoisson, LinearBasis
    >>> from hybridflow.specs import Event, Target
    >>> head = LaplacePoisson(LinearBasis(Event.real(1)), Target(kind="regression"))
    >>> head.law(torch.tensor([[0.0, 2.0]])).mean().round(4)  # e, to the half of 2
    array([2.7183])
    """

    def __init__(self, basis: Basis, target: Target) -> None:
        super().__init__(basis, Poisson(target))

    def curvature(self, eta: Tensor) -> Tensor:
        """Return the rate."""
        return torch.exp(Poisson.link.log_mean(eta))

    def predicted(self, mean: Tensor, variance: Tensor) -> Tensor:
        """Return mean and variance beside each other."""
        return torch.cat([mean, variance], 1)

    def _nodes(self, eta: Tensor) -> Tensor:
        """Return linear predictors at the nodes, shape (n, nodes)."""
        eta = eta.to(torch.float64)
        # The root of a variance of 0 has no gradient.
        variance = eta[:, 1:].clamp(min=1e-12)
        return eta[:, :1] + torch.sqrt(variance) * eta.new_tensor(_NODES)

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log P(y | eta) of shape (n,), float64; 0 where unlabelled."""
        observed = targets.observed[:, 0]
        nodes = self._nodes(torch.where(observed[:, None], eta, 0.0))
        losses = [self.likelihood.nll(node[:, None], targets) for node in nodes.unbind(1)]
        logs = nodes.new_tensor(np.log(_WEIGHTS / _WEIGHTS.sum())) - torch.stack(losses, 1)
        return torch.where(observed, -torch.logsumexp(logs, 1), 0.0)

    def law(self, eta: Tensor) -> Law:
        """Return the mixtures of Poisson laws over the nodes."""
        nodes = self._nodes(eta.detach())
        laws = [self.likelihood.law(node[:, None]) for node in nodes.unbind(1)]
        return MixtureLaw(laws, _WEIGHTS / _WEIGHTS.sum())
