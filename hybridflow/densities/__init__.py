"""Base distributions: the distribution of the latent z."""

from __future__ import annotations

from hybridflow.densities.base import Base
from hybridflow.densities.mixture import Mixture
from hybridflow.densities.normal import Normal
from hybridflow.densities.student_t import StudentT

__all__ = ["Base", "Mixture", "Normal", "StudentT"]
