"""Deep sigmoidal maps: coupled, and masked as in neural autoregressive flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Int
from hybridflow.flows.architectures import (
    HiddenLayers,
    HiddenUnits,
    Layers,
    autoregressive_stack,
    mixing_coupling_stack,
)
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform

Units = Annotated[int, Field(ge=2, le=16), Int(2, 8)]


class SigmoidalCoupling(Config):
    """Coupling layers with monotone networks of sigmoid units.

    Parameters
    ----------
    layers : int, default=4
        Number of coupling layers, each behind a learned linear map.
    units : int, default=4
        Sigmoid units in each of the two layers of a map.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.
    whiten : bool, default=True
        Whether to end with the fitted `Whiten`, so that training starts from
        the Ledoit-Wolf Gaussian.

    Examples
    --------
    >>> from hybridflow.flows import SigmoidalCoupling
    >>> SigmoidalCoupling(units=6).layers
    4
    """

    layers: Layers = 4
    units: Units = 4
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2
    whiten: bool = True


class SigmoidalAutoregressive(Config):
    """Autoregressive layers with monotone networks of sigmoid units.

    Parameters
    ----------
    layers : int, default=3
        Number of autoregressive layers; every other one runs through the features
        backwards.
    units : int, default=4
        Sigmoid units in each of the two layers of a map.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.

    Examples
    --------
    >>> from hybridflow.flows import SigmoidalAutoregressive
    >>> SigmoidalAutoregressive(units=6).layers
    3
    """

    layers: Layers = 3
    units: Units = 4
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2


def build_coupling(event: Event, config: SigmoidalCoupling) -> Transform:
    """Build coupling layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import Compose, DeepSigmoidalMap

    return Compose(mixing_coupling_stack(event, config, DeepSigmoidalMap(config.units)))


def build_autoregressive(event: Event, config: SigmoidalAutoregressive) -> Transform:
    """Build autoregressive layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import Compose, DeepSigmoidalMap

    return Compose(autoregressive_stack(event, config, DeepSigmoidalMap(config.units)))


_REFERENCE = (
    "Neural Autoregressive Flows. Chin-Wei Huang, David Krueger, Alexandre Lacoste, "
    "Aaron Courville. 2018."
)

SPECS = (
    FlowSpec(
        name="sigmoidal-coupling",
        summary="Coupling layers with monotone networks of sigmoid units",
        config=SigmoidalCoupling,
        build=build_coupling,
        inverse="iterative",
        stable_to=1e8,
        reference=_REFERENCE,
    ),
    FlowSpec(
        name="sigmoidal-autoregressive",
        summary="Autoregressive layers with monotone networks of sigmoid units",
        config=SigmoidalAutoregressive,
        build=build_autoregressive,
        inverse="iterative",
        stable_to=1e8,
        reference=_REFERENCE,
    ),
)
