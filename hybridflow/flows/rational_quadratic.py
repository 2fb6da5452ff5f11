"""Rational-quadratic splines: coupled, the default flow; and masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.flows.architectures import (
    Bins,
    Bound,
    HiddenLayers,
    HiddenUnits,
    Layers,
    autoregressive_stack,
    mixing_coupling_stack,
)
from hybridflow.flows.circular_spline import circular_stack
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class SplineCoupling(Config):
    """Coupling layers with rational-quadratic splines.

    Parameters
    ----------
    layers : int, default=4
        Number of coupling layers, each behind a learned linear map.
    bins : int, default=8
        Bins of each spline.
    bound : float, default=5.0
        Half-width of the box in which splines act, in standard deviations.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.
    whiten : bool, default=True
        Whether to end with the fitted `Whiten`, so that training starts from
        the Ledoit-Wolf Gaussian.

    Examples
    --------
    >>> from hybridflow.flows import SplineCoupling
    >>> SplineCoupling(layers=6).bins
    8
    """

    layers: Layers = 4
    bins: Bins = 8
    bound: Bound = 5.0
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2
    whiten: bool = True


class SplineAutoregressive(Config):
    """Autoregressive layers with rational-quadratic splines.

    Parameters
    ----------
    layers : int, default=3
        Number of autoregressive layers; every other one runs through the features
        backwards.
    bins : int, default=8
        Bins of each spline.
    bound : float, default=5.0
        Half-width of the box in which splines act, in standard deviations.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.

    Examples
    --------
    >>> from hybridflow.flows import SplineAutoregressive
    >>> SplineAutoregressive(layers=3).layers
    3
    """

    layers: Layers = 3
    bins: Bins = 8
    bound: Bound = 5.0
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2


def build_coupling(event: Event, config: SplineCoupling) -> Transform:
    """Build coupling layers for rows of real numbers, and of angles where there are circles."""
    from hybridflow.transforms import Compose, RationalQuadraticMap

    if event.circles:
        return Compose(circular_stack(event, config))
    spline = RationalQuadraticMap(config.bins, config.bound)
    return Compose(mixing_coupling_stack(event, config, spline))


def build_autoregressive(event: Event, config: SplineAutoregressive) -> Transform:
    """Build autoregressive layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import Compose, RationalQuadraticMap

    spline = RationalQuadraticMap(config.bins, config.bound)
    return Compose(autoregressive_stack(event, config, spline))


_REFERENCE = (
    "Neural Spline Flows. Conor Durkan, Artur Bekasov, Iain Murray, George Papamakarios. 2019."
)

SPECS = (
    FlowSpec(
        name="spline-coupling",
        summary="Coupling layers with rational-quadratic splines",
        config=SplineCoupling,
        build=build_coupling,
        supports=("real", "circle"),
        stable_to=1e8,
        reference=_REFERENCE,
    ),
    FlowSpec(
        name="spline-autoregressive",
        summary="Autoregressive layers with rational-quadratic splines",
        config=SplineAutoregressive,
        build=build_autoregressive,
        stable_to=1e8,
        reference=_REFERENCE,
    ),
)
