"""Coupled scales and shifts, normalised over the batch after each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.flows.architectures import HiddenLayers, HiddenUnits, ManyLayers, coupling_stack
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class RealNVPBatchNorm(Config):
    """Coupling layers that scale and shift, each followed by a batch normalisation.

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
    >>> from hybridflow.flows import RealNVPBatchNorm
    >>> RealNVPBatchNorm(layers=3).layers
    3
    """

    layers: ManyLayers = 8
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2


def build(event: Event, config: RealNVPBatchNorm) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow.transforms import AffineMap, BatchNorm, Compose

    transforms: list[Transform] = []
    for coupling in coupling_stack(event, config, AffineMap()):
        transforms += [coupling, BatchNorm(event.features)]
    return Compose(transforms)


SPEC = FlowSpec(
    name="realnvp-batchnorm",
    summary="Coupling layers that scale and shift, with batch normalisation",
    config=RealNVPBatchNorm,
    build=build,
    stable_to=1e8,
    reference=(
        "Density estimation using Real NVP. Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. 2017."
    ),
)
