"""The flow of splines with circles: exact on every mixture of numbers and angles."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hybridflow.flows import CircularSpline, SplineCoupling
from hybridflow.flows.circular_spline import SPEC
from hybridflow.flows.rational_quadratic import SPECS as SPLINES
from hybridflow.specs import Circle, Event, Real
from hybridflow.transforms import Transform
from hybridflow.transforms.circular import wrap

F64 = torch.float64
PI = math.pi
KINDS = {
    "c": [0],
    "cc": [0, 1],
    "rc": [1],
    "crr": [0],
    "rcrcrrr": [1, 3],
}


def event(kinds: str, context: int = 0) -> Event:
    support = tuple(Circle(period=2 * PI) if kind == "c" else Real() for kind in kinds)
    return Event(shape=(len(kinds),), support=support, context_features=context)


def build(kinds: str, context: int = 0, spread: float = 0.0) -> Transform:
    torch.manual_seed(0)
    flow = SPEC.build(event(kinds, context), CircularSpline()).double()
    if spread:
        flow.initialize(rows(300, kinds), rows(300, "r" * context) if context else None)
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter += spread * torch.randn_like(parameter)
    return flow


def rows(n: int, kinds: str) -> Tensor:
    x = torch.randn(n, len(kinds), dtype=F64)
    x[:, [k == "c" for k in kinds]] = PI * (2 * torch.rand(n, kinds.count("c"), dtype=F64) - 1)
    return x


def apart(a: Tensor, b: Tensor, kinds: str) -> Tensor:
    gap = a - b
    circles = [i for i, kind in enumerate(kinds) if kind == "c"]
    gap[:, circles] = wrap(gap[:, circles])
    return gap.abs()


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
@pytest.mark.parametrize(
    ("dtype", "near"), [(F64, 1e-9), (torch.float32, 2e-4)], ids=["f64", "f32"]
)
def test_round_trip(kinds, width, dtype, near) -> None:
    flow = build(kinds, width, spread=0.05).to(dtype)
    for scale in (1.0, 10.0, 1e4, 1e8):  # of the real columns: angles have no far out
        x = rows(60, kinds)
        x[:, [kind == "r" for kind in kinds]] *= scale
        x = x.to(dtype)
        context = rows(60, "r" * width).to(dtype) if width else None
        z, ladj = flow(x, context)
        back, back_ladj = flow.inverse(z, context)
        assert z.dtype == ladj.dtype == back.dtype == dtype
        error = apart(back, x, kinds).amax(1) / x.abs().amax(1).clamp(min=1)
        assert error.max().item() < near
        if scale == 1:
            torch.testing.assert_close(back_ladj, -ladj, atol=100 * near, rtol=1e-4)
        angles = z[:, [kind == "c" for kind in kinds]]
        assert angles.abs().max().item() <= PI + 1e-5


@pytest.mark.parametrize("kinds", KINDS)
def test_log_det_is_that_of_the_jacobian(kinds) -> None:
    flow, x = build(kinds, 2, spread=0.1), rows(3, kinds)
    context = rows(3, "rr")
    _, ladj = flow(x, context)
    for i in range(3):
        copies = x[i].repeat(len(kinds), 1).requires_grad_()
        z, _ = flow(copies, context[i].expand(len(kinds), -1))
        (jacobian,) = torch.autograd.grad(z.diagonal().sum(), copies)
        expected = torch.linalg.slogdet(jacobian).logabsdet.item()
        assert ladj[i].item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("kinds", KINDS)
def test_neither_z_nor_the_density_knows_of_a_cut(kinds) -> None:
    flow, x = build(kinds, spread=0.2), rows(20, kinds)
    for circle in KINDS[kinds]:
        for point in (PI, 2 * PI * 0.3):
            sides = [x.clone(), x.clone()]
            sides[0][:, circle], sides[1][:, circle] = point - 1e-9, point + 1e-9 - 2 * PI
            (z, ladj), (other, other_ladj) = (flow(side) for side in sides)
            assert apart(z, other, kinds).max().item() < 1e-6
            torch.testing.assert_close(ladj, other_ladj, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kinds", KINDS)
def test_starts_as_the_identity(kinds) -> None:
    x = rows(50, kinds)
    z, ladj = build(kinds)(x)
    assert apart(z, x, kinds).max().item() < 1e-12
    assert ladj.abs().max().item() < 1e-12


@pytest.mark.parametrize("context", [0, 2], ids=["no-context", "context"])
def test_density_integrates_to_one_on_a_cylinder(context) -> None:
    flow = build("rc", context, spread=0.1)
    side, around = torch.linspace(-12, 12, 241, dtype=F64), torch.linspace(-PI, PI, 161, dtype=F64)
    grid = torch.cartesian_prod(side, around[:-1])
    given = torch.ones(len(grid), context, dtype=F64) if context else None
    with torch.no_grad():
        z, ladj = flow(grid, given)
    density = torch.exp(ladj - z[:, 0].square() / 2) / math.sqrt(2 * PI) / (2 * PI)
    assert density.sum().item() * 0.1 * (2 * PI / 160) == pytest.approx(1, abs=1e-3)


def test_gradients_are_finite_everywhere() -> None:
    flow = build("rcr", spread=0.05).float()
    for scale in (0.0, 1.0, 1e4, 1e8):
        x = (scale * rows(20, "rcr")).float()
        x[:, 1] = torch.linspace(-PI, PI, 20)
        x.requires_grad_()
        z, ladj = flow(x)
        back, _ = flow.inverse(z)
        objective = (z.square().sum() + back.square().sum()) / max(scale, 1) - ladj.sum()
        free = [parameter for parameter in flow.parameters() if parameter.requires_grad]
        for gradient in torch.autograd.grad(objective, [x, *free]):
            assert gradient.isfinite().all()


def test_the_default_flow_is_this_one_where_there_are_circles() -> None:
    default = next(spec for spec in SPLINES if spec.name == "spline-coupling")
    assert default.supports == SPEC.supports == ("real", "circle")
    torch.manual_seed(0)
    x, other = rows(9, "rcr"), default.build(event("rcr"), SplineCoupling()).double()
    with torch.no_grad():
        other.load_state_dict(build("rcr").state_dict())
    assert torch.equal(other(x)[0], build("rcr")(x)[0])
