"""The head for numbers of any law, by its quantiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class QuantileHead(BasisConfig):
    """Settings of the ``quantile`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.

    Examples
    --------
    >>> from hybridflow.heads import QuantileHead
    >>> QuantileHead(hidden_units=64)
    QuantileHead(basis='hidden', hidden_units=64, hidden_layers=1, dropout=0.1)
    """


def build(event: Event, target: Target, base: Base, config: QuantileHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import Quantiles, each_output

    return generalized_linear(event, each_output(target, Quantiles), config)


SPEC = HeadSpec(
    name="quantile",
    summary="Numbers of any law, by quantiles that cannot cross",
    config=QuantileHead,
    tasks=("regression",),
    build=build,
    onnx=False,
    reference="Incremental Spline-based Quantile Regression: Probabilistic Forecasting with "
    "Incremental Quantile Functions, Y. Park, D. Maddix, F.-X. Aubet, K. Kan, J. Gasthaus "
    "and Y. Wang, 2022",
)
