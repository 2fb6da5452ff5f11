"""The head for counts that vary more than a Poisson law lets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice
from hybridflow.heads.basis import CountConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class NegativeBinomialHead(CountConfig):
    """Settings of the ``negative-binomial`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout, exposure
        As in `CountConfig`.
    dispersion : {"row", "one"}, default="row"
        A dispersion for every row, or one learned for all.


    Examples
    --------
    >>> from hybridflow.heads import NegativeBinomialHead
    >>> NegativeBinomialHead(dispersion="one", exposure="days").exposure
    'days'
    """

    dispersion: Annotated[Literal["row", "one"], Choice(("row", "one"))] = "row"


def build(
    event: Event, target: Target, base: Base, config: NegativeBinomialHead
) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import NegativeBinomial, each_output

    per_row = config.dispersion == "row"
    likelihood = each_output(target, lambda output: NegativeBinomial(output, per_row=per_row))
    return generalized_linear(event, likelihood, config)


SPEC = HeadSpec(
    name="negative-binomial",
    summary="Counts that vary more than their mean, with the logarithmic link",
    config=NegativeBinomialHead,
    tasks=("regression",),
    build=build,
    reference="Regression Analysis of Count Data, A. C. Cameron and P. K. Trivedi, 1998",
)
