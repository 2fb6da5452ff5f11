"""The logistic base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.specs import BaseSpec, Event, Target

if TYPE_CHECKING:
    from hybridflow.densities import Logistic


class LogisticBase(Config):
    """Settings of the ``logistic`` base: there are none.

    Examples
    --------
    >>> from hybridflow.bases import LogisticBase
    >>> LogisticBase()
    LogisticBase()
    """


def build(event: Event, target: Target | None, config: LogisticBase) -> Logistic:
    """Build the base for one event."""
    from hybridflow.densities import Logistic

    return Logistic(event.features)


SPEC = BaseSpec(
    name="logistic",
    summary="Independent logistic dimensions with learned scales",
    config=LogisticBase,
    build=build,
    reference="NICE: Non-linear Independent Components Estimation, L. Dinh, D. Krueger and "
    "Y. Bengio, 2014",
)
