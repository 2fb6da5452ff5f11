"""From the linear predictor of a head to probabilities or a law of y, in a graph."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from hybridflow.densities.positive import softplus
from hybridflow.errors import ExportError
from hybridflow.export.laws import Law, MeanLaw, Minimum, Mixture, Normal
from hybridflow.likelihoods import (
    Bernoulli,
    Beta,
    Categorical,
    Gamma,
    Gaussian,
    Independent,
    LaplacePoisson,
    LogNormal,
    MixtureOfGaussians,
    MultiLabel,
    NegativeBinomial,
    Ordinal,
    Poisson,
    StudentT,
    Weibull,
    ZeroInflated,
)
from hybridflow.likelihoods.base import Head
from hybridflow.likelihoods.bayesian_linear import _Predictive
from hybridflow.likelihoods.laplace import _WEIGHTS
from hybridflow.likelihoods.links import Probit


def family_of(head: Head) -> nn.Module:
    """Return what a head draws y from: its likelihood, or the head itself if it has none."""
    for known in (laws, log_probabilities):
        if known.dispatch(type(head)) is not known.dispatch(nn.Module):
            return head
    family = getattr(head, "likelihood", head)
    assert isinstance(family, nn.Module)
    return family


@functools.singledispatch
def log_probabilities(family: nn.Module, eta: Tensor) -> Tensor:
    """Return the logarithms of the class probabilities, shape (n, classes).

    Of several labels, of each label being there: shape (n, k, 2), its absence first.
    A plugin registers its likelihood, or its head, here.

    Parameters
    ----------
    family : Module
        What `family_of` returns.
    eta : Tensor of shape (n, k)
        Float64.
    """
    raise ExportError(
        f"{type(family).__name__} has no graph: register what it gives with "
        "hybridflow.export.heads.log_probabilities"
    )


@functools.singledispatch
def laws(family: nn.Module, eta: Tensor) -> list[Law]:
    """Return the law of each output of a regression.

    A plugin registers its likelihood, or its head, here.

    Parameters
    ----------
    family : Module
        What `family_of` returns.
    eta : Tensor of shape (n, k)
        Float64.
    """
    raise ExportError(
        f"{type(family).__name__} has no graph: register its law with hybridflow.export.heads.laws"
    )


@log_probabilities.register(Categorical)
@log_probabilities.register(Bernoulli)
@log_probabilities.register(Ordinal)
def _of_classes(family: Categorical | Bernoulli | Ordinal, eta: Tensor) -> Tensor:
    if isinstance(getattr(family, "link", None), Probit):
        raise ExportError(
            f"{type(family).__name__} with the link 'probit' has no graph: runtimes lack the "
            "complementary error function; use link='logit' or link='cloglog'"
        )
    return family.log_probabilities(eta)


@log_probabilities.register
def _of_labels(family: MultiLabel, eta: Tensor) -> Tensor:
    return torch.stack([-softplus(eta), -softplus(-eta)], -1)


@laws.register
def _of_gaussian(family: Gaussian, eta: Tensor) -> list[Law]:
    mean, std = family._mean_and_std(eta)
    return [_normal(family, mean, std, torch.ones_like(mean))]


@laws.register
def _of_mixture(family: MixtureOfGaussians, eta: Tensor) -> list[Law]:
    logs, means, stds = family._components(eta)
    return [_normal(family, means, stds, torch.exp(logs))]


def _normal(
    family: Gaussian | MixtureOfGaussians, mean: Tensor, std: Tensor, weight: Tensor
) -> Law:
    location = family.location + family.scale * mean
    return Mixture(Normal(), location, family.scale * std, weight, step=family.step)


@laws.register(LogNormal)
@laws.register(Weibull)
def _of_times(family: LogNormal | Weibull, eta: Tensor) -> list[Law]:
    _refuse_lattice(family, family.step)
    location, scale = (part[:, None] for part in family.location_and_scale(eta))
    standard = Normal() if isinstance(family, LogNormal) else Minimum()
    return [Mixture(standard, location, scale, torch.ones_like(location), logarithmic=True)]


@laws.register(StudentT)
@laws.register(_Predictive)
def _of_student(family: StudentT | _Predictive, eta: Tensor) -> list[Law]:
    _refuse_lattice(family, family.step)
    return [MeanLaw(family.location + family.scale * eta[:, 0])]


@laws.register
def _of_gamma(family: Gamma, eta: Tensor) -> list[Law]:
    _refuse_lattice(family, family.step)
    return [MeanLaw(family.unit * torch.exp(family._mean_and_shape(eta)[0]))]


@laws.register
def _of_beta(family: Beta, eta: Tensor) -> list[Law]:
    alpha, beta = family._parameters_of(eta)
    return [MeanLaw(alpha / (alpha + beta))]


@laws.register
def _of_poisson(family: Poisson, eta: Tensor) -> list[Law]:
    return [MeanLaw(torch.exp(family.link.log_mean(eta[:, 0])))]


@laws.register
def _of_negative_binomial(family: NegativeBinomial, eta: Tensor) -> list[Law]:
    return [MeanLaw(torch.exp(family._logs(eta)[0]))]


@laws.register
def _of_zero_inflated(family: ZeroInflated, eta: Tensor) -> list[Law]:
    (counted,) = laws(family.counts, eta[:, :1])
    return [MeanLaw(torch.sigmoid(-eta[:, 1]) * counted.mean())]


@laws.register
def _of_averaged_poisson(head: LaplacePoisson, eta: Tensor) -> list[Law]:
    means = torch.exp(Poisson.link.log_mean(head._nodes(eta)))
    weights = torch.tensor(_WEIGHTS / _WEIGHTS.sum(), dtype=torch.float64)
    return [MeanLaw(means @ weights)]


def _refuse_lattice(family: nn.Module, step: float) -> None:
    if step > 0:
        raise ExportError(
            f"{type(family).__name__} of a target on a lattice of step {step:g} has no graph: the "
            "mean of the rounded law is a sum over its cells; use head='mixture' or "
            "head='gaussian'"
        )


@laws.register
def _of_several(family: Independent, eta: Tensor) -> list[Law]:
    etas = torch.split(eta, family.widths, 1)
    return [
        law
        for part, mine in zip(family._likelihoods, etas, strict=True)
        for law in laws(part, mine)
    ]


def mixed(each: list[Law]) -> Law:
    """Return the uniform mixture of the laws of members."""
    mixtures = [law for law in each if isinstance(law, Mixture)]
    if len(mixtures) == len(each):
        return Mixture.of(mixtures)
    return MeanLaw(torch.stack([law.mean() for law in each]).mean(0))
