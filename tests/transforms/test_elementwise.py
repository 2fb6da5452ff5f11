"""Univariate maps: exact derivatives, exact inverses, tame tails."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hybridflow.errors import ConfigError
from hybridflow.transforms import (
    AdditiveMap,
    AffineMap,
    DeepSigmoidalMap,
    LinearSplineMap,
    LogisticMixtureMap,
    RationalQuadraticMap,
)
from hybridflow.transforms.rational_quadratic import rational_quadratic, rational_quadratic_inverse

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


def textbook_spline(x: float, params: np.ndarray, bins: int, bound: float) -> float:
    """Durkan et al. (2019), equations 4 and 5, one value at a time, by searching the bin."""

    def sizes(logits: np.ndarray) -> np.ndarray:
        shares = np.exp(logits) / np.exp(logits).sum()
        return 2 * bound * (0.75 * shares + 0.25 / bins)

    widths, heights = sizes(params[:bins]), sizes(params[bins : 2 * bins])
    inner = np.exp(2 * np.tanh(params[2 * bins :] / 2))
    slopes = np.concatenate([[1.0], inner, [1.0]])
    knots = -bound + np.concatenate([[0.0], np.cumsum(widths)])
    values = -bound + np.concatenate([[0.0], np.cumsum(heights)])
    if not -bound < x < bound:
        return x
    k = min(int(np.searchsorted(knots, x, side="right")) - 1, bins - 1)
    s, xi = heights[k] / widths[k], (x - knots[k]) / widths[k]
    top = heights[k] * (s * xi**2 + slopes[k] * xi * (1 - xi))
    return values[k] + top / (s + (slopes[k + 1] + slopes[k] - 2 * s) * xi * (1 - xi))


@pytest.mark.parametrize("bins", [2, 5, 8])
def test_spline_agrees_with_the_textbook(bins: int) -> None:
    torch.manual_seed(3)
    spline = RationalQuadraticMap(bins, bound=4.0)
    x = 12 * torch.rand(200, dtype=torch.float64) - 6
    params = params_of(spline, 200, 1.5)
    y, _ = spline.forward(x, params)
    expected = [
        textbook_spline(value.item(), column.numpy(), bins, 4.0)
        for value, column in zip(x, params.t(), strict=True)
    ]
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-12)


def test_spline_is_smooth_across_knots_and_box_edges() -> None:
    torch.manual_seed(4)
    spline = RationalQuadraticMap(bins=6, bound=2.0)
    x = torch.linspace(-2.5, 2.5, 200_001, dtype=torch.float64)
    params = params_of(spline, 1, 0.7).expand(-1, 200_001)
    y, ladj = spline.forward(x, params)
    assert y.diff().max() < 1e-3
    assert ladj.diff().abs().max() < 5e-3  # a jump in the derivative would show here


@pytest.mark.parametrize("left", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("right", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("slope", [0.02, 1.0, 50.0])
def test_segment_inverse_is_exact_up_to_conditioning(
    left: float, right: float, slope: float
) -> None:
    part = torch.linspace(0, 1, 1001, dtype=torch.float64)
    ends = [torch.full_like(part, value) for value in (slope, left, right)]
    share, log_derivative = rational_quadratic(part, *ends)
    back = rational_quadratic_inverse(share, *ends)
    allowed = 1e-14 + 1e-15 * slope * torch.exp(-log_derivative)
    assert ((back - part).abs() <= allowed).all()


def test_affine_log_scale_is_bounded_smoothly() -> None:
    raw = torch.tensor([[0.0], [1e9]], dtype=torch.float64)
    y, ladj = AffineMap(max_log_scale=2.0).forward(torch.ones(1, dtype=torch.float64), raw)
    assert ladj.item() == pytest.approx(2.0)
    assert y.item() == pytest.approx(math.exp(2.0))


def test_a_spline_of_one_bin_is_refused() -> None:
    with pytest.raises(ConfigError, match="bins: a spline needs at least 2, got 1"):
        RationalQuadraticMap(bins=1)
