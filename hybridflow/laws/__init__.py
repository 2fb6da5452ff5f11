"""Laws: what a head implies for y. Plain numpy and scipy, float64, one entry per row."""

from __future__ import annotations

from hybridflow.laws.base import Floats, Law, Rows
from hybridflow.laws.discrete import CategoricalLaw, PoissonLaw
from hybridflow.laws.discretized import Discretized
from hybridflow.laws.location_scale import GaussianLaw, LocationScaleLaw, StudentTLaw
from hybridflow.laws.mixture import MixtureLaw

__all__ = [
    "CategoricalLaw",
    "Discretized",
    "Floats",
    "GaussianLaw",
    "Law",
    "LocationScaleLaw",
    "MixtureLaw",
    "PoissonLaw",
    "Rows",
    "StudentTLaw",
]
