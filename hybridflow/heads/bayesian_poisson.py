"""The head for counts that knows how sure it is of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.heads.basis import CountConfig, basis_of
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import LaplacePoisson


class BayesianPoissonHead(CountConfig):
    """Settings of the ``bayesian-poisson`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout, exposure
        As in `CountConfig`.

    Examples
    --------
    >>> from hybridflow.heads import BayesianPoissonHead
    >>> BayesianPoissonHead(exposure="days").exposure
    'days'
    """


def build(event: Event, target: Target, base: Base, config: BayesianPoissonHead) -> LaplacePoisson:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import LaplacePoisson

    return LaplacePoisson(basis_of(event, config), target)


SPEC = HeadSpec(
    name="bayesian-poisson",
    summary="Counts, with a posterior of the last layer by Laplace's approximation",
    config=BayesianPoissonHead,
    tasks=("regression",),
    build=build,
    reference="Laplace Redux: Effortless Bayesian Deep Learning, E. Daxberger, A. Kristiadi, "
    "A. Immer, R. Eschenhagen, M. Bauer and P. Hennig, 2021",
)
