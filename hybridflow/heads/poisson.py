"""The head for counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.heads.basis import CountConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class PoissonHead(CountConfig):
    """Settings of the ``poisson`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout, exposure
        As in `CountConfig`.

    Examples
    --------
    >>> from hybridflow.heads import PoissonHead
    >>> PoissonHead(exposure="days")
    PoissonHead(basis='hidden', hidden_units=128, hidden_layers=1, dropout=0.1, exposure='days')
    """


def build(event: Event, target: Target, base: Base, config: PoissonHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import Poisson, each_output

    return generalized_linear(event, each_output(target, Poisson), config)


SPEC = HeadSpec(
    name="poisson",
    summary="Counts, with the logarithmic link",
    config=PoissonHead,
    tasks=("regression",),
    build=build,
    reference="Generalized Linear Models, J. A. Nelder and R. W. M. Wedderburn, 1972",
)
