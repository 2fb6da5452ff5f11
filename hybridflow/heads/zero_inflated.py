"""The head for counts with additional zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice
from hybridflow.heads.basis import CountConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class ZeroInflatedHead(CountConfig):
    """Settings of the ``zero-inflated`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout, exposure
        As in `CountConfig`.
    counts : {"poisson", "negative-binomial"}, default="poisson"
        Law of the counts beside the additional zeros; of a negative binomial
        one the dispersion is the same for all rows.


    Examples
    --------
    >>> from hybridflow.heads import ZeroInflatedHead
    >>> ZeroInflatedHead(counts="negative-binomial").counts
    'negative-binomial'
    """

    counts: Annotated[
        Literal["poisson", "negative-binomial"], Choice(("poisson", "negative-binomial"))
    ] = "poisson"


def build(event: Event, target: Target, base: Base, config: ZeroInflatedHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import NegativeBinomial, Poisson, ZeroInflated, each_output

    def zero_inflated(output: Target) -> ZeroInflated:
        if config.counts == "poisson":
            return ZeroInflated(output, Poisson(output))
        return ZeroInflated(output, NegativeBinomial(output, per_row=False))

    return generalized_linear(event, each_output(target, zero_inflated), config)


SPEC = HeadSpec(
    name="zero-inflated",
    summary="Counts with additional zeros, with the logarithmic link",
    config=ZeroInflatedHead,
    tasks=("regression",),
    build=build,
    reference="Zero-Inflated Poisson Regression, with an Application to Defects in Manufacturing, "
    "D. Lambert, 1992",
)
