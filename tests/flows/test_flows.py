"""Flows made of univariate maps: exact, invertible, tame far out, and pinned.

What else every built-in flow keeps is in ``tests/testing``, what is special to others
in their own files.

The stored reference numbers are written anew, after a deliberate change, by

    python tests/flows/test_flows.py
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hybridflow.config import Choice, Float, Int
from hybridflow.errors import ConfigError
from hybridflow.flows import (
    additive,
    affine,
    glow,
    hybridflow_flows,
    linear_spline,
    logistic_mixture,
    rational_quadratic,
    sigmoidal,
)
from hybridflow.specs import Event, FlowSpec
from hybridflow.transforms import Transform

BUILT_IN = {spec.name: spec for spec in hybridflow_flows()}
MAPS = (additive, affine, linear_spline, logistic_mixture, rational_quadratic, sigmoidal)
SPECS = {spec.name: spec for module in MAPS for spec in module.SPECS} | {"glow": glow.SPEC}
GOLDEN = Path(__file__).with_name("golden.json")


@pytest.fixture(params=SPECS, ids=str)
def spec(request: pytest.FixtureRequest) -> FlowSpec:
    return SPECS[request.param]


def build(spec: FlowSpec, features: int, width: int = 0, *, spread: float = 0.0) -> Transform:
    """A flow in float64, initialized on correlated rows and perturbed by `spread`."""
    torch.manual_seed(0)
    flow = spec.build(Event.real(features, width), spec.config()).double()
    if spread:
        rows = torch.randn(200, features, dtype=torch.float64)
        rows = rows + 0.5 * rows.mean(1, keepdim=True)
        flow.initialize(rows, torch.randn(200, width, dtype=torch.float64) if width else None)
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter += spread * torch.randn_like(parameter)
    return flow


def draw(n: int, features: int, width: int) -> tuple[Tensor, Tensor | None]:
    x = torch.randn(n, features, dtype=torch.float64)
    return x, torch.randn(n, width, dtype=torch.float64) if width else None


def case(features: int, width: int):
    return pytest.param(features, width, id=f"{features}-{'context' if width else 'plain'}")


SMALL = [case(1, 0), case(1, 2), case(2, 2), case(3, 0), case(7, 2)]
CONTEXTS = pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])


def assert_log_det(function, x: Tensor, context: Tensor | None) -> None:
    """Compare the log-determinant of each row with that of its Jacobian by autograd."""
    n, d = x.shape
    _, ladj = function(x, context)
    # Copy k of a row yields row k of its Jacobian, all in one backward pass.
    copies = x.repeat_interleave(d, 0).requires_grad_()
    image, _ = function(copies, None if context is None else context.repeat_interleave(d, 0))
    chosen = image.view(n, d, d).diagonal(dim1=1, dim2=2)
    (jacobian,) = torch.autograd.grad(chosen.sum(), copies)
    expected = torch.linalg.slogdet(jacobian.view(n, d, d)).logabsdet
    torch.testing.assert_close(ladj, expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize(("features", "width"), SMALL)
@pytest.mark.parametrize("spread", [0.0, 0.1], ids=["fresh", "perturbed"])
def test_log_det_is_that_of_the_jacobian(spec, features, width, spread) -> None:
    flow = build(spec, features, width, spread=spread)
    x, context = draw(3, features, width)
    assert_log_det(flow.forward, 2 * x, context)
    assert_log_det(flow.inverse, 2 * x, context)


@pytest.mark.parametrize("spread", [0.0, 0.05], ids=["fresh", "perturbed"])
def test_log_det_of_many_features(spec, spread: float) -> None:
    flow = build(spec, 50, spread=spread)
    x, _ = draw(2, 50, 0)
    assert_log_det(flow.forward, 2 * x, None)


@pytest.mark.parametrize(("features", "width"), [*SMALL, case(50, 0)])
@pytest.mark.parametrize("spread", [0.0, 0.03], ids=["fresh", "perturbed"])
@pytest.mark.parametrize(
    ("dtype", "near", "far"),
    [(torch.float64, 1e-9, 1e-8), (torch.float32, 1e-4, 1e-3)],
    ids=["f64", "f32"],
)
def test_round_trip(spec, features, width, spread, dtype, near, far) -> None:
    """To ten standard deviations, and to 1e8; iteration stops at rounding, not before."""
    flow = build(spec, features, width, spread=spread).to(dtype)
    scale = torch.tensor([1.0, 10.0, 1e2, 1e4, 1e6, 1e8], dtype=torch.float64)
    scale = scale.repeat_interleave(16)
    x, context = draw(len(scale), features, width)
    rows = torch.arange(len(scale))
    x[rows, rows % features] = scale
    x, context = x.to(dtype), None if context is None else context.to(dtype)
    with torch.no_grad():
        z, ladj = flow(x, context)
        back, back_ladj = flow.inverse(z, context)
    assert z.dtype == ladj.dtype == back.dtype == dtype
    assert z.isfinite().all()
    assert ladj.isfinite().all()
    error = (back - x).abs().amax(1) / x.abs().amax(1).clamp(min=1)
    close = scale <= 10
    assert error[close].max().item() < near
    assert error[~close].max().item() < far
    torch.testing.assert_close(back_ladj[close], -ladj[close], atol=100 * near, rtol=1e-4)


@CONTEXTS
def test_gradients_are_finite_everywhere(spec, width: int) -> None:
    flow = build(spec, 3, width, spread=0.05).float()
    for scale in (0.0, 1.0, 10.0, 1e4, 1e8):
        for sign in (-1, 1):
            x, context = draw(20, 3, width)
            x = (sign * scale * x.abs()).float().requires_grad_()
            context = None if context is None else context.float()
            z, ladj = flow(x, context)
            back, _ = flow.inverse(z, context)
            objective = (z.square().sum() + back.square().sum()) / max(scale, 1) - ladj.sum()
            free = [parameter for parameter in flow.parameters() if parameter.requires_grad]
            for gradient in torch.autograd.grad(objective, [x, *free]):
                assert gradient.isfinite().all()


@CONTEXTS
def test_a_row_alone_is_the_row_in_a_batch(spec, width: int) -> None:
    flow = build(spec, 3, width, spread=0.1)
    x, context = draw(9, 3, width)
    for direction in (flow.forward, flow.inverse):
        together, ladj = direction(x, context)
        for i in range(9):
            one = None if context is None else context[i : i + 1]
            alone, alone_ladj = direction(x[i : i + 1], one)
            torch.testing.assert_close(alone[0], together[i], atol=1e-12, rtol=1e-12)
            torch.testing.assert_close(alone_ladj[0], ladj[i], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("features", [1, 2, 3, 7, 50])
def test_starts_as_the_identity(spec, features: int) -> None:
    x, _ = draw(30, features, 0)
    z, ladj = build(spec, features)(x)
    torch.testing.assert_close(z, x, atol=1e-12, rtol=0)
    torch.testing.assert_close(ladj, torch.zeros_like(ladj), atol=1e-12, rtol=0)


@pytest.mark.parametrize("features", [1, 3])
def test_stays_close_to_the_identity_on_white_rows(spec, features: int) -> None:
    flow = build(spec, features)
    flow.initialize(draw(20_000, features, 0)[0])
    x, _ = draw(30, features, 0)
    torch.testing.assert_close(flow(x)[0], x, atol=0.1, rtol=0.1)


def density(flow: Transform, x: Tensor, context: Tensor | None) -> Tensor:
    """The density under a standard normal base, written out."""
    with torch.no_grad():
        z, ladj = flow(x, None if context is None else context.expand(x.shape[0], -1))
    return torch.exp(ladj - z.square().sum(1) / 2 - x.shape[1] / 2 * math.log(2 * math.pi))


@CONTEXTS
def test_density_integrates_to_one_on_the_line(spec, width: int) -> None:
    flow = build(spec, 1, width, spread=0.05)
    context = torch.randn(1, width, dtype=torch.float64) if width else None
    # Nodes where the mass is: only their order matters, not that they are exact.
    nodes = torch.linspace(-9, 9, 20_001, dtype=torch.float64)[:, None]
    with torch.no_grad():
        given = None if context is None else context.expand(len(nodes), -1)
        grid, _ = flow.inverse(nodes, given)
    total = torch.trapezoid(density(flow, grid, context), grid[:, 0])
    assert total.item() == pytest.approx(1.0, abs=1e-3)


@CONTEXTS
def test_density_integrates_to_one_on_the_plane(spec, width: int) -> None:
    flow = build(spec, 2, width, spread=0.02)
    context = torch.randn(1, width, dtype=torch.float64) if width else None
    side = torch.linspace(-12, 12, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    values = density(flow, grid, context)
    # Where the density jumps, a grid is wrong by the jump times up to half its step.
    allowed = 1e-2 if "linear-spline" in spec.name else 1e-3
    assert values.sum().item() * 0.1**2 == pytest.approx(1.0, abs=allowed)


@CONTEXTS
def test_training_reaches_a_better_density(spec, width: int) -> None:
    """Fifty steps on a bent two-dimensional law, against the best Gaussian."""
    flow = build(spec, 2, width)
    x, context = draw(500, 2, width)
    x[:, 1] = 0.3 * x[:, 1] + x[:, 0].square() - 1
    flow.initialize(x, context)
    optimizer = torch.optim.Adam(flow.parameters(), lr=5e-3)
    for _ in range(50):
        z, ladj = flow(x, context)
        loss = (z.square().sum(1) / 2 - ladj).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    centred = x - x.mean(0)
    gaussian = torch.linalg.slogdet(centred.t() @ centred / 500).logabsdet.item() / 2 + 1
    assert loss.item() < gaussian - 0.2


def fill(flow: Transform) -> None:
    """Set all parameters, without random numbers, whose stream may change with torch."""
    with torch.no_grad():
        for index, parameter in enumerate(flow.parameters()):
            steps = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_(0.2 * torch.sin(1.7 * steps + index).view_as(parameter))


def outputs_to_pin(spec: FlowSpec) -> dict[str, list]:
    flow = build(spec, 3, 2)
    fill(flow)
    x = torch.tensor([[0.3, -1.2, 2.0], [-7.0, 0.1, 0.4], [1e3, 0.0, -2.5]], dtype=torch.float64)
    context = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, -0.5]], dtype=torch.float64)
    with torch.no_grad():
        z, ladj = flow(x, context)
    return {"z": z.tolist(), "ladj": ladj.tolist()}


def test_golden_numbers(spec) -> None:
    golden = json.loads(GOLDEN.read_text())[spec.name]
    for name, values in outputs_to_pin(spec).items():
        actual, expected = (torch.tensor(v, dtype=torch.float64) for v in (values, golden[name]))
        torch.testing.assert_close(actual, expected, atol=1e-11, rtol=1e-11)


def test_state_loads_into_a_fresh_flow(spec) -> None:
    fitted = build(spec, 4, 2, spread=0.1)
    fresh = build(spec, 4, 2)
    state = fitted.state_dict()
    assert all(tensor.is_contiguous() for tensor in state.values())
    storages = [tensor.untyped_storage().data_ptr() for tensor in state.values() if tensor.numel()]
    assert len(set(storages)) == len(storages)  # a safetensors file refuses shared ones
    fresh.load_state_dict(state, strict=True)
    x, context = draw(5, 4, 2)
    assert torch.equal(fresh(x, context)[0], fitted(x, context)[0])


@pytest.mark.parametrize("end", ["low", "high"])
def test_search_ranges_lie_within_the_bounds(spec, end: str) -> None:
    space = spec.config.space()
    assert space
    for name, search in space.items():
        values = search.options if isinstance(search, Choice) else [getattr(search, end)]
        for value in values:
            value = float(value) if isinstance(search, Float) else value
            assert getattr(spec.config(**{name: value}), name) == value
        assert not isinstance(search, Int) or search.low < search.high


def test_absurd_sizes_are_refused(spec) -> None:
    for name, field in spec.config.model_fields.items():
        if field.annotation is int:
            for size in (10**9, 0, -1):
                with pytest.raises(ConfigError, match=f"{spec.config.__name__}: {name}: "):
                    spec.config(**{name: size})


def test_every_setting_changes_the_flow(spec) -> None:
    """A field that does nothing would be a lie in the schema."""
    plain = build(spec, 4)
    x, _ = draw(200, 4, 0)
    mixed = x + x.mean(1, keepdim=True)
    for name, field in spec.config.model_fields.items():
        default = field.default
        other = (not default) if isinstance(default, bool) else default + 1
        torch.manual_seed(0)
        flow = spec.build(Event.real(4), spec.config(**{name: other})).double()
        shapes = [[p.shape for p in each.state_dict().values()] for each in (plain, flow)]
        if shapes[0] == shapes[1]:
            for each in (plain, flow):
                fill(each)
                each.initialize(mixed)
            assert not torch.allclose(plain(8 * x)[0], flow(8 * x)[0])


def test_the_claims_of_the_specs(spec) -> None:
    iterative = "logistic-mixture" in spec.name or "sigmoidal" in spec.name
    assert spec.inverse == ("iterative" if iterative else "exact")
    assert spec.log_det == "exact"
    assert spec.stable_to == 1e8
    assert spec.reference


def test_flows_are_listed_by_name_without_torch() -> None:
    assert list(BUILT_IN) == sorted(BUILT_IN)
    assert set(SPECS) <= set(BUILT_IN)
    code = (
        "import sys; from hybridflow.flows import hybridflow_flows; "
        "assert list(hybridflow_flows()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


if __name__ == "__main__":
    numbers = {name: outputs_to_pin(spec) for name, spec in SPECS.items()}
    GOLDEN.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")
