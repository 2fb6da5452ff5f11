"""The head for numbers with heavy-tailed errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class StudentTHead(BasisConfig):
    """Settings of the ``student-t`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.

    Examples
    --------
    >>> from hybridflow.heads import StudentTHead
    >>> StudentTHead(hidden_units=64)
    StudentTHead(basis='hidden', hidden_units=64, hidden_layers=1, dropout=0.1)
    """


def build(event: Event, target: Target, base: Base, config: StudentTHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import StudentT, each_output

    return generalized_linear(event, each_output(target, StudentT), config)


SPEC = HeadSpec(
    name="student-t",
    summary="Numbers with heavy-tailed errors",
    config=StudentTHead,
    tasks=("regression",),
    build=build,
    reference="Robust Statistical Modeling Using the t Distribution, K. L. Lange, R. J. A. Little "
    "and J. M. G. Taylor, 1989",
)
