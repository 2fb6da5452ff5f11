"""The built-in bases: what z is distributed as."""

from __future__ import annotations

from hybridflow.bases import mixture, normal, student_t
from hybridflow.bases.mixture import MixtureBase
from hybridflow.bases.normal import NormalBase
from hybridflow.bases.student_t import StudentTBase
from hybridflow.hookspecs import hookimpl
from hybridflow.specs import BaseSpec

__all__ = ["MixtureBase", "NormalBase", "StudentTBase", "hybridflow_bases"]


@hookimpl
def hybridflow_bases() -> list[BaseSpec]:
    """Offer the built-in bases."""
    return [mixture.SPEC, normal.SPEC, student_t.SPEC]
