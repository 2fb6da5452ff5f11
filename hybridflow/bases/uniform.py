"""The uniform base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.specs import BaseSpec, Event, Target

if TYPE_CHECKING:
    from hybridflow.densities import Uniform


class UniformBase(Config):
    """Settings of the ``uniform`` base: there are none.

    Examples
    --------
    >>> from hybridflow.bases import UniformBase
    >>> UniformBase()
    UniformBase()
    """


def build(event: Event, target: Target | None, config: UniformBase) -> Uniform:
    """Build the base for one event."""
    from hybridflow.densities import Uniform

    return Uniform(event)


SPEC = BaseSpec(
    name="uniform",
    summary="Uniform on a box: intervals, circles, or the range of the rows",
    config=UniformBase,
    build=build,
    supports=("real", "interval", "circle"),
    reference="Normalizing Flows on Tori and Spheres, D. J. Rezende, G. Papamakarios, "
    "S. Racaniere, M. S. Albergo, G. Kanwar, P. E. Shanahan and K. Cranmer, 2020",
)
