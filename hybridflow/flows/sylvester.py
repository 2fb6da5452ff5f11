"""Residual layers with a triangular Jacobian in a learned rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Int
from hybridflow.flows.architectures import Layers
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class Sylvester(Config):
    """A fitted whitening, Sylvester layers, and one scale and shift per feature.

    Parameters
    ----------
    layers : int, default=8
        Number of Sylvester layers; each bends along all features' directions.
    reflections : int, default=4
        Reflections that make up the rotation of each layer.

    Examples
    --------
    >>> from hybridflow.flows import Sylvester
    >>> Sylvester(layers=4).reflections
    4
    """

    layers: Layers = 8
    reflections: Annotated[int, Field(ge=1, le=1024), Int(2, 16, log=True)] = 4


def build(event: Event, config: Sylvester) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow import transforms

    features, context = event.features, event.context_features
    return transforms.Compose(
        [
            transforms.Whiten(features),
            *(
                transforms.Sylvester(features, config.reflections, context)
                for _ in range(config.layers)
            ),
            transforms.Affine(features, context),
        ]
    )


SPEC = FlowSpec(
    name="sylvester",
    summary="Residual layers with a triangular Jacobian in a learned rotation",
    config=Sylvester,
    build=build,
    inverse="iterative",
    stable_to=1e8,
    reference=(
        "Sylvester Normalizing Flows for Variational Inference. "
        "Rianne van den Berg, Leonard Hasenclever, Jakub Tomczak, Max Welling. 2018."
    ),
)
