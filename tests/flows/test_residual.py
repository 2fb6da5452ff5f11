"""The flows of residual blocks: what their specs claim, and what they learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons

from hybridflow import FlowDensity, TrainingConfig, load
from hybridflow.config import Choice
from hybridflow.errors import ConfigError
from hybridflow.flows import IResNet, ResidualFlow, hybridflow_flows
from hybridflow.specs import Event, FlowSpec
from hybridflow.transforms import Residual, Transform

SPECS = {
    spec.name: spec for spec in hybridflow_flows() if spec.name in ("i-resnet", "residual-flow")
}


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> FlowSpec:
    return SPECS[request.param]


def build(spec: FlowSpec, features: int, spread: float = 0.0, **settings) -> Transform:
    torch.manual_seed(0)
    flow = spec.build(Event.real(features), spec.config(**{"layers": 3} | settings)).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += spread * torch.randn_like(parameter)
    return flow


def test_claims() -> None:
    assert {name: spec.log_det for name, spec in SPECS.items()} == {
        "i-resnet": "exact",
        "residual-flow": "estimated",
    }
    assert all(spec.inverse == "iterative" and not spec.onnx for spec in SPECS.values())


@pytest.mark.parametrize("features", [1, 2, 17])
def test_the_log_det_is_exact_but_for_a_residual_flow_in_training(spec, features: int) -> None:
    flow = build(spec, features, spread=0.3)
    x = torch.randn(3, features, dtype=torch.float64)
    expected = torch.stack(
        [
            torch.linalg.slogdet(
                torch.autograd.functional.jacobian(lambda r: flow(r[None])[0][0], row)
            ).logabsdet
            for row in x
        ]
    )
    torch.testing.assert_close(flow.eval()(x)[1], expected, atol=1e-9, rtol=0)
    in_training = flow.train()(x)[1]
    estimated = spec.log_det == "estimated" and features > 16
    assert torch.allclose(in_training, expected, atol=1e-9) != estimated


def test_starts_as_the_whitening(spec) -> None:
    flow = build(spec, 4)
    x = torch.randn(4000, 4, dtype=torch.float64) @ torch.randn(4, 4).double()
    flow.initialize(x)
    z, _ = flow(x)
    torch.testing.assert_close(torch.cov(z.t()), torch.eye(4).double(), atol=0.1, rtol=0)


def test_every_setting_changes_the_flow(spec) -> None:
    x = torch.randn(10, 3, dtype=torch.float64)
    plain = build(spec, 3, spread=0.5)(x)[0]
    others = {"layers": 4, "hidden_units": 65, "hidden_layers": 3, "lipschitz": 0.5}
    others["activation"] = "lipswish"
    assert set(others) == set(spec.config.model_fields)
    for name, value in others.items():
        assert not torch.allclose(build(spec, 3, spread=0.5, **{name: value})(x)[0], plain)


def test_search_ranges_and_bounds(spec) -> None:
    for name, search in spec.config.space().items():
        ends = search.options if isinstance(search, Choice) else (search.low, search.high)
        for value in ends:
            assert getattr(spec.config(**{name: value}), name) == value
    for bad in ({"lipschitz": 1.0}, {"layers": 0}, {"activation": "relu"}):
        with pytest.raises(ConfigError):
            spec.config(**bad)


def test_a_density_beats_a_normal_on_two_moons_and_integrates_to_one(spec) -> None:
    X, _ = make_moons(500, noise=0.1, random_state=0)
    fresh, _ = make_moons(2000, noise=0.1, random_state=1)
    flow = spec.config(layers=4, hidden_units=32)
    model = FlowDensity(flow, training=TrainingConfig(steps=80), random_state=0).fit(X)
    centred = X - X.mean(0)
    normal = -0.5 * np.linalg.slogdet(2 * math.pi * math.e * centred.T @ centred / 500)[1]
    assert model.score(fresh) > normal + 0.15
    member, side = model.models_[0], torch.linspace(-8, 8, 161, dtype=torch.float64)
    with torch.no_grad():
        z, ladj = member.flow(torch.cartesian_prod(side, side))
        total = torch.exp(member.base.log_prob(z) + ladj).sum() * 0.1**2
    assert total.item() == pytest.approx(1, abs=1e-3)
    assert np.allclose(model.inverse_transform(model.transform(X)), X, atol=1e-9)


def test_a_normal_law_keeps_its_entropy() -> None:
    """Trained on the estimate of 20 columns: the loss ends at a known number."""
    rng = np.random.default_rng(0)
    root = np.tril(rng.normal(size=(20, 20))) / 4 + np.eye(20)
    X, fresh = (rng.normal(size=(n, 20)) @ root.T for n in (2000, 2000))
    entropy = 10 * math.log(2 * math.pi * math.e) + np.linalg.slogdet(root)[1]
    flow = ResidualFlow(layers=2, hidden_units=16)
    model = FlowDensity(flow, training=TrainingConfig(steps=60), random_state=0).fit(X)
    assert any(isinstance(part, Residual) and part.estimated for part in model.models_[0].flow)
    assert -model.score(fresh) == pytest.approx(entropy, abs=0.05 * 20)


def test_training_on_the_estimate_repeats_and_survives_a_file(tmp_path) -> None:
    X = np.random.default_rng(0).normal(size=(300, 18))
    flow = ResidualFlow(layers=2, hidden_units=8)
    made = [
        FlowDensity(flow, training=TrainingConfig(steps=10), random_state=3).fit(X)
        for _ in range(2)
    ]
    scores = made[0].score_samples(X)
    assert np.array_equal(made[1].score_samples(X), scores)
    made[0].save(tmp_path / "model.hflow")
    assert np.array_equal(load(tmp_path / "model.hflow").score_samples(X), scores)
    assert IResNet() != flow
