"""Scales and shifts: RealNVP couples them, MAF masks them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.flows.architectures import (
    HiddenLayers,
    HiddenUnits,
    Layers,
    ManyLayers,
    autoregressive_stack,
    coupling_stack,
)
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

    layers: ManyLayers = 8
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2


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

    layers: Layers = 5
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2


def build_coupling(event: Event, config: RealNVP) -> Transform:
    """Build coupling layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import AffineMap, Compose

    return Compose(coupling_stack(event, config, AffineMap()))


def build_autoregressive(event: Event, config: MAF) -> Transform:
    """Build autoregressive layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import AffineMap, Compose

    return Compose(autoregressive_stack(event, config, AffineMap()))


SPECS = (
    FlowSpec(
        name="realnvp",
        summary="Coupling layers that scale and shift",
        config=RealNVP,
        build=build_coupling,
        stable_to=1e8,
        reference=(
            "Density estimation using Real NVP. "
            "Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. 2017."
        ),
    ),
    FlowSpec(
        name="maf",
        summary="Autoregressive layers that scale and shift",
        config=MAF,
        build=build_autoregressive,
        stable_to=1e8,
        reference=(
            "Masked Autoregressive Flow for Density Estimation. "
            "George Papamakarios, Theo Pavlakou, Iain Murray. 2017."
        ),
    ),
)
