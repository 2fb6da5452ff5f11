"""Invertible modules: the maths of flows. They know nothing of the registry."""

from hybridflow.transforms.autoregressive import MaskedAutoregressive
from hybridflow.transforms.base import Compose, Identity, Inverse, Transform
from hybridflow.transforms.coupling import Coupling, alternating_mask
from hybridflow.transforms.elementwise import AdditiveMap, AffineMap, ElementwiseMap
from hybridflow.transforms.gaussianize import Gaussianize
from hybridflow.transforms.mixing import LU, Householder, Permutation
from hybridflow.transforms.rational_quadratic import RationalQuadraticMap
from hybridflow.transforms.scale import ActNorm, Affine, Standardize
from hybridflow.transforms.whiten import Whiten

__all__ = [
    "LU",
    "ActNorm",
    "AdditiveMap",
    "Affine",
    "AffineMap",
    "Compose",
    "Coupling",
    "ElementwiseMap",
    "Gaussianize",
    "Householder",
    "Identity",
    "Inverse",
    "MaskedAutoregressive",
    "Permutation",
    "RationalQuadraticMap",
    "Standardize",
    "Transform",
    "Whiten",
    "alternating_mask",
]
