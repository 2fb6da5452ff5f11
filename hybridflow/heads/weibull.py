"""The head for Weibull times, known or censored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice
from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class WeibullHead(BasisConfig):
    """Settings of the ``weibull`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.
    spread : {"one", "row"}, default="one"
        A spread of the logarithm that all rows share, or one for every row:
        events are often few, and say less of spreads than of locations.

    Examples
    --------
    >>> from hybridflow.heads import WeibullHead
    >>> WeibullHead(spread="row")
    WeibullHead(basis='hidden', hidden_units=128, hidden_layers=1, dropout=0.1, spread='row')
    """

    spread: Annotated[Literal["one", "row"], Choice(("one", "row"))] = "one"


def build(event: Event, target: Target, base: Base, config: WeibullHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import Weibull, each_output

    per_row = config.spread == "row"
    likelihood = each_output(target, lambda output: Weibull(output, per_row=per_row))
    return generalized_linear(event, likelihood, config)


SPEC = HeadSpec(
    name="weibull",
    summary="Times to an event with Weibull law, known or censored",
    config=WeibullHead,
    tasks=("regression",),
    build=build,
    reference="A Statistical Distribution Function of Wide Applicability, W. Weibull, 1951",
)
