"""Coupled shifts, then one scale per feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Int
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class NICE(Config):
    """Coupling layers that only shift, and a final scale per feature.

    Parameters
    ----------
    layers : int, default=6
        Number of coupling layers.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.

    Examples
    --------
    >>> from hybridflow.flows import NICE
    >>> NICE(layers=3).layers
    3
    """

    layers: Annotated[int, Field(ge=1, le=64), Int(4, 12)] = 6
    hidden_units: Annotated[int, Field(ge=1, le=1024), Int(16, 256, log=True)] = 64
    hidden_layers: Annotated[int, Field(ge=1, le=8), Int(1, 3)] = 2


def build(event: Event, config: NICE) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow.transforms import (
        AdditiveMap,
        Affine,
        Compose,
        Coupling,
        alternating_mask,
    )

    features, context = event.features, event.context_features
    hidden = (config.hidden_units,) * config.hidden_layers
    transforms: list[Transform] = [
        Coupling(AdditiveMap(), alternating_mask(features, layer), hidden, context)
        for layer in range(config.layers)
    ]
    return Compose([*transforms, Affine(features)])


SPEC = FlowSpec(
    name="nice",
    summary="Coupling layers that only shift, and a final scale per feature",
    config=NICE,
    build=build,
    stable_to=1e8,
    reference=(
        "NICE: Non-linear Independent Components Estimation. "
        "Laurent Dinh, David Krueger, Yoshua Bengio. 2014."
    ),
)
