"""Mixtures of logistic distributions: coupled, as in Flow++, and masked."""

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

Components = Annotated[int, Field(ge=2, le=64), Int(4, 16)]


class LogisticMixtureCoupling(Config):
    """Coupling layers with quantiles of logistic mixtures.

    Parameters
    ----------
    layers : int, default=4
        Number of coupling layers, each behind a learned linear map.
    components : int, default=8
        Logistic distributions in each mixture.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.
    whiten : bool, default=True
        Whether to end with the fitted `Whiten`, so that training starts from
        the Ledoit-Wolf Gaussian.

    Examples
    --------
    >>> from hybridflow.flows import LogisticMixtureCoupling
    >>> LogisticMixtureCoupling(components=16).layers
    4
    """

    layers: Layers = 4
    components: Components = 8
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2
    whiten: bool = True


class LogisticMixtureAutoregressive(Config):
    """Autoregressive layers with quantiles of logistic mixtures.

    Parameters
    ----------
    layers : int, default=3
        Number of autoregressive layers; every other one runs through the features
        backwards.
    components : int, default=8
        Logistic distributions in each mixture.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.

    Examples
    --------
    >>> from hybridflow.flows import LogisticMixtureAutoregressive
    >>> LogisticMixtureAutoregressive(components=16).layers
    3
    """

    layers: Layers = 3
    components: Components = 8
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2


def build_coupling(event: Event, config: LogisticMixtureCoupling) -> Transform:
    """Build coupling layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import Compose, LogisticMixtureMap

    return Compose(mixing_coupling_stack(event, config, LogisticMixtureMap(config.components)))


def build_autoregressive(event: Event, config: LogisticMixtureAutoregressive) -> Transform:
    """Build autoregressive layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import Compose, LogisticMixtureMap

    return Compose(autoregressive_stack(event, config, LogisticMixtureMap(config.components)))


_REFERENCE = (
    "Flow++: Improving Flow-Based Generative Models with Variational Dequantization and "
    "Architecture Design. Jonathan Ho, Xi Chen, Aravind Srinivas, Yan Duan, Pieter Abbeel. 2019."
)

SPECS = (
    FlowSpec(
        name="logistic-mixture-coupling",
        summary="Coupling layers with quantiles of logistic mixtures",
        config=LogisticMixtureCoupling,
        build=build_coupling,
        inverse="iterative",
        stable_to=1e8,
        reference=_REFERENCE,
    ),
    FlowSpec(
        name="logistic-mixture-autoregressive",
        summary="Autoregressive layers with quantiles of logistic mixtures",
        config=LogisticMixtureAutoregressive,
        build=build_autoregressive,
        inverse="iterative",
        stable_to=1e8,
        reference=_REFERENCE,
    ),
)
