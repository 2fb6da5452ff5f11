"""Coupled scales and shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Int
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class RealNVP(Config):
    """Coupling layers that scale and shift.

    Parameters
    ----------
    layers : int, default=8
        Number of coupling layers.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.

    Examples
    --------
    >>> from hybridflow.flows import RealNVP
    >>> RealNVP(layers=3).layers
    3
    """

    layers: Annotated[int, Field(ge=1, le=64), Int(4, 16)] = 8
    hidden_units: Annotated[int, Field(ge=1, le=1024), Int(16, 256, log=True)] = 64
    hidden_layers: Annotated[int, Field(ge=1, le=8), Int(1, 3)] = 2


def build(event: Event, config: RealNVP) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow.transforms import (
        AffineMap,
        Compose,
        Coupling,
        alternating_mask,
    )

    features, context = event.features, event.context_features
    hidden = (config.hidden_units,) * config.hidden_layers
    return Compose(
        Coupling(AffineMap(), alternating_mask(features, layer), hidden, context)
        for layer in range(config.layers)
    )


SPEC = FlowSpec(
    name="realnvp",
    summary="Coupling layers that scale and shift",
    config=RealNVP,
    build=build,
    stable_to=1e8,
    reference=(
        "Density estimation using Real NVP. Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. 2017."
    ),
)
