"""The head for classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class CategoricalHead(BasisConfig):
    """Settings of the ``categorical`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.

    Examples
    --------
    >>> from hybridflow.heads import CategoricalHead
    >>> CategoricalHead(hidden_units=64)
    CategoricalHead(basis='hidden', hidden_units=64, hidden_layers=1, dropout=0.1)
    """


def build(event: Event, target: Target, base: Base, config: CategoricalHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import Categorical

    return generalized_linear(event, Categorical(target), config)


SPEC = HeadSpec(
    name="categorical",
    summary="Classes: logistic for two, softmax for more",
    config=CategoricalHead,
    tasks=("classification",),
    build=build,
    reference="Hybrid Models with Deep and Invertible Features, E. Nalisnick, A. Matsukawa, "
    "Y. W. Teh, D. Gorur and B. Lakshminarayanan, 2019",
)
