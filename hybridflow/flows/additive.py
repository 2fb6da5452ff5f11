"""Shifts alone, then one scale per feature: NICE couples them."""

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

    layers: ManyLayers = 6
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2


class AdditiveAutoregressive(Config):
    """Autoregressive layers that only shift, and a final scale per feature.

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
    >>> from hybridflow.flows import AdditiveAutoregressive
    >>> AdditiveAutoregressive(layers=3).layers
    3
    """

    layers: Layers = 5
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2


def build_coupling(event: Event, config: NICE) -> Transform:
    """Build coupling layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import AdditiveMap, Affine, Compose

    return Compose([*coupling_stack(event, config, AdditiveMap()), Affine(event.features)])


def build_autoregressive(event: Event, config: AdditiveAutoregressive) -> Transform:
    """Build autoregressive layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import AdditiveMap, Affine, Compose

    return Compose([*autoregressive_stack(event, config, AdditiveMap()), Affine(event.features)])


_REFERENCE = (
    "NICE: Non-linear Independent Components Estimation. "
    "Laurent Dinh, David Krueger, Yoshua Bengio. 2014."
)

SPECS = (
    FlowSpec(
        name="nice",
        summary="Coupling layers that only shift, and a final scale per feature",
        config=NICE,
        build=build_coupling,
        stable_to=1e8,
        reference=_REFERENCE,
    ),
    FlowSpec(
        name="additive-autoregressive",
        summary="Autoregressive layers that only shift, and a final scale per feature",
        config=AdditiveAutoregressive,
        build=build_autoregressive,
        stable_to=1e8,
        reference=_REFERENCE,
    ),
)
