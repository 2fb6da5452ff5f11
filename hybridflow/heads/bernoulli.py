"""The head for two classes, with a choice of links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice
from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class BernoulliHead(BasisConfig):
    """Settings of the ``bernoulli`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.
    link : {"logit", "probit", "cloglog"}, default="logit"
        The logarithm of the odds; the quantile of a normal tolerance; the
        logarithm of the hazard, for what happens once or more in a time.

    Examples
    --------
    >>> from hybridflow.heads import BernoulliHead
    >>> BernoulliHead(link="probit").link
    'probit'
    """

    link: Annotated[
        Literal["logit", "probit", "cloglog"], Choice(("logit", "probit", "cloglog"))
    ] = "logit"


def build(event: Event, target: Target, base: Base, config: BernoulliHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import Bernoulli
    from hybridflow.likelihoods.links import PROBABILITY_LINKS

    return generalized_linear(event, Bernoulli(target, PROBABILITY_LINKS[config.link]), config)


SPEC = HeadSpec(
    name="bernoulli",
    summary="Two classes, with the link logit, probit or cloglog",
    config=BernoulliHead,
    tasks=("classification",),
    build=build,
    max_classes=2,
    reference="Generalized Linear Models, J. A. Nelder and R. W. M. Wedderburn, 1972",
)
