"""The architectures of zuko as flows for hybridflow.

zuko is imported when the first flow is built, so that listing plugins stays fast.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from hybridflow import Config, Event, FlowSpec, hookimpl
from hybridflow.config import Int

if TYPE_CHECKING:
    from hybridflow_zuko.transform import ZukoTransform


_SLOPE = 1e-2
"""Least slope of a map; zuko's own 1e-3 loses too many digits of float32 on the way back."""


class Stack(Config):
    """Base class of the settings: layers, each with a conditioner.

    The further fields of a flow are arguments of its class in zuko.

    Parameters
    ----------
    layers : int, default=3
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
    """

    architecture: ClassVar[str]
    layers: Annotated[int, Field(ge=1, le=32), Int(2, 6)] = 3
    hidden_units: Annotated[int, Field(ge=1, le=1024), Int(16, 256, log=True)] = 64
    hidden_layers: Annotated[int, Field(ge=1, le=8), Int(1, 3)] = 2

    def options(self) -> dict[str, Any]:
        """Return the arguments of zuko's class that are its own."""
        return self.model_dump(exclude=set(Stack.model_fields))


class ZukoMAF(Stack):
    """Autoregressive layers that scale and shift."""

    architecture = "MAF"

    def options(self) -> dict[str, Any]:
        """Return a univariate map of bounded slope."""
        from zuko.transforms import MonotonicAffineTransform

        return {"univariate": partial(MonotonicAffineTransform, slope=_SLOPE)}


class ZukoNICE(ZukoMAF):
    """Coupling layers that scale and shift."""

    architecture = "NICE"


class ZukoNSF(Stack):
    """Autoregressive layers of rational-quadratic splines."""

    architecture = "NSF"
    bins: Annotated[int, Field(ge=2, le=64), Int(4, 16)] = 8

    def options(self) -> dict[str, Any]:
        """Return the number of bins, and the least slope of a spline."""
        return {"bins": self.bins, "slope": _SLOPE}


class ZukoNSFCoupling(ZukoNSF):
    """Coupling layers of rational-quadratic splines."""

    def options(self) -> dict[str, Any]:
        """Return those of the splines; autoregression in two passes is a coupling."""
        return {**super().options(), "passes": 2}


class ZukoNCSF(ZukoNSF):
    """Autoregressive layers of circular splines, for angles."""

    architecture = "NCSF"


class ZukoNAF(Stack):
    """Autoregressive layers of monotone networks."""

    architecture = "NAF"
    signal: Annotated[int, Field(ge=1, le=256), Int(4, 32)] = 16


class ZukoUNAF(Stack):
    """Autoregressive layers of integrals of positive networks."""

    architecture = "UNAF"
    signal: Annotated[int, Field(ge=1, le=256), Int(4, 32)] = 16


class ZukoSOSPF(Stack):
    """Autoregressive layers of integrals of sums of squared polynomials."""

    architecture = "SOSPF"
    degree: Annotated[int, Field(ge=1, le=12), Int(2, 6)] = 4
    polynomials: Annotated[int, Field(ge=1, le=12), Int(1, 5)] = 3


class ZukoBPF(Stack):
    """Autoregressive layers of Bernstein polynomials."""

    architecture = "BPF"
    degree: Annotated[int, Field(ge=2, le=64), Int(8, 32)] = 16


def _spec(name: str, config: type[Stack], reference: str, **claims: Any) -> FlowSpec:
    bisects = claims.get("inverse") == "iterative"

    def build(event: Event, config: Stack) -> ZukoTransform:
        import zuko
        from torch import nn

        from hybridflow_zuko.transform import ZukoTransform

        flow = getattr(zuko.flows, config.architecture)(
            event.features,
            event.context_features,
            transforms=config.layers,
            hidden_features=[config.hidden_units] * config.hidden_layers,
            activation=nn.SiLU,  # zuko's own ReLU puts kinks into the density
            **config.options(),
        )
        return ZukoTransform(flow, event.context_features, bisects)

    summary = (config.__doc__ or "").rstrip(".")
    return FlowSpec(name, f"{summary} (zuko)", config, build, reference=reference, **claims)


FLOWS = (
    _spec(
        "zuko-maf",
        ZukoMAF,
        "Masked Autoregressive Flow for Density Estimation, G. Papamakarios et al., 2017",
    ),
    _spec(
        "zuko-nice",
        ZukoNICE,
        "Density estimation using Real NVP, L. Dinh et al., 2017",
    ),
    _spec("zuko-nsf", ZukoNSF, "Neural Spline Flows, C. Durkan et al., 2019"),
    _spec("zuko-nsf-coupling", ZukoNSFCoupling, "Neural Spline Flows, C. Durkan et al., 2019"),
    _spec(
        "zuko-ncsf",
        ZukoNCSF,
        "Normalizing Flows on Tori and Spheres, D. J. Rezende et al., 2020",
        supports=("circle",),
    ),
    _spec(
        "zuko-naf",
        ZukoNAF,
        "Neural Autoregressive Flows, C.-W. Huang et al., 2018",
        inverse="iterative",
        onnx=False,
    ),
    _spec(
        "zuko-unaf",
        ZukoUNAF,
        "Unconstrained Monotonic Neural Networks, A. Wehenkel and G. Louppe, 2019",
        inverse="iterative",
        onnx=False,
    ),
    _spec(
        "zuko-sospf",
        ZukoSOSPF,
        "Sum-of-Squares Polynomial Flow, P. Jaini et al., 2019",
        inverse="iterative",
        onnx=False,
    ),
    _spec(
        "zuko-bpf",
        ZukoBPF,
        "Deep transformation models, B. Sick et al., 2020",
        inverse="iterative",
        onnx=False,
    ),
)


@hookimpl
def hybridflow_flows() -> Iterable[FlowSpec]:
    """Offer the flows."""
    return FLOWS
