"""Stacks of contractive residual blocks: i-ResNet and Residual Flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from hybridflow.config import Choice, Config, Float, Int
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform

_EXACT = 16
"""Most columns of which a Residual Flow takes the exact log-determinant in training."""


class ResidualBlocks(Config):
    """Base class of the settings of stacks of residual blocks.

    Parameters
    ----------
    layers : int, default=8
        Number of blocks.
    hidden_units : int, default=64
        Width of each hidden layer of a block.
    hidden_layers : int, default=2
        Hidden layers of each block.
    lipschitz : float, default=0.9
        Bound of the Lipschitz constant of a block's network: closer to 1 bends more
        and inverts more slowly.
    activation : {"sine", "lipswish"}, default="sine"
        Of the hidden layers. LipSwish is that of the Residual Flow's authors; sine
        starts with steeper slopes and fits faster.

    Examples
    --------
    >>> from hybridflow.flows import ResidualFlow
    >>> ResidualFlow(layers=3).lipschitz
    0.9
    """

    layers: Annotated[int, Field(ge=1, le=64), Int(4, 16)] = 8
    hidden_units: Annotated[int, Field(ge=1, le=1024), Int(16, 256, log=True)] = 64
    hidden_layers: Annotated[int, Field(ge=1, le=8), Int(1, 3)] = 2
    lipschitz: Annotated[float, Field(ge=0.1, le=0.99), Float(0.7, 0.97)] = 0.9
    activation: Annotated[Literal["sine", "lipswish"], Choice(("sine", "lipswish"))] = "sine"


class IResNet(ResidualBlocks):
    """Residual blocks with the exact log-determinant.

    Parameters
    ----------
    layers, hidden_units, hidden_layers, lipschitz, activation
        As in `ResidualBlocks`.

    Examples
    --------
    >>> from hybridflow.flows import IResNet
    >>> IResNet(layers=3).layers
    3
    """


class ResidualFlow(ResidualBlocks):
    """Residual blocks with an unbiased log-determinant in training, beyond 16 columns.

    Parameters
    ----------
    layers, hidden_units, hidden_layers, lipschitz, activation
        As in `ResidualBlocks`.

    Examples
    --------
    >>> from hybridflow.flows import ResidualFlow
    >>> ResidualFlow(lipschitz=0.95).layers
    8
    """


def build_i_resnet(event: Event, config: IResNet) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    return _blocks(event, config, estimate_above=None)


def build_residual_flow(event: Event, config: ResidualFlow) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    return _blocks(event, config, estimate_above=_EXACT)


def _blocks(event: Event, config: ResidualBlocks, estimate_above: int | None) -> Transform:
    """Return blocks, each behind a learned scale, all behind a fitted whitening."""
    from hybridflow.transforms import ActNorm, Compose, Residual, Whiten
    from hybridflow.transforms.contractive import lip_swish, sine

    hidden = (config.hidden_units,) * config.hidden_layers
    activation = {"sine": sine, "lipswish": lip_swish}[config.activation]
    transforms: list[Transform] = [Whiten(event.features)]
    for _ in range(config.layers):
        transforms += [
            ActNorm(event.features),
            Residual(
                event.features,
                hidden,
                config.lipschitz,
                event.context_features,
                activation,
                estimate_above,
            ),
        ]
    return Compose(transforms)


SPECS = (
    FlowSpec(
        name="i-resnet",
        summary="Contractive residual blocks with an exact log-determinant",
        config=IResNet,
        build=build_i_resnet,
        inverse="iterative",
        stable_to=1e8,
        onnx=False,
        reference=(
            "Invertible Residual Networks. Jens Behrmann, Will Grathwohl, Ricky Chen, "
            "David Duvenaud, Jörn-Henrik Jacobsen. 2019."
        ),
    ),
    FlowSpec(
        name="residual-flow",
        summary="Contractive residual blocks, trained on an unbiased estimate beyond 16 columns",
        config=ResidualFlow,
        build=build_residual_flow,
        inverse="iterative",
        log_det="estimated",
        stable_to=1e8,
        onnx=False,
        reference=(
            "Residual Flows for Invertible Generative Modeling. Ricky Chen, Jens Behrmann, "
            "David Duvenaud, Jörn-Henrik Jacobsen. 2019."
        ),
    ),
)
