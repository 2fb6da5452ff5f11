"""What every transform promises, with the autograd Jacobian in float64 as the truth."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hybridflow.transforms import (
    LU,
    ActNorm,
    AdditiveMap,
    Affine,
    AffineMap,
    BatchNorm,
    Compose,
    Coupling,
    Gaussianize,
    GaussianizeDirections,
    Householder,
    Identity,
    Inverse,
    MaskedAutoregressive,
    Orthogonal,
    Permutation,
    Planar,
    Radial,
    RationalQuadraticMap,
    Standardize,
    Sylvester,
    Transform,
    Whiten,
)

SPLINE = RationalQuadraticMap(bins=5)


def training_rows(features: int) -> Tensor:
    """Skewed, correlated rows to fit transforms to."""
    rows = torch.randn(300, features, dtype=torch.float64)
    rows[:, 0] = rows[:, 0].exp()
    return rows + 0.8 * rows.mean(1, keepdim=True)


CASES: dict[str, tuple[Callable[[], Transform], int, int]] = {
    # name: (build, features, context features)
    "identity": (Identity, 3, 0),
    "standardize": (lambda: Standardize(3), 3, 0),
    "gaussianize": (lambda: Gaussianize(3), 3, 0),
    "gaussianize-few-knots": (lambda: Gaussianize(2, knots=4), 2, 0),
    "whiten": (lambda: Whiten(3), 3, 0),
    "actnorm": (lambda: ActNorm(3), 3, 0),
    "affine": (lambda: Affine(3), 3, 0),
    "affine-context": (lambda: Affine(3, context_features=2), 3, 2),
    "permutation-reverse": (lambda: Permutation.reverse(3), 3, 0),
    "permutation-shuffled": (lambda: Permutation.shuffled(5, seed=1), 5, 0),
    "lu": (lambda: LU(4), 4, 0),
    "lu-permuted": (lambda: LU(3, order=[2, 0, 1]), 3, 0),
    "lu-one-feature": (lambda: LU(1), 1, 0),
    "householder": (lambda: Householder(4, reflections=4), 4, 0),
    "householder-one-feature": (lambda: Householder(1, reflections=2), 1, 0),
    "coupling-additive": (lambda: Coupling(AdditiveMap(), [True, False, True], (8,)), 3, 0),
    "coupling-affine": (lambda: Coupling(AffineMap(), [False, True, False], (8, 8)), 3, 0),
    "coupling-spline": (lambda: Coupling(SPLINE, [True, False, False], (8,)), 3, 0),
    "coupling-linear-net": (lambda: Coupling(SPLINE, [True, False], ()), 2, 0),
    "coupling-context": (lambda: Coupling(SPLINE, [True, False], (8,), 2), 2, 2),
    "coupling-one-feature": (lambda: Coupling(SPLINE, [False], (8,)), 1, 0),
    "coupling-one-feature-context": (lambda: Coupling(SPLINE, [False], (8,), 2), 1, 2),
    "autoregressive-additive": (lambda: MaskedAutoregressive(AdditiveMap(), 3, (8,)), 3, 0),
    "autoregressive-affine": (lambda: MaskedAutoregressive(AffineMap(), 4, (8, 8)), 4, 0),
    "autoregressive-spline": (lambda: MaskedAutoregressive(SPLINE, 3, (8,), [1, 2, 0]), 3, 0),
    "autoregressive-context": (lambda: MaskedAutoregressive(SPLINE, 3, (8,), None, 2), 3, 2),
    "autoregressive-one-feature": (lambda: MaskedAutoregressive(AffineMap(), 1, (8,)), 1, 0),
    "orthogonal": (lambda: Orthogonal(4), 4, 0),
    "orthogonal-one-feature": (lambda: Orthogonal(1), 1, 0),
    "planar": (lambda: Planar(3), 3, 0),
    "planar-context": (lambda: Planar(2, context_features=2), 2, 2),
    "planar-one-feature": (lambda: Planar(1), 1, 0),
    "radial": (lambda: Radial(3), 3, 0),
    "radial-context": (lambda: Radial(2, context_features=2), 2, 2),
    "radial-one-feature": (lambda: Radial(1), 1, 0),
    "sylvester": (lambda: Sylvester(3, reflections=2), 3, 0),
    "sylvester-context": (lambda: Sylvester(2, reflections=3, context_features=2), 2, 2),
    "sylvester-one-feature": (lambda: Sylvester(1, reflections=1), 1, 0),
    "batchnorm-evaluated": (lambda: BatchNorm(3).eval(), 3, 0),
    "gaussianize-sliced": (lambda: GaussianizeDirections(3, count=2), 3, 0),
    "gaussianize-pca": (lambda: GaussianizeDirections(3, 3, "pca"), 3, 0),
    "gaussianize-random": (lambda: GaussianizeDirections(3, 3, "random", seed=1), 3, 0),
    "gaussianize-one-feature": (lambda: GaussianizeDirections(1, 1), 1, 0),
    "compose": (lambda: Compose([LU(2), Coupling(SPLINE, [True, False], (8,)), ActNorm(2)]), 2, 0),
    "inverse": (lambda: Inverse(MaskedAutoregressive(AffineMap(), 3, (8,))), 3, 0),
}


@pytest.fixture(params=["fresh", "fitted", "perturbed"])
def state(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=CASES, ids=str)
def case(
    request: pytest.FixtureRequest, state: str
) -> tuple[Transform, Callable[[int, float], tuple[Tensor, Tensor | None]]]:
    """A transform in one of three states, and a source of rows with their context."""
    build, features, width = CASES[request.param]
    torch.manual_seed(0)
    transform = build().double()
    if state != "fresh":
        transform.initialize(training_rows(features), training_rows(width) if width else None)
    if state == "perturbed":
        with torch.no_grad():
            for parameter in transform.parameters():
                parameter += 0.1 * torch.randn_like(parameter)

    def rows(n: int, scale: float) -> tuple[Tensor, Tensor | None]:
        x = scale * torch.randn(n, features, dtype=torch.float64)
        return x, torch.randn(n, width, dtype=torch.float64) if width else None

    return transform, rows


def test_log_det_is_that_of_the_jacobian(case) -> None:
    transform, rows = case
    x, context = rows(6, 2.0)
    for direction in (transform.forward, transform.inverse):
        _, ladj = direction(x, context)
        for i in range(6):
            # Copy k of the row yields row k of its Jacobian, all in one backward pass.
            copies = x[i].repeat(x.shape[1], 1).requires_grad_()
            given = None if context is None else context[i].expand(x.shape[1], -1)
            (jacobian,) = torch.autograd.grad(direction(copies, given)[0].diagonal().sum(), copies)
            expected = torch.linalg.slogdet(jacobian).logabsdet
            assert ladj[i].item() == pytest.approx(expected.item(), abs=1e-8)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["f64", "f32"]
)
def test_round_trip_to_ten_deviations(case, dtype, tolerance) -> None:
    transform, rows = case
    x, context = rows(200, 1.0)
    x = (10 * x / x.abs().amax(1, keepdim=True)).to(dtype)
    context = None if context is None else context.to(dtype)
    transform = transform.to(dtype)
    z, ladj = transform(x, context)
    back, back_ladj = transform.inverse(z, context)
    assert z.dtype == ladj.dtype == back.dtype == back_ladj.dtype == dtype
    assert ladj.shape == back_ladj.shape == (200,)
    torch.testing.assert_close(back, x, atol=tolerance, rtol=0)
    torch.testing.assert_close(back_ladj, -ladj, atol=tolerance * 10, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-3)], ids=["f64", "f32"]
)
def test_round_trip_and_gradients_far_out(case, dtype, tolerance) -> None:
    transform, rows = case
    transform = transform.to(dtype)
    for scale in (1e2, 1e4, 1e6, 1e8):
        x, context = rows(50, 1.0)
        x[torch.arange(50), torch.arange(50) % x.shape[1]] *= scale
        x = x.to(dtype).requires_grad_()
        context = None if context is None else context.to(dtype)
        z, ladj = transform(x, context)
        back, _ = transform.inverse(z, context)
        error = (back - x).abs().amax(1) / x.abs().amax(1).clamp(min=1)
        assert error.max().item() < tolerance
        assert ladj.isfinite().all()
        wanted = [p for p in transform.parameters() if p.requires_grad]
        # Sums of rounded terms of 1e8 overflow nothing in either dtype.
        objective = (z / scale).square().sum() + ladj.sum()
        if objective.requires_grad:
            for gradient in torch.autograd.grad(objective, [x, *wanted], allow_unused=True):
                assert gradient is None or gradient.isfinite().all()


def test_rows_do_not_influence_each_other(case) -> None:
    transform, rows = case
    x, context = rows(7, 3.0)
    for direction in (transform.forward, transform.inverse):
        together, ladj = direction(x, context)
        for i in range(7):
            alone, alone_ladj = direction(
                x[i : i + 1], None if context is None else context[i : i + 1]
            )
            torch.testing.assert_close(alone[0], together[i], atol=1e-12, rtol=1e-12)
            torch.testing.assert_close(alone_ladj[0], ladj[i], atol=1e-12, rtol=1e-12)


def test_input_and_random_state_are_left_alone(case) -> None:
    transform, rows = case
    x, context = rows(5, 2.0)
    before, random_state = x.clone(), torch.get_rng_state()
    with torch.no_grad():
        transform.inverse(transform(x, context)[0], context)
        transform.initialize(x, context)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_no_rows_give_no_rows(case) -> None:
    transform, rows = case
    x, context = rows(0, 1.0)
    for direction in (transform.forward, transform.inverse):
        z, ladj = direction(x, context)
        assert z.shape == x.shape
        assert ladj.shape == (0,)


@pytest.mark.parametrize("name", CASES)
def test_state_loads_into_a_fresh_transform(name: str) -> None:
    build, features, width = CASES[name]
    torch.manual_seed(1)
    fitted = build().double()
    context = training_rows(width) if width else None
    rows = training_rows(features)
    fitted.initialize(rows, context)
    state = fitted.state_dict()
    assert all(tensor.is_contiguous() for tensor in state.values())
    fresh = build().double()
    fresh.load_state_dict(state, strict=True)
    for expected, actual in zip(fitted(rows, context), fresh(rows, context), strict=True):
        assert torch.equal(expected, actual)


@pytest.mark.parametrize("name", CASES)
def test_initialize_counts_a_weight_as_repetition(name: str) -> None:
    build, features, width = CASES[name]
    torch.manual_seed(2)
    rows, context = training_rows(features), training_rows(width) if width else None
    counts = torch.randint(0, 4, (300,))
    weighted = build().double()
    repeated = build().double()
    repeated.load_state_dict(weighted.state_dict())
    weighted.initialize(rows, context, weight=counts.double())
    repeated.initialize(
        rows.repeat_interleave(counts, 0),
        None if context is None else context.repeat_interleave(counts, 0),
    )
    for expected, actual in zip(weighted(rows, context), repeated(rows, context), strict=True):
        torch.testing.assert_close(expected, actual, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("elementwise", [AffineMap(), SPLINE], ids=["affine", "spline"])
def test_missing_context_is_named(elementwise) -> None:
    transform = Coupling(elementwise, [True, False], (4,), context_features=3)
    with pytest.raises(ValueError, match=r"context: expected a tensor of shape \(n, 3\), got None"):
        transform(torch.zeros(2, 2))
