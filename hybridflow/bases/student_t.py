"""The Student-t base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config
from hybridflow.specs import BaseSpec, Event, Target

if TYPE_CHECKING:
    from hybridflow.densities import StudentT


class StudentTBase(Config):
    """Settings of the ``student-t`` base.

    Parameters
    ----------
    df : float, optional
        Degrees of freedom of every dimension; learned for each if not given.

    Examples
    --------
    >>> from hybridflow.bases import StudentTBase
    >>> StudentTBase(df=5.0)
    StudentTBase(df=5.0)
    """

    df: Annotated[float, Field(gt=0, le=1e6)] | None = None


def build(event: Event, target: Target | None, config: StudentTBase) -> StudentT:
    """Build the base for one event."""
    from hybridflow.densities import StudentT

    return StudentT(event.features, config.df)


SPEC = BaseSpec(
    name="student-t",
    summary="Independent Student-t dimensions with learned tails",
    config=StudentTBase,
    build=build,
    reference="Tails of Lipschitz Triangular Flows, P. Jaini, I. Kobyzev, Y. Yu and "
    "M. Brubaker, 2020",
)
