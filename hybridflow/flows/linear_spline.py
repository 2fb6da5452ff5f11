"""Piecewise-linear splines: coupled, and masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Int
from hybridflow.flows.architectures import (
    Bound,
    HiddenLayers,
    HiddenUnits,
    Layers,
    autoregressive_stack,
    mixing_coupling_stack,
)
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform

Bins = Annotated[int, Field(ge=2, le=128), Int(8, 64)]


class LinearSplineCoupling(Config):
    """Coupling layers with piecewise-linear splines.

    Parameters
    ----------
    layers : int, default=4
        Number of coupling layers, each behind a learned linear map.
    bins : int, default=24
        Equally wide bins of each spline.
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
    >>> from hybridflow.flows import LinearSplineCoupling
    >>> LinearSplineCoupling(bins=32).layers
    4
    """

    layers: Layers = 4
    bins: Bins = 24
    bound: Bound = 5.0
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2
    whiten: bool = True


class LinearSplineAutoregressive(Config):
    """Autoregressive layers with piecewise-linear splines.

    Parameters
    ----------
    layers : int, default=3
        Number of autoregressive layers; every other one runs through the features
        backwards.
    bins : int, default=24
        Equally wide bins of each spline.
    bound : float, default=5.0
        Half-width of the box in which splines act, in standard deviations.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.

    Examples
    --------
    >>> from hybridflow.flows import LinearSplineAutoregressive
    >>> LinearSplineAutoregressive(bins=32).layers
    3
    """

    layers: Layers = 3
    bins: Bins = 24
    bound: Bound = 5.0
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2


def build_coupling(event: Event, config: LinearSplineCoupling) -> Transform:
    """Build coupling layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import Compose, LinearSplineMap

    spline = LinearSplineMap(config.bins, config.bound)
    return Compose(mixing_coupling_stack(event, config, spline))


def build_autoregressive(event: Event, config: LinearSplineAutoregressive) -> Transform:
    """Build autoregressive layers for rows of `event.features` real numbers."""
    from hybridflow.transforms import Compose, LinearSplineMap

    spline = LinearSplineMap(config.bins, config.bound)
    return Compose(autoregressive_stack(event, config, spline))


_REFERENCE = (
    "Neural Importance Sampling. Thomas Müller, Brian McWilliams, Fabrice Rousselle, "
    "Markus Gross, Jan Novák. 2019."
)

SPECS = (
    FlowSpec(
        name="linear-spline-coupling",
        summary="Coupling layers with piecewise-linear splines",
        config=LinearSplineCoupling,
        build=build_coupling,
        stable_to=1e8,
        reference=_REFERENCE,
    ),
    FlowSpec(
        name="linear-spline-autoregressive",
        summary="Autoregressive layers with piecewise-linear splines",
        config=LinearSplineAutoregressive,
        build=build_autoregressive,
        stable_to=1e8,
        reference=_REFERENCE,
    ),
)
