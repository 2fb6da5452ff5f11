"""The standard normal base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.specs import BaseSpec, Event, Target

if TYPE_CHECKING:
    from hybridflow.densities import Normal


class NormalBase(Config):
    """Settings of the ``normal`` base: there are none.

    Examples
    --------
    >>> from hybridflow.bases import NormalBase
    >>> NormalBase()
    NormalBase()
    """


def build(event: Event, target: Target | None, config: NormalBase) -> Normal:
    """Build the base for one event."""
    from hybridflow.densities import Normal

    return Normal(event.features)


SPEC = BaseSpec(
    name="normal",
    summary="Standard normal",
    config=NormalBase,
    build=build,
    reference="Density Estimation Using Real NVP, L. Dinh, J. Sohl-Dickstein and S. Bengio, 2017",
)
