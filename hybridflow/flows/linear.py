"""One learned matrix: a Gaussian with all correlations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice, Config
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class Linear(Config):
    """A fitted whitening, a learned matrix, and a shift that the context sets.

    On a normal base this is a Gaussian that starts as that of Ledoit and Wolf;
    its mean is affine in the (bounded) context.

    Parameters
    ----------
    factors : {"lu", "householder", "orthogonal"}, default="lu"
        How the matrix is kept: two triangular factors; or a scale per
        coordinate between two rotations, each a product of reflections or the
        exponential of a skew-symmetric matrix.

    Examples
    --------
    >>> from hybridflow.flows import Linear
    >>> Linear(factors="householder")
    Linear(factors='householder')
    """

    factors: Annotated[
        Literal["lu", "householder", "orthogonal"], Choice(("lu", "householder", "orthogonal"))
    ] = "lu"


def build(event: Event, config: Linear) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow.transforms import (
        LU,
        ActNorm,
        AdditiveMap,
        Compose,
        Coupling,
        Householder,
        Orthogonal,
        Whiten,
    )

    features = event.features
    matrix: list[Transform]
    if config.factors == "lu":
        matrix = [LU(features)]
    elif config.factors == "householder":
        # Pairs of reflections, enough for any rotation.
        reflections = features + features % 2
        rotations = [Householder(features, reflections) for _ in range(2)]
        matrix = [rotations[0], ActNorm(features), rotations[1]]
    else:
        matrix = [Orthogonal(features), ActNorm(features), Orthogonal(features)]
    shift = Coupling(AdditiveMap(), (False,) * features, (), event.context_features)
    return Compose([Whiten(features), *matrix, shift])


SPEC = FlowSpec(
    name="linear",
    summary="One learned matrix: a Gaussian with all correlations",
    config=Linear,
    build=build,
    stable_to=1e8,
    reference=(
        "Glow: Generative Flow with Invertible 1x1 Convolutions. "
        "Diederik Kingma, Prafulla Dhariwal. 2018."
    ),
)
