"""Masked autoregressive rational-quadratic splines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Float, Int
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class SplineAutoregressive(Config):
    """Autoregressive layers with rational-quadratic splines.

    Parameters
    ----------
    layers : int, default=3
        Number of autoregressive layers; every other one runs through the features
        backwards.
    bins : int, default=8
        Bins of each spline.
    bound : float, default=5.0
        Half-width of the box in which splines act, in standard deviations.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.

    Examples
    --------
    >>> from hybridflow.flows import SplineAutoregressive
    >>> SplineAutoregressive(layers=3).layers
    3
    """

    layers: Annotated[int, Field(ge=1, le=64), Int(2, 8)] = 3
    bins: Annotated[int, Field(ge=2, le=64), Int(4, 16)] = 8
    bound: Annotated[float, Field(ge=1, le=50), Float(3, 8)] = 5.0
    hidden_units: Annotated[int, Field(ge=1, le=1024), Int(16, 256, log=True)] = 64
    hidden_layers: Annotated[int, Field(ge=1, le=8), Int(1, 3)] = 2


def build(event: Event, config: SplineAutoregressive) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow.transforms import (
        Compose,
        MaskedAutoregressive,
        RationalQuadraticMap,
    )

    features, context = event.features, event.context_features
    hidden = (config.hidden_units,) * config.hidden_layers
    elementwise = RationalQuadraticMap(config.bins, config.bound)
    forwards, backwards = range(features), range(features - 1, -1, -1)
    return Compose(
        MaskedAutoregressive(
            elementwise, features, hidden, backwards if layer % 2 else forwards, context
        )
        for layer in range(config.layers)
    )


SPEC = FlowSpec(
    name="spline-autoregressive",
    summary="Autoregressive layers with rational-quadratic splines",
    config=SplineAutoregressive,
    build=build,
    stable_to=1e8,
    reference=(
        "Neural Spline Flows. Conor Durkan, Artur Bekasov, Iain Murray, George Papamakarios. 2019."
    ),
)
