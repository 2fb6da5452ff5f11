"""Heads: families of laws for y, and the bases that they are linear in."""

from __future__ import annotations

from hybridflow.likelihoods.base import Head, Likelihood, TargetBatch
from hybridflow.likelihoods.basis import HiddenBasis, LinearBasis
from hybridflow.likelihoods.bayes import Bayes
from hybridflow.likelihoods.categorical import Categorical
from hybridflow.likelihoods.continuous import Continuous
from hybridflow.likelihoods.gaussian import Gaussian
from hybridflow.likelihoods.head import GeneralizedLinear
from hybridflow.likelihoods.mixture import MixtureOfGaussians
from hybridflow.likelihoods.poisson import Poisson
from hybridflow.likelihoods.student_t import StudentT

__all__ = [
    "Bayes",
    "Categorical",
    "Continuous",
    "Gaussian",
    "GeneralizedLinear",
    "Head",
    "HiddenBasis",
    "Likelihood",
    "LinearBasis",
    "MixtureOfGaussians",
    "Poisson",
    "StudentT",
    "TargetBatch",
]
