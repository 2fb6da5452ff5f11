"""The head for numbers of any law, by a one-dimensional flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Int
from hybridflow.heads.basis import BasisConfig, generalized_linear
from hybridflow.specs import Event, HeadSpec, Target

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear


class SplineHead(BasisConfig):
    """Settings of the ``spline`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.
    bins : int, default=8
        Segments of the spline.


    Examples
    --------
    >>> from hybridflow.heads import SplineHead
    >>> SplineHead(bins=4)
    SplineHead(basis='hidden', hidden_units=128, hidden_layers=1, dropout=0.1, bins=4)
    """

    bins: Annotated[int, Field(ge=2, le=64), Int(4, 16)] = 8


def build(event: Event, target: Target, base: Base, config: SplineHead) -> GeneralizedLinear:
    """Build the head for one event and target."""
    from hybridflow.likelihoods import ConditionalSpline, each_output

    likelihood = each_output(target, lambda output: ConditionalSpline(output, config.bins))
    return generalized_linear(event, likelihood, config)


SPEC = HeadSpec(
    name="spline",
    summary="Numbers of any law, by a monotone spline to a logistic variable",
    config=SplineHead,
    tasks=("regression",),
    build=build,
    onnx=False,
    reference="Neural Spline Flows, C. Durkan, A. Bekasov, I. Murray and G. Papamakarios, 2019",
)
