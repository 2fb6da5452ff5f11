"""The built-in flows, offered through the same hook as any plugin's. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable

from hybridflow.flows import glow, maf, nice, realnvp, spline_autoregressive, spline_coupling
from hybridflow.flows.glow import Glow
from hybridflow.flows.maf import MAF
from hybridflow.flows.nice import NICE
from hybridflow.flows.realnvp import RealNVP
from hybridflow.flows.spline_autoregressive import SplineAutoregressive
from hybridflow.flows.spline_coupling import SplineCoupling
from hybridflow.hookspecs import hookimpl
from hybridflow.specs import FlowSpec

__all__ = [
    "MAF",
    "NICE",
    "Glow",
    "RealNVP",
    "SplineAutoregressive",
    "SplineCoupling",
    "hybridflow_flows",
]


@hookimpl
def hybridflow_flows() -> Iterable[FlowSpec]:
    """Offer the built-in flows."""
    modules = (glow, maf, nice, realnvp, spline_autoregressive, spline_coupling)
    return [module.SPEC for module in modules]
