"""Stacks of layers around a univariate map: coupling and autoregressive.

A map (`hybridflow.transforms.ElementwiseMap`) decides how one number is bent;
a stack decides which features the parameters of each map are computed from. Any map
fits any stack, so a file of this package offers a map in both architectures.
Imports no torch until a flow is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from hybridflow.config import Float, Int
from hybridflow.specs import Event

if TYPE_CHECKING:
    from hybridflow.transforms import ElementwiseMap, Transform

Layers = Annotated[int, Field(ge=1, le=64), Int(2, 8)]
"""Number of layers, of maps that bend much."""

ManyLayers = Annotated[int, Field(ge=1, le=64), Int(4, 16)]
"""Number of layers, of maps that bend little."""

HiddenUnits = Annotated[int, Field(ge=1, le=1024), Int(16, 256, log=True)]
"""Width of each hidden layer of the conditioners."""

HiddenLayers = Annotated[int, Field(ge=1, le=8), Int(1, 3)]
"""Hidden layers of each conditioner."""

Bins = Annotated[int, Field(ge=2, le=64), Int(4, 16)]
"""Bins of a spline."""

Bound = Annotated[float, Field(ge=1, le=50), Float(3, 8)]
"""Half-width of the box in which a spline acts."""


class StackConfig(Protocol):
    """What every stack asks of its config."""

    @property
    def layers(self) -> int:
        """Number of layers."""

    @property
    def hidden_units(self) -> int:
        """Width of each hidden layer of the conditioners."""

    @property
    def hidden_layers(self) -> int:
        """Hidden layers of each conditioner."""


class WhitenedStackConfig(StackConfig, Protocol):
    """What a stack with linear maps asks of its config."""

    @property
    def whiten(self) -> bool:
        """Whether to end with the fitted whitening."""


def coupling_stack(
    event: Event, config: StackConfig, elementwise: ElementwiseMap
) -> list[Transform]:
    """Return coupling layers, each of which maps the half that the one before kept.

    Parameters
    ----------
    event : Event
    config : StackConfig
    elementwise : ElementwiseMap
        The univariate map.

    Returns
    -------
    list of Transform
        In the order in which they are applied.
    """
    from hybridflow.transforms import Coupling, alternating_mask

    features, context = event.features, event.context_features
    hidden = (config.hidden_units,) * config.hidden_layers
    return [
        Coupling(elementwise, alternating_mask(features, layer), hidden, context)
        for layer in range(config.layers)
    ]


def mixing_coupling_stack(
    event: Event, config: WhitenedStackConfig, elementwise: ElementwiseMap
) -> list[Transform]:
    """Return coupling layers, each behind a learned linear map, then a whitening.

    Parameters
    ----------
    event : Event
    config : WhitenedStackConfig
    elementwise : ElementwiseMap
        The univariate map.

    Returns
    -------
    list of Transform
        In the order in which they are applied.
    """
    from hybridflow.transforms import LU, Whiten

    transforms: list[Transform] = []
    for coupling in coupling_stack(event, config, elementwise):
        transforms += [LU(event.features), coupling]
    # Last: the others start as the identity, so the whole starts as a Gaussian of full
    # covariance all the same, and the conditioners read the columns themselves.
    return [*transforms, Whiten(event.features)] if config.whiten else transforms


def autoregressive_stack(
    event: Event, config: StackConfig, elementwise: ElementwiseMap
) -> list[Transform]:
    """Return autoregressive layers; every other one runs through the features backwards.

    Parameters
    ----------
    event : Event
    config : StackConfig
    elementwise : ElementwiseMap
        The univariate map.

    Returns
    -------
    list of Transform
        In the order in which they are applied.
    """
    from hybridflow.transforms import MaskedAutoregressive

    features, context = event.features, event.context_features
    hidden = (config.hidden_units,) * config.hidden_layers
    forwards, backwards = range(features), range(features - 1, -1, -1)
    return [
        MaskedAutoregressive(
            elementwise, features, hidden, backwards if layer % 2 else forwards, context
        )
        for layer in range(config.layers)
    ]
