"""The head for several labels per row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class MultiLabelHead(BasisConfig):
    """Settings of the ``multi-label`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.

    Examples
    --------
    >>> from hybridflow.heads import MultiLabelHead
    >>> MultiLabelHead(hidden_units=64)
    MultiLabelHead(basis='hidden', hidden_units=64, hidden_layers=1, dropout=0.1)
    """


def build(event: Event, target: Target, base: Base, config: MultiLabelHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import MultiLabel

    return generalized_linear(event, MultiLabel(target), config)


SPEC = HeadSpec(
    name="multi-label",
    summary="Several labels that a row may have or not, one logistic model each",
    config=MultiLabelHead,
    tasks=("multi-label",),
    build=build,
    reference="A Review on Multi-Label Learning Algorithms, M.-L. Zhang and Z.-H. Zhou, 2014",
)
