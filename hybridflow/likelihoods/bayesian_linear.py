"""Bayesian linear regression on a basis: exact posteriors, t predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hybridflow.densities.positive import log_gamma_step
from hybridflow.errors import InputError
from hybridflow.laws import Law, StudentTLaw
from hybridflow.likelihoods.base import Head, TargetBatch
from hybridflow.likelihoods.basis import Basis
from hybridflow.likelihoods.continuous import Continuous
from hybridflow.specs import Target

_PRIOR = 1.0
"""Shape of the inverse gamma prior of the noise variance; its scale is the smallest variance."""

_BEFORE = 1e4
"""Degrees of freedom while there is no posterior: those of a normal variable, nearly."""

Batches = Sequence[tuple[Tensor, Tensor | None, TargetBatch]]


class _Predictive(Continuous):
    """A t likelihood whose eta is the mean, and the variance of that over the noise's."""

    outputs = 2
    noise: Tensor
    df: Tensor

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.raw = nn.Parameter(torch.tensor(self.raw_spread(1.0)))
        self.register_buffer("noise", torch.zeros((), dtype=torch.float64))
        self.register_buffer("df", torch.tensor(_BEFORE, dtype=torch.float64))

    def _scale(self, eta: Tensor) -> Tensor:
        learned = self.spread(self.raw.to(eta.dtype))
        noise = torch.where(self.noise > 0, self.noise.clamp(min=self.floor), learned)
        scale: Tensor = noise * torch.sqrt(1 + eta[:, 1:].clamp(min=0))
        return scale

    def log_density(self, v: Tensor, eta: Tensor) -> Tensor:
        """Return the log-density of standardised targets, shape (n, m)."""
        df, scale = self.df.to(v.dtype), self._scale(eta)
        t = (v - eta[:, :1]) / scale
        normaliser = log_gamma_step(df / 2) - 0.5 * torch.log(math.pi * df)
        return normaliser - torch.log(scale) - (df + 1) / 2 * torch.log1p(t**2 / df)

    def continuous_law(self, eta: Tensor) -> StudentTLaw:
        """Return the t laws, in the units of y."""
        mean, scale = eta[:, 0].cpu().numpy(), self._scale(eta)[:, 0].cpu().numpy()
        df = self.df.cpu().numpy()
        return StudentTLaw(df, self.location + self.scale * mean, self.scale * scale)

    def standard_start(self, mean: float, std: float) -> Tensor:
        """Return the mean, known for sure."""
        return torch.tensor([mean, 0.0], dtype=torch.float64)


