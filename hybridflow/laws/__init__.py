"""Laws: what a head implies for y. Plain numpy and scipy, float64, one entry per row."""

from __future__ import annotations

from hybridflow.laws.base import Floats, Law, Rows
from hybridflow.laws.counts import NegativeBinomialLaw, ZeroInflatedLaw
from hybridflow.laws.discrete import CategoricalLaw, PoissonLaw
from hybridflow.laws.discretized import Discretized
from hybridflow.laws.failure_time import FailureTimeLaw, LogNormalLaw, WeibullLaw
from hybridflow.laws.location_scale import GaussianLaw, LocationScaleLaw, StudentTLaw
from hybridflow.laws.mixture import MixtureLaw
from hybridflow.laws.positive import BetaLaw, GammaLaw
from hybridflow.laws.product import JointLaw, JointMixture, ProductLaw, mixed
from hybridflow.laws.quantiles import QuantileLaw
from hybridflow.laws.spline import SplineLaw

__all__ = [
    "BetaLaw",
    "CategoricalLaw",
    "Discretized",
    "FailureTimeLaw",
    "Floats",
    "GammaLaw",
    "GaussianLaw",
    "JointLaw",
    "JointMixture",
    "Law",
    "LocationScaleLaw",
    "LogNormalLaw",
    "MixtureLaw",
    "NegativeBinomialLaw",
    "PoissonLaw",
    "ProductLaw",
    "QuantileLaw",
    "Rows",
    "SplineLaw",
    "StudentTLaw",
    "WeibullLaw",
    "ZeroInflatedLaw",
    "mixed",
]
