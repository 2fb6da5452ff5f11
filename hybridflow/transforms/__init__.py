"""Invertible modules: the maths of flows. They know nothing of the registry."""

from hybridflow.transforms.autoregressive import MaskedAutoregressive
from hybridflow.transforms.base import Identity, Inverse, Transform
from hybridflow.transforms.batchnorm import BatchNorm
from hybridflow.transforms.bounded import IntervalToReal, PositiveToReal
from hybridflow.transforms.circular import (
    CircleFeatures,
    CircleToAngle,
    CircularCoupling,
    CircularSplineMap,
)
from hybridflow.transforms.columns import OnColumns
from hybridflow.transforms.compose import Compose
from hybridflow.transforms.coupling import Coupling, alternating_mask
from hybridflow.transforms.elementwise import AdditiveMap, AffineMap, ElementwiseMap
from hybridflow.transforms.equalize import EqualizeAngles
from hybridflow.transforms.gaussianize import Gaussianize
from hybridflow.transforms.iterative_gaussianization import GaussianizeDirections
from hybridflow.transforms.linear_spline import LinearSplineMap
from hybridflow.transforms.logistic_mixture import LogisticMixtureMap
from hybridflow.transforms.mixing import LU, Householder, Orthogonal, Permutation
from hybridflow.transforms.planar import Planar
from hybridflow.transforms.radial import Radial
from hybridflow.transforms.rational_quadratic import RationalQuadraticMap
from hybridflow.transforms.residual import Residual
from hybridflow.transforms.scale import ActNorm, Affine, Standardize
from hybridflow.transforms.sigmoidal import DeepSigmoidalMap
from hybridflow.transforms.sylvester import Sylvester
from hybridflow.transforms.whiten import Whiten

__all__ = [
    "LU",
    "ActNorm",
    "AdditiveMap",
    "Affine",
    "AffineMap",
    "BatchNorm",
    "CircleFeatures",
    "CircleToAngle",
    "CircularCoupling",
    "CircularSplineMap",
    "Compose",
    "Coupling",
    "DeepSigmoidalMap",
    "ElementwiseMap",
    "EqualizeAngles",
    "Gaussianize",
    "GaussianizeDirections",
    "Householder",
    "Identity",
    "IntervalToReal",
    "Inverse",
    "LinearSplineMap",
    "LogisticMixtureMap",
    "MaskedAutoregressive",
    "OnColumns",
    "Orthogonal",
    "Permutation",
    "Planar",
    "PositiveToReal",
    "Radial",
    "RationalQuadraticMap",
    "Residual",
    "Standardize",
    "Sylvester",
    "Transform",
    "Whiten",
    "alternating_mask",
]
