"""The Laplace base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.specs import BaseSpec, Event, Target

if TYPE_CHECKING:
    from hybridflow.densities import Laplace


class LaplaceBase(Config):
    """Settings of the ``laplace`` base: there are none.

    Examples
    --------
    >>> from hybridflow.bases import LaplaceBase
    >>> LaplaceBase()
    LaplaceBase()
    """


def build(event: Event, target: Target | None, config: LaplaceBase) -> Laplace:
    """Build the base for one event."""
    from hybridflow.densities import Laplace

    return Laplace(event.features)


SPEC = BaseSpec(
    name="laplace",
    summary="Independent Laplace dimensions with learned scales",
    config=LaplaceBase,
    build=build,
    reference="The Laplace Distribution and Generalizations, S. Kotz, T. J. Kozubowski and "
    "K. Podgorski, 2001",
)
