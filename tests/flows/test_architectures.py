"""A new map is one file: here it is, and both architectures take it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybridflow import Config, FlowSpec, Registry, hookimpl
from hybridflow.flows import SplineCoupling
from hybridflow.flows.architectures import (
    HiddenLayers,
    HiddenUnits,
    Layers,
    autoregressive_stack,
    coupling_stack,
    mixing_coupling_stack,
)
from hybridflow.specs import Event
from hybridflow.transforms import LU, Compose, Coupling, ElementwiseMap, Whiten


class TiltMap(ElementwiseMap):
    """A different slope on each side of zero."""

    n_parameters = 2

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        log_slope = torch.where(x > 0, params[0], params[1])
        return x * torch.exp(log_slope), log_slope

    def inverse(self, y: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        log_slope = torch.where(y > 0, params[0], params[1])
        return y * torch.exp(-log_slope), -log_slope


class TiltCoupling(Config):
    layers: Layers = 3
    hidden_units: HiddenUnits = 16
    hidden_layers: HiddenLayers = 1


class TiltAutoregressive(Config):
    layers: Layers = 3
    hidden_units: HiddenUnits = 16
    hidden_layers: HiddenLayers = 1


def build_coupling(event: Event, config: TiltCoupling) -> Compose:
    return Compose(coupling_stack(event, config, TiltMap()))


def build_autoregressive(event: Event, config: TiltAutoregressive) -> Compose:
    return Compose(autoregressive_stack(event, config, TiltMap()))


SPECS = (
    FlowSpec("tilt-coupling", "Coupled tilts", TiltCoupling, build_coupling),
    FlowSpec("tilt-autoregressive", "Masked tilts", TiltAutoregressive, build_autoregressive),
)


class Plugin:
    @hookimpl
    def hybridflow_flows(self):
        return SPECS


@pytest.mark.parametrize("name", ["tilt-coupling", "tilt-autoregressive"])
@pytest.mark.parametrize("features", [1, 2, 3, 7])
@pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
def test_a_new_map_gives_both_architectures(name: str, features: int, width: int) -> None:
    torch.manual_seed(0)
    registry = Registry(entry_points=False)
    registry.register(Plugin())
    spec, config = registry.resolve("flow", name)
    flow = spec.build(Event.real(features, width), config).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    x = torch.randn(6, features, dtype=torch.float64)
    context = torch.randn(6, width, dtype=torch.float64) if width else None
    z, ladj = flow(x, context)
    back, back_ladj = flow.inverse(z, context)
    assert not torch.allclose(z, x)
    torch.testing.assert_close(back, x, atol=1e-10, rtol=0)
    torch.testing.assert_close(back_ladj, -ladj, atol=1e-10, rtol=0)


def test_every_other_coupling_maps_what_the_one_before_kept() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 5)
    moved = []
    for coupling in coupling_stack(Event.real(5), TiltCoupling(layers=2), TiltMap()):
        with torch.no_grad():
            for parameter in coupling.parameters():
                parameter.fill_(0.1)
        moved.append((coupling(x)[0] != x).all(0))
    assert torch.equal(moved[0], ~moved[1])


@pytest.mark.parametrize("whiten", [True, False])
def test_linear_maps_stand_before_each_coupling_and_a_whitening_last(whiten: bool) -> None:
    config = SplineCoupling(layers=3, whiten=whiten)
    kinds = [type(part) for part in mixing_coupling_stack(Event.real(4), config, TiltMap())]
    assert kinds == [LU, Coupling] * 3 + [Whiten] * whiten
