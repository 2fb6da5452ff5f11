"""The head for shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice
from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class BetaHead(BasisConfig):
    """Settings of the ``beta`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.
    precision : {"row", "one"}, default="row"
        A precision for every row, or one learned for all.


    Examples
    --------
    >>> from hybridflow.heads import BetaHead
    >>> BetaHead(precision="one")
    BetaHead(basis='hidden', hidden_units=128, hidden_layers=1, dropout=0.1, precision='one')
    """

    precision: Annotated[Literal["row", "one"], Choice(("row", "one"))] = "row"


def build(event: Event, target: Target, base: Base, config: BetaHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import Beta, each_output

    per_row = config.precision == "row"
    likelihood = each_output(target, lambda output: Beta(output, per_row=per_row))
    return generalized_linear(event, likelihood, config)


SPEC = HeadSpec(
    name="beta",
    summary="Shares: numbers between 0 and 1, with the logistic link",
    config=BetaHead,
    tasks=("regression",),
    build=build,
    reference="Beta Regression for Modelling Rates and Proportions, S. Ferrari and "
    "F. Cribari-Neto, 2004",
)
