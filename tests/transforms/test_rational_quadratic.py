"""The fused spline against the textbook, autograd of plain operations, and its own inverse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.transforms import Compose, Coupling, RationalQuadraticMap, alternating_mask
from hybridflow.transforms.segment import rational_quadratic, rational_quadratic_inverse

Direction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
BOTH = pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])


def direction_of(spline: RationalQuadraticMap, inverse: bool) -> Direction:
    return spline.inverse if inverse else spline.forward


def params_of(spline: RationalQuadraticMap, *shape: int, spread: float = 1.0) -> Tensor:
    return spread * torch.randn(spline.n_parameters, *shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


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


@pytest.mark.parametrize("bins", [2, 3, 5, 8, 13])
def test_spline_agrees_with_the_textbook(bins: int) -> None:
    spline = RationalQuadraticMap(bins, bound=4.0)
    x = 12 * torch.rand(200, dtype=torch.float64) - 6
    params = params_of(spline, 200, spread=1.5)
    y, _ = spline.forward(x, params)
    expected = [
        textbook_spline(value.item(), column.numpy(), bins, 4.0)
        for value, column in zip(x, params.t(), strict=True)
    ]
    np.testing.assert_allclose(y.numpy(), expected, atol=1e-12)


@BOTH
@pytest.mark.parametrize("bins", [2, 3, 5, 8, 13])
def test_hand_written_gradients_are_those_of_the_plain_operations(bins: int, inverse: bool) -> None:
    spline = RationalQuadraticMap(bins, bound=3.0)
    x = (3 * torch.randn(4, 100, dtype=torch.float64)).requires_grad_()
    params = params_of(spline, 4, 100, spread=1.5).requires_grad_()
    fused = direction_of(spline, inverse)(x, params)
    plain = spline.by_plain_operations(x, params, inverse=inverse)
    weights = torch.randn(2, 4, 100, dtype=torch.float64).unbind(0)
    found = torch.autograd.grad(fused, (x, params), weights)
    expected = torch.autograd.grad(plain, (x, params), weights)
    for ours, theirs in zip((*fused, *found), (*plain, *expected), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-9)


@BOTH
@pytest.mark.parametrize("output", [0, 1], ids=["value", "ladj"])
def test_gradients_where_only_one_output_is_used(inverse: bool, output: int) -> None:
    spline = RationalQuadraticMap(4, bound=3.0)
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    params = params_of(spline, 50).requires_grad_()
    fused = direction_of(spline, inverse)(x, params)[output]
    plain = spline.by_plain_operations(x, params, inverse=inverse)[output]
    found = torch.autograd.grad(fused.sum(), (x, params))
    expected = torch.autograd.grad(plain.sum(), (x, params))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-10)


@BOTH
@pytest.mark.parametrize("bins", [2, 5])
def test_first_and_second_gradients_agree_with_finite_differences(bins: int, inverse: bool) -> None:
    direction = direction_of(RationalQuadraticMap(bins, bound=3.0), inverse)
    x = torch.tensor([[-1.3, 0.2], [2.1, 7.0]], dtype=torch.float64, requires_grad=True)
    params = params_of(RationalQuadraticMap(bins), 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(direction, (x, params))
    assert torch.autograd.gradgradcheck(direction, (x, params))


@BOTH
def test_function_transforms(inverse: bool) -> None:
    spline = RationalQuadraticMap(5, bound=3.0)
    direction = direction_of(spline, inverse)
    x = 2 * torch.randn(3, 4, dtype=torch.float64)
    params = params_of(spline, 3, 4)
    y, ladj = direction(x, params)

    expected = torch.diag_embed(ladj.exp().flatten()).diagonal()
    for jacobian in (
        torch.func.jacrev(lambda x: direction(x, params)[0])(x),
        torch.autograd.functional.jacobian(lambda x: direction(x, params)[0], x),
    ):
        jacobian = jacobian.reshape(12, 12)
        torch.testing.assert_close(jacobian, torch.diag(expected), atol=1e-12, rtol=1e-12)

    by_row = torch.func.vmap(direction, in_dims=(0, 1), out_dims=0)(x, params)
    torch.testing.assert_close(by_row, (y, ladj), atol=1e-12, rtol=1e-12)
    shared = torch.func.vmap(direction, in_dims=(1, None), out_dims=1)(x, params[:, :, 0])
    torch.testing.assert_close(
        shared, direction(x, params[:, :, :1].expand(-1, -1, 4)), atol=1e-12, rtol=1e-12
    )
    slopes = torch.func.vmap(torch.func.jacrev(lambda x, p: direction(x, p)[0]), in_dims=(0, 1))
    torch.testing.assert_close(
        slopes(x, params).diagonal(dim1=1, dim2=2), ladj.exp(), atol=1e-12, rtol=1e-12
    )
    bends = torch.func.jacrev(torch.func.jacrev(lambda p: direction(x, p)[1].sum()))(params)
    hessian = torch.autograd.functional.hessian(lambda p: direction(x, p)[1].sum(), params)
    torch.testing.assert_close(bends, hessian, atol=1e-12, rtol=1e-12)


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
@pytest.mark.parametrize("where", [-1e8, -5.001, 5.001, 1e8], ids=str)
def test_a_batch_outside_the_box_passes_gradients_through(where: float, dtype, inverse) -> None:
    spline = RationalQuadraticMap(bins=6)
    x = torch.full((9,), where, dtype=dtype, requires_grad=True)
    params = params_of(spline, 9, spread=3.0).to(dtype).requires_grad_()
    y, ladj = direction_of(spline, inverse)(x, params)
    torch.testing.assert_close(y, x)
    tolerance = 1e-3 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(ladj, torch.zeros_like(x), atol=tolerance, rtol=0)
    grad_x, grad_params = torch.autograd.grad((3 * y + ladj).sum(), (x, params))
    assert torch.equal(grad_x, torch.full_like(x, 3.0))
    assert torch.equal(grad_params, torch.zeros_like(params))


@BOTH
@pytest.mark.parametrize("edge", [-5.0, 5.0])
def test_gradients_on_the_edge_are_the_limit_from_within(edge: float, inverse: bool) -> None:
    spline = RationalQuadraticMap(bins=6)
    params = params_of(spline, 40).requires_grad_()
    gradients = []
    for offset in (0.0, 1e-9):
        x = torch.full((40,), edge * (1 - offset), dtype=torch.float64, requires_grad=True)
        y, ladj = direction_of(spline, inverse)(x, params)
        gradients.append(torch.autograd.grad((y + ladj).sum(), (x, params)))
    for on, within in zip(*gradients, strict=True):
        torch.testing.assert_close(on, within, atol=1e-6, rtol=1e-6)


@BOTH
def test_float32_gradients_are_close_to_float64(inverse: bool) -> None:
    spline = RationalQuadraticMap(bins=8)
    x, params = 3 * torch.randn(2000), params_of(spline, 2000).float()
    weights = torch.randn(2, 2000).unbind(0)

    def gradients(dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.to(dtype).requires_grad_() for t in (x, params)]
        outputs = direction_of(spline, inverse)(*leaves)
        return list(torch.autograd.grad(outputs, leaves, [w.to(dtype) for w in weights]))

    for single, double in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        error = (single.double() - double).norm() / double.norm()
        assert error.item() < 1e-4


@pytest.mark.parametrize("shift", [-500.0, -60.0, 60.0, 500.0], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_a_constant_added_to_all_logits_changes_nothing(dtype, shift: float) -> None:
    spline = RationalQuadraticMap(bins=4)
    x, params = 3 * torch.randn(100, dtype=dtype), params_of(spline, 100).to(dtype)
    shifted = params.clone()
    shifted[:8] += shift
    for expected, found in zip(spline.forward(x, params), spline.forward(x, shifted), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-2), (torch.float64, 1e-10)], ids=["f32", "f64"]
)
@pytest.mark.parametrize("spread", [1.0, 10.0, 1e3, 1e6], ids=str)
def test_random_splines_invert(spread: float, dtype, tolerance: float) -> None:
    spline = RationalQuadraticMap(bins=8)
    count = 25_000  # for each spread and dtype: 200,000 in all
    x = (14 * torch.rand(count, dtype=torch.float64) - 7).to(dtype)
    params = params_of(spline, count, spread=spread).to(dtype)
    y, ladj = spline.forward(x, params)
    back, back_ladj = spline.inverse(y, params)
    assert all(t.isfinite().all() for t in (y, ladj, back, back_ladj))
    assert (back - x).abs().max().item() < tolerance


def kept_bytes(loss: Callable[[], Tensor], parameters: list[Tensor]) -> int:
    """Count the bytes of distinct storages, parameters aside, that wait for the way back."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage().data_ptr()
        if storage not in own:
            kept[storage] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def test_five_couplings_keep_at_most_ten_megabytes() -> None:
    flow = Compose(
        Coupling(RationalQuadraticMap(bins=8), alternating_mask(43, layer), (128, 128))
        for layer in range(5)
    )
    x = torch.randn(512, 43)

    def loss() -> Tensor:
        z, ladj = flow(x)
        return (ladj - z.square().sum(1)).mean()

    assert kept_bytes(loss, list(flow.parameters())) <= 10e6


def test_spline_is_smooth_across_knots_and_box_edges() -> None:
    spline = RationalQuadraticMap(bins=6, bound=2.0)
    x = torch.linspace(-2.5, 2.5, 200_001, dtype=torch.float64)
    params = params_of(spline, 1, spread=0.7).expand(-1, 200_001)
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


@BOTH
def test_an_exported_spline_is_the_fused_one(inverse: bool) -> None:
    class Module(torch.nn.Module):
        def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
            return direction_of(spline, inverse)(x, params)

    spline = RationalQuadraticMap(bins=5)
    x, params = 4 * torch.randn(3, 20), params_of(spline, 3, 20).float()
    exported = torch.export.export(Module(), (x, params))
    # Nothing that depends on the values, as the fused form's choice of a pass does.
    assert not any("aminmax" in str(node.target) for node in exported.graph.nodes)
    for found, expected in zip(exported.module()(x, params), Module()(x, params), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_spline_of_one_bin_is_refused() -> None:
    with pytest.raises(ConfigError, match="bins: a spline needs at least 2, got 1"):
        RationalQuadraticMap(bins=1)
