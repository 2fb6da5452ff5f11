"""One learned scale and shift per feature: a Gaussian without correlations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class ActNorm(Config):
    """A learned scale and shift per feature; the context shifts further.

    On a normal base this is a diagonal Gaussian whose mean is affine in the
    (bounded) context. It has no settings.

    Examples
    --------
    >>> from hybridflow.flows import ActNorm
    >>> ActNorm()
    ActNorm()
    """


def build(event: Event, config: ActNorm) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow import transforms

    everything = (False,) * event.features
    shift = transforms.Coupling(transforms.AdditiveMap(), everything, (), event.context_features)
    return transforms.Compose([transforms.ActNorm(event.features), shift])


SPEC = FlowSpec(
    name="actnorm",
    summary="One learned scale and shift per feature",
    config=ActNorm,
    build=build,
    stable_to=1e8,
    reference=(
        "Glow: Generative Flow with Invertible 1x1 Convolutions. "
        "Diederik Kingma, Prafulla Dhariwal. 2018."
    ),
)
