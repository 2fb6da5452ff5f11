"""Coupled splines for tables with circles: hours, angles, days of the year."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from hybridflow.config import Config
from hybridflow.flows.architectures import (
    Bins,
    Bound,
    HiddenLayers,
    HiddenUnits,
    Layers,
    WhitenedStackConfig,
)
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform

_GOLDEN = (math.sqrt(5) - 1) / 2


class CircularSpline(Config):
    """Coupling layers with splines of the line and of the circle.

    Conditioners read an angle as its cosine and sine. Real features are
    whitened and mixed by learned linear maps, angles are not.

    Parameters
    ----------
    layers : int, default=4
        Number of coupling layers, each behind a learned linear map of the real
        features.
    bins : int, default=8
        Bins of each spline.
    bound : float, default=5.0
        Half-width of the box in which splines of the line act, in standard
        deviations.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.
    whiten : bool, default=True
        Whether to begin with the fitted `Whiten` of the real features.

    Examples
    --------
    >>> from hybridflow.flows import CircularSpline
    >>> CircularSpline(layers=6).bins
    8
    """

    layers: Layers = 4
    bins: Bins = 8
    bound: Bound = 5.0
    hidden_units: HiddenUnits = 64
    hidden_layers: HiddenLayers = 2
    whiten: bool = True


class CircularConfig(WhitenedStackConfig, Protocol):
    """What a stack of splines with circles asks of its config."""

    @property
    def bins(self) -> int:
        """Bins of each spline."""

    @property
    def bound(self) -> float:
        """Half-width of the box in which splines of the line act."""


def circular_stack(event: Event, config: CircularConfig) -> list[Transform]:
    """Return coupling layers of real numbers and angles.

    The real features go through a whitening, and a learned linear map before
    each layer.

    Parameters
    ----------
    event : Event
        With circles of period 2 pi.
    config : CircularConfig

    Returns
    -------
    list of Transform
        In the order in which they are applied.
    """
    from hybridflow.transforms import (
        LU,
        CircularCoupling,
        CircularSplineMap,
        OnColumns,
        RationalQuadraticMap,
        Whiten,
        alternating_mask,
    )

    features, circles = event.features, event.circles
    straight = [i for i in range(features) if i not in circles]
    hidden = (config.hidden_units,) * config.hidden_layers
    real = RationalQuadraticMap(config.bins, config.bound)
    transforms: list[Transform] = []
    if config.whiten and straight:
        transforms.append(OnColumns(Whiten(len(straight)), straight, features))
    for layer in range(config.layers):
        if straight:
            transforms.append(OnColumns(LU(len(straight)), straight, features))
        # Golden sections of the circle: no two layers have their cut close together.
        circular = CircularSplineMap(config.bins, cut=2 * math.pi * (_GOLDEN * layer % 1))
        mask = alternating_mask(features, layer)
        transforms.append(
            CircularCoupling(real, circular, mask, circles, hidden, event.context_features)
        )
    return transforms


def build(event: Event, config: CircularSpline) -> Transform:
    """Build the flow for rows of real numbers and of angles in radians."""
    from hybridflow.transforms import Compose

    return Compose(circular_stack(event, config))


SPEC = FlowSpec(
    name="circular-spline",
    summary="Coupling layers with splines, of the circle for angles",
    config=CircularSpline,
    build=build,
    supports=("real", "circle"),
    stable_to=1e8,
    reference=(
        "Normalizing Flows on Tori and Spheres. Danilo Rezende, George Papamakarios, "
        "Sébastien Racanière, Michael Albergo, Gurtej Kanwar, Phiala Shanahan, Kyle Cranmer. 2020."
    ),
)
