"""The base with a mixture for every class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Int
from hybridflow.specs import BaseSpec, Event, Target

if TYPE_CHECKING:
    from hybridflow.densities import ClassConditional


class ClassConditionalBase(Config):
    """Settings of the ``class-conditional`` base.

    Parameters
    ----------
    components : int, default=1
        Number of normal components of each class.

    Examples
    --------
    >>> from hybridflow.bases import ClassConditionalBase
    >>> ClassConditionalBase.space()
    {'components': Int(low=1, high=8, log=True)}
    """

    components: Annotated[int, Field(ge=1, le=1024), Int(1, 8, log=True)] = 1


def build(event: Event, target: Target | None, config: ClassConditionalBase) -> ClassConditional:
    """Build the base for one event; a target without classes counts as one class."""
    from hybridflow.densities import ClassConditional

    classes = 1 if target is None else max(1, len(target.classes))
    return ClassConditional(event.features, classes, config.components)


SPEC = BaseSpec(
    name="class-conditional",
    summary="A mixture of diagonal normal components for every class",
    config=ClassConditionalBase,
    build=build,
    reference="Semi-Supervised Learning with Normalizing Flows, P. Izmailov, P. Kirichenko, "
    "M. Finzi and A. G. Wilson, 2020",
)
