"""The head for classes that have an order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice
from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class OrdinalHead(BasisConfig):
    """Settings of the ``ordinal`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.
    link : {"logit", "probit", "cloglog"}, default="logit"
        Proportional odds, a normal latent number, or proportional hazards.

    Examples
    --------
    >>> from hybridflow.heads import OrdinalHead
    >>> OrdinalHead(link="probit").link
    'probit'
    """

    link: Annotated[
        Literal["logit", "probit", "cloglog"], Choice(("logit", "probit", "cloglog"))
    ] = "logit"


def build(event: Event, target: Target, base: Base, config: OrdinalHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import Ordinal
    from hybridflow.likelihoods.links import PROBABILITY_LINKS

    return generalized_linear(event, Ordinal(target, PROBABILITY_LINKS[config.link]), config)


SPEC = HeadSpec(
    name="ordinal",
    summary="Classes that have an order, as one latent number cut into classes",
    config=OrdinalHead,
    tasks=("classification",),
    build=build,
    reference="Regression Models for Ordinal Data, P. McCullagh, 1980",
)
