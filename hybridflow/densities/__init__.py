"""Base distributions: the distribution of the latent z."""

from __future__ import annotations

from hybridflow.densities.base import Base
from hybridflow.densities.class_conditional import ClassConditional
from hybridflow.densities.full_normal import FullNormal
from hybridflow.densities.location_scale import (
    DiagonalNormal,
    Laplace,
    LocationScale,
    Logistic,
)
from hybridflow.densities.mixture import Mixture
from hybridflow.densities.normal import Normal
from hybridflow.densities.product import Product
from hybridflow.densities.student_t import StudentT
from hybridflow.densities.uniform import Uniform

__all__ = [
    "Base",
    "ClassConditional",
    "DiagonalNormal",
    "FullNormal",
    "Laplace",
    "LocationScale",
    "Logistic",
    "Mixture",
    "Normal",
    "Product",
    "StudentT",
    "Uniform",
]
