"""Continuous-time flows for hybridflow: FFJORD and flow matching."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from hybridflow import Config, Event, FlowSpec, hookimpl
from hybridflow.config import Int

if TYPE_CHECKING:
    from hybridflow_continuous.matching import FlowMatching as FlowMatchingTransform
    from hybridflow_continuous.transform import Continuous


class ContinuousConfig(Config):
    """Base class of the settings of continuous flows.

    Parameters
    ----------
    hidden_units : int, default=64
        Width of each hidden layer of the velocity field.
    hidden_layers : int, default=2
    steps : int, default=16
        Steps of the solver in either direction.
    """

    hidden_units: Annotated[int, Field(ge=1, le=1024), Int(16, 256, log=True)] = 64
    hidden_layers: Annotated[int, Field(ge=1, le=8), Int(1, 3)] = 2
    steps: Annotated[int, Field(ge=1, le=1000)] = 16

    @property
    def hidden(self) -> tuple[int, ...]:
        """Widths of the hidden layers."""
        return (self.hidden_units,) * self.hidden_layers


class FFJORD(ContinuousConfig):
    """Settings of ``ffjord``, with the exact log-determinant.

    Parameters
    ----------
    hidden_units, hidden_layers, steps
        As in `ContinuousConfig`.
    gradient : {"steps", "adjoint"}, default="steps"
        Recorded steps are faster; the adjoint equation needs no memory for them.
    """

    gradient: Literal["steps", "adjoint"] = "steps"


class FFJORDHutchinson(FFJORD):
    """Settings of ``ffjord-hutchinson``: as `FFJORD`, its trace estimated in training."""


class FlowMatching(ContinuousConfig):
    """Settings of ``flow-matching``.

    Parameters
    ----------
    hidden_units, hidden_layers, steps
        As in `ContinuousConfig`.
    matching_steps : int, default=500
        Steps of the regression that training starts with.
    """

    matching_steps: Annotated[int, Field(ge=0, le=1_000_000), Int(100, 2000, log=True)] = 500


def build_ffjord(event: Event, config: FFJORD) -> Continuous:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow_continuous.transform import Continuous

    return Continuous(
        event.features,
        event.context_features,
        config.hidden,
        config.steps,
        estimate=isinstance(config, FFJORDHutchinson),
        adjoint=config.gradient == "adjoint",
    )


def build_flow_matching(event: Event, config: FlowMatching) -> FlowMatchingTransform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow_continuous.matching import FlowMatching as FlowMatchingTransform

    return FlowMatchingTransform(
        event.features, event.context_features, config.hidden, config.steps, config.matching_steps
    )


_FFJORD = (
    "FFJORD: Free-form Continuous Dynamics for Scalable Reversible Generative Models, "
    "W. Grathwohl, R. T. Q. Chen, J. Bettencourt, I. Sutskever and D. Duvenaud, 2019"
)
_CLAIMS: dict[str, Any] = {"inverse": "iterative", "onnx": False}

FLOWS = (
    FlowSpec(
        "ffjord",
        "A flow in continuous time with the exact log-determinant",
        FFJORD,
        build_ffjord,
        reference=_FFJORD,
        **_CLAIMS,
    ),
    FlowSpec(
        "ffjord-hutchinson",
        "A flow in continuous time whose trace is estimated in training",
        FFJORDHutchinson,
        build_ffjord,
        log_det="estimated",
        reference=_FFJORD,
        **_CLAIMS,
    ),
    FlowSpec(
        "flow-matching",
        "A flow in continuous time that starts from a regression, without a solver",
        FlowMatching,
        build_flow_matching,
        reference="Flow Matching for Generative Modeling, Y. Lipman, R. T. Q. Chen, H. Ben-Hamu, "
        "M. Nickel and M. Le, 2023",
        **_CLAIMS,
    ),
)


@hookimpl
def hybridflow_flows() -> Iterable[FlowSpec]:
    """Offer the flows."""
    return FLOWS
