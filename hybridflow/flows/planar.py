"""Bends along single directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.flows.architectures import ManyLayers
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class Planar(Config):
    """A fitted whitening, planar layers, and one scale and shift per feature.

    Parameters
    ----------
    layers : int, default=16
        Number of planar layers; each bends along one direction.

    Examples
    --------
    >>> from hybridflow.flows import Planar
    >>> Planar(layers=8).layers
    8
    """

    layers: ManyLayers = 16


def build(event: Event, config: Planar) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow import transforms

    features, context = event.features, event.context_features
    return transforms.Compose(
        [
            transforms.Whiten(features),
            *(transforms.Planar(features, context) for _ in range(config.layers)),
            transforms.Affine(features, context),
        ]
    )


SPEC = FlowSpec(
    name="planar",
    summary="Bends along single directions",
    config=Planar,
    build=build,
    inverse="iterative",
    stable_to=1e8,
    onnx=False,
    reference=(
        "Variational Inference with Normalizing Flows. Danilo Rezende, Shakir Mohamed. 2015."
    ),
)
