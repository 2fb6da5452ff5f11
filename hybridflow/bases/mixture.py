"""The base of several normal components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Int
from hybridflow.specs import BaseSpec, Event, Target

if TYPE_CHECKING:
    from hybridflow.densities import Mixture


class MixtureBase(Config):
    """Settings of the ``mixture`` base.

    Parameters
    ----------
    components : int, default=8
        Number of normal components.

    Examples
    --------
    >>> from hybridflow.bases import MixtureBase
    >>> MixtureBase.space()
    {'components': Int(low=2, high=32, log=True)}
    """

    components: Annotated[int, Field(ge=1, le=1024), Int(2, 32, log=True)] = 8


def build(event: Event, target: Target | None, config: MixtureBase) -> Mixture:
    """Build the base for one event."""
    from hybridflow.densities import Mixture

    return Mixture(event.features, config.components)


SPEC = BaseSpec(
    name="mixture",
    summary="Mixture of diagonal normal components",
    config=MixtureBase,
    build=build,
    reference="Semi-Supervised Learning with Normalizing Flows, P. Izmailov, P. Kirichenko, "
    "M. Finzi and A. G. Wilson, 2020",
)
