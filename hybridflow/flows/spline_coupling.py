"""The default flow: coupled rational-quadratic splines between learned linear maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from hybridflow.config import Config, Float, Int
from hybridflow.specs import Event, FlowSpec

if TYPE_CHECKING:
    from hybridflow.transforms import Transform


class SplineCoupling(Config):
    """Coupling layers with rational-quadratic splines.

    Parameters
    ----------
    layers : int, default=4
        Number of coupling layers, each behind a learned linear map.
    bins : int, default=8
        Bins of each spline.
    bound : float, default=5.0
        Half-width of the box in which splines act, in standard deviations.
    hidden_units : int, default=64
        Width of each hidden layer of the conditioners.
    hidden_layers : int, default=2
        Hidden layers of each conditioner.
    whiten : bool, default=True
        Whether to begin with the fitted `Whiten`, so that training starts from
        the Ledoit-Wolf Gaussian.

    Examples
    --------
    >>> from hybridflow.flows import SplineCoupling
    >>> SplineCoupling(layers=6).bins
    8
    """

    layers: Annotated[int, Field(ge=1, le=64), Int(2, 8)] = 4
    bins: Annotated[int, Field(ge=2, le=64), Int(4, 16)] = 8
    bound: Annotated[float, Field(ge=1, le=50), Float(3, 8)] = 5.0
    hidden_units: Annotated[int, Field(ge=1, le=1024), Int(16, 256, log=True)] = 64
    hidden_layers: Annotated[int, Field(ge=1, le=8), Int(1, 3)] = 2
    whiten: bool = True


def build(event: Event, config: SplineCoupling) -> Transform:
    """Build the flow for rows of `event.features` real numbers."""
    from hybridflow.transforms import (
        LU,
        Compose,
        Coupling,
        RationalQuadraticMap,
        Whiten,
        alternating_mask,
    )

    features = event.features
    spline = RationalQuadraticMap(config.bins, config.bound)
    hidden = (config.hidden_units,) * config.hidden_layers
    transforms: list[Transform] = [Whiten(features)] if config.whiten else []
    for layer in range(config.layers):
        mask = alternating_mask(features, layer)
        transforms += [LU(features), Coupling(spline, mask, hidden, event.context_features)]
    return Compose(transforms)


SPEC = FlowSpec(
    name="spline-coupling",
    summary="Coupling layers with rational-quadratic splines",
    config=SplineCoupling,
    build=build,
    stable_to=1e8,
    reference=(
        "Neural Spline Flows. Conor Durkan, Artur Bekasov, Iain Murray, George Papamakarios. 2019."
    ),
)
