"""The built-in heads: what y is, given z."""

from __future__ import annotations

from hybridflow.heads import (
    bayes,
    bayesian_linear,
    bayesian_poisson,
    bernoulli,
    beta,
    categorical,
    gamma,
    gaussian,
    log_normal,
    mixture,
    multi_label,
    negative_binomial,
    ordinal,
    poisson,
    quantile,
    spline,
    student_t,
    weibull,
    zero_inflated,
)
from hybridflow.heads.basis import BasisConfig, CountConfig
from hybridflow.heads.bayes import BayesHead
from hybridflow.heads.bayesian_linear import BayesianLinearHead
from hybridflow.heads.bayesian_poisson import BayesianPoissonHead
from hybridflow.heads.bernoulli import BernoulliHead
from hybridflow.heads.beta import BetaHead
from hybridflow.heads.categorical import CategoricalHead
from hybridflow.heads.gamma import GammaHead
from hybridflow.heads.gaussian import GaussianHead
from hybridflow.heads.log_normal import LogNormalHead
from hybridflow.heads.mixture import MixtureHead
from hybridflow.heads.multi_label import MultiLabelHead
from hybridflow.heads.negative_binomial import NegativeBinomialHead
from hybridflow.heads.ordinal import OrdinalHead
from hybridflow.heads.poisson import PoissonHead
from hybridflow.heads.quantile import QuantileHead
from hybridflow.heads.spline import SplineHead
from hybridflow.heads.student_t import StudentTHead
from hybridflow.heads.weibull import WeibullHead
from hybridflow.heads.zero_inflated import ZeroInflatedHead
from hybridflow.hookspecs import hookimpl
from hybridflow.specs import HeadSpec

__all__ = [
    "BasisConfig",
    "BayesHead",
    "BayesianLinearHead",
    "BayesianPoissonHead",
    "BernoulliHead",
    "BetaHead",
    "CategoricalHead",
    "CountConfig",
    "GammaHead",
    "GaussianHead",
    "LogNormalHead",
    "MixtureHead",
    "MultiLabelHead",
    "NegativeBinomialHead",
    "OrdinalHead",
    "PoissonHead",
    "QuantileHead",
    "SplineHead",
    "StudentTHead",
    "WeibullHead",
    "ZeroInflatedHead",
    "hybridflow_heads",
]


@hookimpl
def hybridflow_heads() -> list[HeadSpec]:
    """Offer the built-in heads."""
    modules = (
        bayes,
        bayesian_linear,
        bayesian_poisson,
        bernoulli,
        beta,
        categorical,
        gamma,
        gaussian,
        log_normal,
        mixture,
        multi_label,
        negative_binomial,
        ordinal,
        poisson,
        quantile,
        spline,
        student_t,
        weibull,
        zero_inflated,
    )
    return [module.SPEC for module in modules]