class BayesianLinear(Head):
    r"""Linear regression on a basis, with a posterior of its weights.

    .. math:: v = w^\top\phi(z, c) + b + \varepsilon, \quad
        \varepsilon \sim N(0, \sigma^2), \quad w \sim N(0, \sigma^2/\alpha), \quad
        \sigma^2 \sim \mathrm{IG}(1, \mathrm{floor}^2)

    with a flat prior of b, and v in standard deviations of y around its mean.
    The basis is trained with the flow, on a point estimate. Then `finish` puts the
    exact posterior in its place, for the alpha of the largest evidence. With N rows,
    centred on the mean basis m, :math:`S = \sum_i w_i (\phi_i - m)(\phi_i - m)^\top`
    and b_N what is left of the squares, the prediction is

    .. math:: v \sim t_{2a_N}\Bigl(\hat w^\top\phi + \hat b,\;
        \tfrac{b_N}{a_N}\bigl(1 + \tfrac1N + (\phi - m)^\top (S + \alpha)^{-1} (\phi - m)\bigr)
        \Bigr), \qquad a_N = 1 + \tfrac{N - 1}{2}.

    So it is less sure where there were few rows, and far away, where the basis is
    linear in z, less and less.

    Parameters
    ----------
    basis : Basis
    target : Target
        A regression of one output.

    References
    ----------
    .. [1] Bayesian Interpolation, D. J. C. MacKay, 1992
    .. [2] Scalable Bayesian Optimization Using Deep Neural Networks, J. Snoek,
           O. Rippel, K. Swersky, R. Kiros, N. Satish, N. Sundaram, M. Patwary,
           Prabhat and R. P. Adams, 2015

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import BayesianLinear, LinearBasis, TargetBatch
    >>> from hybridflow.specs import Event, Target
    >>> head = BayesianLinear(LinearBasis(Event.real(1)), Target(kind="regression")).double()
    >>> z = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    >>> head.finish([(z, None, TargetBatch(2 * z, torch.ones(5, 1, dtype=torch.bool)))])
    >>> head.law(head(z)).mean().round(2)
    array([-2., -1.,  0.,  1.,  2.])
    """

    factor: Tensor

    def __init__(self, basis: Basis, target: Target) -> None:
        super().__init__()
        self.basis = basis
        self.likelihood = _Predictive(target)
        self.weight = nn.Parameter(torch.zeros(1, basis.features))
        self.bias = nn.Parameter(torch.zeros(1))
        size = basis.features + 1
        # Rows of this times (phi, 1) have the variance of the mean as their sum of squares.
        self.register_buffer("factor", torch.zeros(size, size))

    def forward(
        self, z: Tensor, context: Tensor | None = None, offset: Tensor | None = None
    ) -> Tensor:
        """Return the mean and its variance over that of the noise, shape (n, 2).

        Raises
        ------
        InputError
            If an offset is given: this head counts no exposure.
        """
        if offset is not None:
            raise InputError(
                "an exposure needs a head for counts, and 'bayesian-linear' is none: use "
                "head='bayesian-poisson', or leave the exposure out"
            )
        phi = self.basis(z, context)
        mean = functional.linear(phi, self.weight, self.bias)
        return torch.cat([mean, variance_of(phi, self.factor)[:, None]], 1)

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log p(y | eta) of shape (n,), nats, in the units of y; 0 where unlabelled."""
        return self.likelihood.nll(eta, targets)

    def law(self, eta: Tensor) -> Law:
        """Return the t laws of the prediction, in the units of y."""
        return self.likelihood.law(eta)

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
            self.bias.copy_(self.likelihood.start(y, weight)[:1])

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
        likelihood, rows = self.likelihood, list(weighted(batches, weight))
        total = torch.stack([w.sum() for *_, w in rows]).sum()
        if not total > 0:
            return
        centre = _sum(w @ self._pair(z, c, y) for z, c, y, w in rows) / total
        moments = _sum(
            (pair := self._pair(z, c, y) - centre).T @ (w[:, None] * pair) for z, c, y, w in rows
        )
        spread, vectors = torch.linalg.eigh(moments[:-1, :-1])
        spread = spread.clamp(min=0)
        along = vectors.T @ moments[:-1, -1]
        shape = _PRIOR + (total - 1).clamp(min=0) / 2
        alpha = _evident(spread, along, moments[-1, -1], shape, likelihood.floor**2)
        slopes = along / (spread + alpha)
        rest = (moments[-1, -1] - (along * slopes).sum()).clamp(min=0)
        weight_of_phi = vectors @ slopes
        self.weight.copy_(weight_of_phi[None])
        self.bias.copy_(centre[-1] - centre[:-1] @ weight_of_phi)
        roots = vectors.T / torch.sqrt(spread + alpha)[:, None]
        size = len(spread)
        self.factor.zero_()
        self.factor[:size, :size] = roots
        self.factor[:size, size] = -roots @ centre[:-1]
        self.factor[size, size] = 1 / torch.sqrt(total)
        likelihood.df.copy_((2 * shape).clamp(max=_BEFORE))
        likelihood.noise.copy_(torch.sqrt((likelihood.floor**2 + rest / 2) / shape))

    def _pair(self, z: Tensor, context: Tensor | None, targets: TargetBatch) -> Tensor:
        """Return phi, and behind it the standardised targets, float64 of shape (n, F + 1)."""
        phi = self.basis(z.to(self.weight.dtype), context).to(torch.float64)
        y = torch.where(targets.observed, targets.values.to(torch.float64), 0.0)
        return torch.cat([phi, (y - self.likelihood.location) / self.likelihood.scale], 1)


def variance_of(phi: Tensor, factor: Tensor) -> Tensor:
    """Return the variance of a linear predictor, the squared length of ``factor @ (phi, 1)``."""
    ones = phi.new_ones(phi.shape[0], 1)
    return functional.linear(torch.cat([phi, ones], 1), factor.to(phi.dtype)).square().sum(1)


def weighted(
    batches: Batches, weight: Tensor | None
) -> Iterator[tuple[Tensor, Tensor | None, TargetBatch, Tensor]]:
    """Yield the batches with the weights of their rows, 0 where unlabelled."""
    start = 0
    for z, context, targets in batches:
        observed = targets.labelled.to(torch.float64)
        stop = start + len(targets)
        given = observed if weight is None else weight[start:stop].to(torch.float64) * observed
        yield z, context, targets, given
        start = stop


def _sum(parts: Iterator[Tensor]) -> Tensor:
    total = next(parts)
    for part in parts:
        total = total + part
    return total


def _evident(
    spread: Tensor, along: Tensor, squares: Tensor, shape: Tensor, smallest: float
) -> Tensor:
    r"""Return the prior precision of the largest evidence, of 600 from 1e-6 to 1e6 times one.

    .. math:: \log p(y \mid \alpha) = \tfrac12 \sum_i \log\frac{\alpha}{s_i + \alpha}
        - a_N \log b_N + \mathrm{const}
    """
    if len(spread) == 0:
        return spread.new_ones(())
    alphas = torch.logspace(-6, 6, 600, dtype=spread.dtype, device=spread.device)[:, None]
    alphas = alphas * spread.mean().clamp(min=1e-12)
    rest = (squares - (along**2 / (spread + alphas)).sum(1)).clamp(min=0)
    evidence = torch.log(alphas / (spread + alphas)).sum(1) / 2
    evidence = evidence - shape * torch.log(smallest + rest / 2)
    return alphas[evidence.argmax(), 0]
