"""The head for numbers of any law."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Int
from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class MixtureHead(BasisConfig):
    """Settings of the ``mixture`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.
    components : int, default=3
        Number of normal components.

    Examples
    --------
    >>> from hybridflow.heads import MixtureHead
    >>> MixtureHead(components=5)
    MixtureHead(basis='hidden', hidden_units=128, hidden_layers=1, dropout=0.1, components=5)
    """

    components: Annotated[int, Field(ge=1, le=64), Int(1, 8)] = 3


def build(event: Event, target: Target, base: Base, config: MixtureHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import MixtureOfGaussians, each_output

    components = config.components
    likelihood = each_output(target, lambda output: MixtureOfGaussians(output, components))
    return generalized_linear(event, likelihood, config)


SPEC = HeadSpec(
    name="mixture",
    summary="Numbers of any law, as a mixture of normal components",
    config=MixtureHead,
    tasks=("regression",),
    build=build,
    reference="Mixture Density Networks, C. M. Bishop, 1994",
)
