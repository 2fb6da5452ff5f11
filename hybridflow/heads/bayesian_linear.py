"""The head that knows how sure it is of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.heads.basis import BasisConfig, basis_of
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import BayesianLinear, LaplaceCategorical


class BayesianLinearHead(BasisConfig):
    """Settings of the ``bayesian-linear`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.

    Examples
    --------
    >>> from hybridflow.heads import BayesianLinearHead
    >>> BayesianLinearHead(basis="identity")
    BayesianLinearHead(basis='identity', hidden_units=128, hidden_layers=1, dropout=0.1)
    """


def build(
    event: Event, target: Target, base: Base, config: BayesianLinearHead
) -> BayesianLinear | LaplaceCategorical:
    """Build the head for one event and target: exact for numbers, by Laplace for classes."""
    from hybridflow.likelihoods import BayesianLinear, LaplaceCategorical

    family = LaplaceCategorical if target.kind == "classification" else BayesianLinear
    return family(basis_of(event, config), target)


SPEC = HeadSpec(
    name="bayesian-linear",
    summary="Numbers or classes, with a posterior of the last layer: exact, or by Laplace",
    config=BayesianLinearHead,
    tasks=("regression", "classification"),
    build=build,
    reference="Bayesian Interpolation, D. J. C. MacKay, 1992",
)
