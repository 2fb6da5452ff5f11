"""Steps of normalising, linear mixing and affine coupling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.flows.architectures import (
    HiddenLayers,
    HiddenUnits,
    ManyLayers,
    coupling_stack,
)
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

    layers: ManyLayers = 8
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2


def build(event: Event, config: Glow) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow.transforms import LU, ActNorm, AffineMap, Compose

    transforms: list[Transform] = []
    for coupling in coupling_stack(event, config, AffineMap()):
        transforms += [ActNorm(event.features), LU(event.features), coupling]
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
