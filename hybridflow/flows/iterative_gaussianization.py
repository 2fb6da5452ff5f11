"""Bends along directions that are fitted one layer after the other, without gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from hybridflow.config import Choice, Config, Int
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform

_MOST_DIRECTIONS = 8  # of a sliced layer: fewer that count beat many that do not


class IterativeGaussianization(Config):
    """A fitted whitening, then bends along fitted directions.

    Nothing is trained, unless there is a context: the fitted layers do not read
    it, and a learned scale and shift per feature behind them, affine in the
    context, takes it in.

    Parameters
    ----------
    layers : int, default=20
        Number of layers.
    directions : {"sliced", "pca", "random"}, default="sliced"
        Up to eight directions along which the rows are farthest from normal;
        all principal axes; or a random rotation.
    knots : int, default=32
        Most knots of each bend.

    Examples
    --------
    >>> from hybridflow.flows import IterativeGaussianization
    >>> IterativeGaussianization(layers=10).directions
    'sliced'
    """

    layers: Annotated[int, Field(ge=1, le=256), Int(8, 64, log=True)] = 20
    directions: Annotated[
        Literal["sliced", "pca", "random"], Choice(("sliced", "pca", "random"))
    ] = "sliced"
    knots: Annotated[int, Field(ge=4, le=256), Int(8, 64, log=True)] = 32


def build(event: Event, config: IterativeGaussianization) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow.transforms import Affine, Compose, GaussianizeDirections, Whiten

    features, context = event.features, event.context_features
    count = min(features, _MOST_DIRECTIONS) if config.directions == "sliced" else features
    transforms: list[Transform] = [Whiten(features)]
    for layer in range(config.layers):
        transforms.append(
            GaussianizeDirections(features, count, config.directions, config.knots, seed=layer)
        )
    if context:
        transforms.append(Affine(features, context))
    return Compose(transforms)


SPEC = FlowSpec(
    name="iterative-gaussianization",
    summary="Bends along fitted directions, without training",
    config=IterativeGaussianization,
    build=build,
    stable_to=1e8,
    reference=(
        "Gaussianization. Scott Chen, Ramesh Gopinath. 2000. "
        "Iterative Gaussianization: From ICA to Random Rotations. "
        "Valero Laparra, Gustavo Camps-Valls, Jesus Malo. 2011. "
        "Sliced Iterative Normalizing Flows. Biwei Dai, Uros Seljak. 2021."
    ),
)
