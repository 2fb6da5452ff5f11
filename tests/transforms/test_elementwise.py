"""Univariate maps: exact derivatives, exact inverses, tame tails."""

from __future__ import annotations

import math

import pytest
import torch

from hybridflow.transforms import (
    AdditiveMap,
    AffineMap,
    DeepSigmoidalMap,
    LinearSplineMap,
    LogisticMixtureMap,
    RationalQuadraticMap,
)

MAPS = {
    "additive": AdditiveMap(),
    "affine": AffineMap(),
    "linear-spline-2-bins": LinearSplineMap(bins=2, bound=3.0),
    "linear-spline-24-bins": LinearSplineMap(bins=24),
    "logistic-mixture-2": LogisticMixtureMap(components=2),
    "logistic-mixture-8": LogisticMixtureMap(components=8, bound=20.0),
    "sigmoidal-2": DeepSigmoidalMap(units=2, bound=20.0),
    "sigmoidal-5": DeepSigmoidalMap(units=5),
    "spline-2-bins": RationalQuadraticMap(bins=2, bound=3.0),
    "spline-8-bins": RationalQuadraticMap(bins=8),
    "spline-17-bins": RationalQuadraticMap(bins=17, bound=8.0),
}


@pytest.fixture(params=MAPS, ids=str)
def elementwise(request: pytest.FixtureRequest):
    torch.manual_seed(0)
    return MAPS[request.param]


def params_of(elementwise, size: int, spread: float) -> torch.Tensor:
    return spread * torch.randn(elementwise.n_parameters, size, dtype=torch.float64)


def test_zero_parameters_give_the_identity(elementwise) -> None:
    x = torch.linspace(-60, 60, 401, dtype=torch.float64)
    zeros = torch.zeros(elementwise.n_parameters, 401, dtype=torch.float64)
    for y, ladj in (elementwise.forward(x, zeros), elementwise.inverse(x, zeros)):
        torch.testing.assert_close(y, x, atol=1e-14, rtol=0)
        torch.testing.assert_close(ladj, torch.zeros_like(x), atol=1e-14, rtol=0)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_ladj_is_the_log_of_the_derivative(elementwise, direction: str) -> None:
    x = (8 * torch.rand(500, dtype=torch.float64) - 4).requires_grad_()
    y, ladj = getattr(elementwise, direction)(x, params_of(elementwise, 500, 1.0))
    (derivative,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(ladj, derivative.log(), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_gradients_agree_with_finite_differences(elementwise, direction: str) -> None:
    x = torch.tensor([-9.0, -1.3, 0.2, 2.1, 70.0], dtype=torch.float64, requires_grad=True)
    params = params_of(elementwise, 5, 0.7).requires_grad_()
    assert torch.autograd.gradcheck(getattr(elementwise, direction), (x, params))


def test_increasing_for_any_parameters(elementwise) -> None:
    x = torch.linspace(-70, 70, 4001, dtype=torch.float64)
    for _ in range(20):
        params = params_of(elementwise, 1, 3.0).expand(-1, 4001)
        y, _ = elementwise.forward(x, params)
        assert (y.diff() > 0).all()


def test_far_values_move_by_a_bounded_amount(elementwise) -> None:
    x = torch.tensor([-1e8, 1e8], dtype=torch.float64)
    params = params_of(elementwise, 2, 1.0)
    for y, ladj in (elementwise.forward(x, params), elementwise.inverse(x, params)):
        assert (y - x).abs().max() < 1e3
        assert torch.equal(ladj, torch.zeros_like(x)) or ladj.abs().max() < 1e-12


@pytest.mark.parametrize("where", [1e8, -1e8, 1.0], ids=["above", "below", "inside"])
def test_gradients_are_finite_for_a_batch_on_one_side(elementwise, where: float) -> None:
    for dtype in (torch.float32, torch.float64):
        x = torch.full((7,), where, dtype=dtype, requires_grad=True)
        params = params_of(elementwise, 7, 1.0).to(dtype).requires_grad_()
        for direction in (elementwise.forward, elementwise.inverse):
            y, ladj = direction(x, params)
            for gradient in torch.autograd.grad(y.sum() + ladj.sum(), (x, params)):
                assert gradient.isfinite().all()


@pytest.mark.parametrize("spread", [10.0, 1e3, 1e6], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_absurd_parameters_stay_finite(elementwise, spread: float, dtype) -> None:
    x = (12 * torch.rand(300, dtype=torch.float64) - 6).to(dtype).requires_grad_()
    params = params_of(elementwise, 300, spread).to(dtype).requires_grad_()
    for direction in (elementwise.forward, elementwise.inverse):
        y, ladj = direction(x, params)
        assert y.isfinite().all()
        assert ladj.isfinite().all()
        for gradient in torch.autograd.grad(y.sum() + ladj.sum(), (x, params)):
            assert gradient.isfinite().all()


def test_float32_round_trip_at_moderate_parameters(elementwise) -> None:
    x = (12 * torch.rand(20_000) - 6).float()
    params = params_of(elementwise, 20_000, 0.7).float()
    back, _ = elementwise.inverse(elementwise.forward(x, params)[0], params)
    torch.testing.assert_close(back, x, atol=1e-4, rtol=0)


def test_affine_log_scale_is_bounded_smoothly() -> None:
    raw = torch.tensor([[0.0], [1e9]], dtype=torch.float64)
    y, ladj = AffineMap(max_log_scale=2.0).forward(torch.ones(1, dtype=torch.float64), raw)
    assert ladj.item() == pytest.approx(2.0)
    assert y.item() == pytest.approx(math.exp(2.0))
