"""The head for log-normal times, known or censored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice
from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class LogNormalHead(BasisConfig):
    """Settings of the ``log-normal`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.
    spread : {"one", "row"}, default="one"
        A spread of the logarithm that all rows share, or one for every row:
        events are often few, and say less of spreads than of locations.

    Examples
    --------
    >>> from hybridflow.heads import LogNormalHead
    >>> LogNormalHead(spread="row")
    LogNormalHead(basis='hidden', hidden_units=128, hidden_layers=1, dropout=0.1, spread='row')
    """

    spread: Annotated[Literal["one", "row"], Choice(("one", "row"))] = "one"


def build(event: Event, target: Target, base: Base, config: LogNormalHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import LogNormal, each_output

    per_row = config.spread == "row"
    likelihood = each_output(target, lambda output: LogNormal(output, per_row=per_row))
    return generalized_linear(event, likelihood, config)


SPEC = HeadSpec(
    name="log-normal",
    summary="Positive numbers with log-normal law, known or censored",
    config=LogNormalHead,
    tasks=("regression",),
    build=build,
    reference="The Statistical Analysis of Failure Time Data, J. D. Kalbfleisch "
    "and R. L. Prentice, 2002",
)
