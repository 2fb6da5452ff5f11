"""The head for numbers with normal errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from hybridflow.config import Choice
from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class GaussianHead(BasisConfig):
    """Settings of the ``gaussian`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.
    spread : {"row", "one"}, default="row"
        A standard deviation for every row, or one learned for all.

    Examples
    --------
    >>> from hybridflow.heads import GaussianHead
    >>> GaussianHead(spread="one")
    GaussianHead(basis='hidden', hidden_units=128, hidden_layers=1, dropout=0.1, spread='one')
    """

    spread: Annotated[Literal["row", "one"], Choice(("row", "one"))] = "row"


def build(event: Event, target: Target, base: Base, config: GaussianHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import Gaussian, each_output

    per_row = config.spread == "row"
    likelihood = each_output(target, lambda output: Gaussian(output, per_row=per_row))
    return generalized_linear(event, likelihood, config)


SPEC = HeadSpec(
    name="gaussian",
    summary="Numbers with normal errors, of one spread or a spread per row",
    config=GaussianHead,
    tasks=("regression",),
    build=build,
    reference="Estimating the Mean and Variance of the Target Probability Distribution, "
    "D. A. Nix and A. S. Weigend, 1994",
)
