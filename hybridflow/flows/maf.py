"""Masked autoregressive scales and shifts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Int
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class MAF(Config):
    """Autoregressive layers that scale and shift.

    Parameters
    ----------
    layers : int, default=5
        Number of autoregressive layers; every other one runs through the features
        backwards.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.

    Examples
    --------
    >>> from hybridflow.flows import MAF
    >>> MAF(layers=3).layers
    3
    """

    layers: Annotated[int, Field(ge=1, le=64), Int(2, 8)] = 5
    hidden_units: Annotated[int, Field(ge=1, le=1024), Int(16, 256, log=True)] = 64
    hidden_layers: Annotated[int, Field(ge=1, le=8), Int(1, 3)] = 2


def build(event: Event, config: MAF) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow.transforms import (
        AffineMap,
        Compose,
        MaskedAutoregressive,
    )

    features, context = event.features, event.context_features
    hidden = (config.hidden_units,) * config.hidden_layers
    elementwise = AffineMap()
    forwards, backwards = range(features), range(features - 1, -1, -1)
    return Compose(
        MaskedAutoregressive(
            elementwise, features, hidden, backwards if layer % 2 else forwards, context
        )
        for layer in range(config.layers)
    )


SPEC = FlowSpec(
    name="maf",
    summary="Autoregressive layers that scale and shift",
    config=MAF,
    build=build,
    stable_to=1e8,
    reference=(
        "Masked Autoregressive Flow for Density Estimation. "
        "George Papamakarios, Theo Pavlakou, Iain Murray. 2017."
    ),
)
