"""The head that reads the class-conditional base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.config import Config
from hybridflow.errors import ConfigError
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import Bayes


class BayesHead(Config):
    """Settings of the ``bayes`` head: there are none, all that it reads is the base's.

    Examples
    --------
    >>> from hybridflow.heads import BayesHead
    >>> BayesHead()
    BayesHead()
    """


def build(event: Event, target: Target, base: Base, config: BayesHead) -> Bayes:
    """Build the head for one target and base."""
    from hybridflow.densities import ClassConditional
    from hybridflow.likelihoods import Bayes

    if not isinstance(base, ClassConditional):
        raise ConfigError(
            f"head 'bayes' needs base='class-conditional', got a {type(base).__name__}"
        )
    return Bayes(target, base)


SPEC = HeadSpec(
    name="bayes",
    summary="Classes by Bayes' rule from the base 'class-conditional'",
    config=BayesHead,
    tasks=("classification",),
    build=build,
    requires_base="class-conditional",
    reference="Semi-Supervised Learning with Normalizing Flows, P. Izmailov, P. Kirichenko, "
    "M. Finzi and A. G. Wilson, 2020",
)
