"""Heads: families of laws for y, and the bases that they are linear in."""

from __future__ import annotations

from hybridflow.likelihoods.base import Head, Likelihood, TargetBatch
from hybridflow.likelihoods.basis import HiddenBasis, LinearBasis
from hybridflow.likelihoods.bayes import Bayes
from hybridflow.likelihoods.bayesian_linear import BayesianLinear
from hybridflow.likelihoods.bernoulli import Bernoulli
from hybridflow.likelihoods.beta import Beta
from hybridflow.likelihoods.categorical import Categorical
from hybridflow.likelihoods.continuous import Continuous
from hybridflow.likelihoods.counts import Counts
from hybridflow.likelihoods.failure_time import FailureTime
from hybridflow.likelihoods.gamma import Gamma
from hybridflow.likelihoods.gaussian import Gaussian
from hybridflow.likelihoods.head import GeneralizedLinear
from hybridflow.likelihoods.independent import Independent, each_output
from hybridflow.likelihoods.laplace import LaplaceCategorical, LaplacePoisson
from hybridflow.likelihoods.log_normal import LogNormal
from hybridflow.likelihoods.mixture import MixtureOfGaussians
from hybridflow.likelihoods.multi_label import MultiLabel
from hybridflow.likelihoods.negative_binomial import NegativeBinomial
from hybridflow.likelihoods.ordinal import Ordinal
from hybridflow.likelihoods.poisson import Poisson
from hybridflow.likelihoods.quantiles import Quantiles
from hybridflow.likelihoods.real_valued import RealValued
from hybridflow.likelihoods.spline import ConditionalSpline
from hybridflow.likelihoods.student_t import StudentT
from hybridflow.likelihoods.weibull import Weibull
from hybridflow.likelihoods.zero_inflated import ZeroInflated

__all__ = [
    "Bayes",
    "BayesianLinear",
    "Bernoulli",
    "Beta",
    "Categorical",
    "ConditionalSpline",
    "Continuous",
    "Counts",
    "FailureTime",
    "Gamma",
    "Gaussian",
    "GeneralizedLinear",
    "Head",
    "HiddenBasis",
    "Independent",
    "LaplaceCategorical",
    "LaplacePoisson",
    "Likelihood",
    "LinearBasis",
    "LogNormal",
    "MixtureOfGaussians",
    "MultiLabel",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "Quantiles",
    "RealValued",
    "StudentT",
    "TargetBatch",
    "Weibull",
    "ZeroInflated",
    "each_output",
]
