"""The head for positive numbers whose spread grows with their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice
from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class GammaHead(BasisConfig):
    """Settings of the ``gamma`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.
    link : {"log", "softplus"}, default="log"
        Whether effects multiply, or add up where the mean is large.
    dispersion : {"row", "one"}, default="row"
        A squared coefficient of variation for every row, or one learned for all.


    Examples
    --------
    >>> from hybridflow.heads import GammaHead
    >>> GammaHead(dispersion="one").link
    'log'
    """

    link: Annotated[Literal["log", "softplus"], Choice(("log", "softplus"))] = "log"
    dispersion: Annotated[Literal["row", "one"], Choice(("row", "one"))] = "row"


def build(event: Event, target: Target, base: Base, config: GammaHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import Gamma, each_output
    from hybridflow.likelihoods.links import POSITIVE_LINKS

    link, per_row = POSITIVE_LINKS[config.link], config.dispersion == "row"
    likelihood = each_output(target, lambda output: Gamma(output, link, per_row=per_row))
    return generalized_linear(event, likelihood, config)


SPEC = HeadSpec(
    name="gamma",
    summary="Positive numbers whose spread grows with their mean",
    config=GammaHead,
    tasks=("regression",),
    build=build,
    reference="Generalized Linear Models, P. McCullagh and J. A. Nelder, 1989",
)
