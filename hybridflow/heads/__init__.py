"""The built-in heads: what y is, given z."""

from __future__ import annotations

from hybridflow.heads import bayes, categorical, gaussian, mixture, poisson, student_t
from hybridflow.heads.basis import BasisConfig
from hybridflow.heads.bayes import BayesHead
from hybridflow.heads.categorical import CategoricalHead
from hybridflow.heads.gaussian import GaussianHead
from hybridflow.heads.mixture import MixtureHead
from hybridflow.heads.poisson import PoissonHead
from hybridflow.heads.student_t import StudentTHead
from hybridflow.hookspecs import hookimpl
from hybridflow.specs import HeadSpec

__all__ = [
    "BasisConfig",
    "BayesHead",
    "CategoricalHead",
    "GaussianHead",
    "MixtureHead",
    "PoissonHead",
    "StudentTHead",
    "hybridflow_heads",
]


@hookimpl
def hybridflow_heads() -> list[HeadSpec]:
    """Offer the built-in heads."""
    modules = (bayes, categorical, gaussian, mixture, poisson, student_t)
    return [module.SPEC for module in modules]
