"""The normal base: standard, or with a learned mean and covariance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice, Config
from hybridflow.specs import BaseSpec, Event, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base


class NormalBase(Config):
    """Settings of the ``normal`` base.

    Parameters
    ----------
    covariance : {"identity", "diagonal", "full"}, default="identity"
        The standard normal; learned means and variances; or a learned mean and
        covariance matrix.

    Examples
    --------
    >>> from hybridflow.bases import NormalBase
    >>> NormalBase(covariance="full")
    NormalBase(covariance='full')
    """

    covariance: Annotated[
        Literal["identity", "diagonal", "full"], Choice(("identity", "diagonal", "full"))
    ] = "identity"


def build(event: Event, target: Target | None, config: NormalBase) -> Base:
    """Build the base for one event."""
    from hybridflow.densities import DiagonalNormal, FullNormal, Normal

    kinds: dict[str, Callable[[int], Base]]
    kinds = {"identity": Normal, "diagonal": DiagonalNormal, "full": FullNormal}
    return kinds[config.covariance](event.features)


SPEC = BaseSpec(
    name="normal",
    summary="Normal: standard, or with a learned mean and covariance",
    config=NormalBase,
    build=build,
    reference="Density Estimation Using Real NVP, L. Dinh, J. Sohl-Dickstein and S. Bengio, 2017",
)
