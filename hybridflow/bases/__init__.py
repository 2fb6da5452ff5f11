"""The built-in bases: what z is distributed as."""

from __future__ import annotations

from hybridflow.bases import (
    class_conditional,
    laplace,
    logistic,
    mixture,
    normal,
    student_t,
    uniform,
)
from hybridflow.bases.class_conditional import ClassConditionalBase
from hybridflow.bases.laplace import LaplaceBase
from hybridflow.bases.logistic import LogisticBase
from hybridflow.bases.mixture import MixtureBase
from hybridflow.bases.normal import NormalBase
from hybridflow.bases.student_t import StudentTBase
from hybridflow.bases.uniform import UniformBase
from hybridflow.hookspecs import hookimpl
from hybridflow.specs import BaseSpec

__all__ = [
    "ClassConditionalBase",
    "LaplaceBase",
    "LogisticBase",
    "MixtureBase",
    "NormalBase",
    "StudentTBase",
    "UniformBase",
    "hybridflow_bases",
]


@hookimpl
def hybridflow_bases() -> list[BaseSpec]:
    """Offer the built-in bases."""
    modules = (class_conditional, laplace, logistic, mixture, normal, student_t, uniform)
    return [module.SPEC for module in modules]
