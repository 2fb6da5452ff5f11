"""Steps of normalising, linear mixing and affine coupling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Int
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class Glow(Config):
    """Steps of activation normalisation, a learned matrix and affine coupling.

    Parameters
    ----------
    layers : int, default=8
        Number of steps.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.

    Examples
    --------
    >>> from hybridflow.flows import Glow
    >>> Glow(layers=3).layers
    3
    """

    layers: Annotated[int, Field(ge=1, le=64), Int(4, 16)] = 8
    hidden_units: Annotated[int, Field(ge=1, le=1024), Int(16, 256, log=True)] = 64
    hidden_layers: Annotated[int, Field(ge=1, le=8), Int(1, 3)] = 2


def build(event: Event, config: Glow) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow.transforms import (
        LU,
        ActNorm,
        AffineMap,
        Compose,
        Coupling,
        alternating_mask,
    )

    features, context = event.features, event.context_features
    hidden = (config.hidden_units,) * config.hidden_layers
    transforms: list[Transform] = []
    for layer in range(config.layers):
        mask = alternating_mask(features, layer)
        transforms += [
            ActNorm(features),
            LU(features),
            Coupling(AffineMap(), mask, hidden, context),
        ]
    return Compose(transforms)


SPEC = FlowSpec(
    name="glow",
    summary="Steps of activation normalisation, a learned matrix and affine coupling",
    config=Glow,
    build=build,
    stable_to=1e8,
    reference=(
        "Glow: Generative Flow with Invertible 1x1 Convolutions. "
        "Diederik Kingma, Prafulla Dhariwal. 2018."
    ),
)
