"""Contractions and expansions around learned centres."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.flows.architectures import ManyLayers
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class Radial(Config):
    """A fitted whitening, radial layers, and one scale and shift per feature.

    Parameters
    ----------
    layers : int, default=16
        Number of radial layers; each contracts or expands around one centre.

    Examples
    --------
    >>> from hybridflow.flows import Radial
    >>> Radial(layers=8).layers
    8
    """

    layers: ManyLayers = 16


def build(event: Event, config: Radial) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow import transforms

    features, context = event.features, event.context_features
    return transforms.Compose(
        [
            transforms.Whiten(features),
            *(transforms.Radial(features, context) for _ in range(config.layers)),
            transforms.Affine(features, context),
        ]
    )


SPEC = FlowSpec(
    name="radial",
    summary="Contractions and expansions around learned centres",
    config=Radial,
    build=build,
    stable_to=1e8,
    reference=(
        "Variational Inference with Normalizing Flows. Danilo Rezende, Shakir Mohamed. 2015."
    ),
)
