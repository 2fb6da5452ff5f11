"""The built-in flows, offered through the same hook as any plugin's. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from hybridflow.flows import (
    actnorm,
    additive,
    affine,
    batchnorm,
    circular_spline,
    glow,
    iaf,
    iterative_gaussianization,
    linear,
    linear_spline,
    logistic_mixture,
    planar,
    radial,
    rational_quadratic,
    residual,
    sigmoidal,
    sylvester,
)
from hybridflow.flows.actnorm import ActNorm
from hybridflow.flows.additive import NICE, AdditiveAutoregressive
from hybridflow.flows.affine import MAF, RealNVP
from hybridflow.flows.batchnorm import RealNVPBatchNorm
from hybridflow.flows.circular_spline import CircularSpline
from hybridflow.flows.glow import Glow
from hybridflow.flows.iaf import IAF
from hybridflow.flows.iterative_gaussianization import IterativeGaussianization
from hybridflow.flows.linear import Linear
from hybridflow.flows.linear_spline import LinearSplineAutoregressive, LinearSplineCoupling
from hybridflow.flows.logistic_mixture import (
    LogisticMixtureAutoregressive,
    LogisticMixtureCoupling,
)
from hybridflow.flows.planar import Planar
from hybridflow.flows.radial import Radial
from hybridflow.flows.rational_quadratic import SplineAutoregressive, SplineCoupling
from hybridflow.flows.residual import IResNet, ResidualFlow
from hybridflow.flows.sigmoidal import SigmoidalAutoregressive, SigmoidalCoupling
from hybridflow.flows.sylvester import Sylvester
from hybridflow.hookspecs import hookimpl
from hybridflow.specs import FlowSpec

__all__ = [
    "IAF",
    "MAF",
    "NICE",
    "ActNorm",
    "AdditiveAutoregressive",
    "CircularSpline",
    "Glow",
    "IResNet",
    "IterativeGaussianization",
    "Linear",
    "LinearSplineAutoregressive",
    "LinearSplineCoupling",
    "LogisticMixtureAutoregressive",
    "LogisticMixtureCoupling",
    "Planar",
    "Radial",
    "RealNVP",
    "RealNVPBatchNorm",
    "ResidualFlow",
    "SigmoidalAutoregressive",
    "SigmoidalCoupling",
    "SplineAutoregressive",
    "SplineCoupling",
    "Sylvester",
    "hybridflow_flows",
]


@hookimpl
def hybridflow_flows() -> Iterable[FlowSpec]:
    """Offer the built-in flows, sorted by name."""
    specs = [
        actnorm.SPEC,
        *additive.SPECS,
        *affine.SPECS,
        batchnorm.SPEC,
        circular_spline.SPEC,
        glow.SPEC,
        iaf.SPEC,
        iterative_gaussianization.SPEC,
        linear.SPEC,
        *linear_spline.SPECS,
        *logistic_mixture.SPECS,
        planar.SPEC,
        radial.SPEC,
        *rational_quadratic.SPECS,
        *residual.SPECS,
        *sigmoidal.SPECS,
        sylvester.SPEC,
    ]
    return sorted(specs, key=lambda spec: spec.name)
