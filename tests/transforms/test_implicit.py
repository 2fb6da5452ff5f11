"""Root finding against closed forms, and gradients by the implicit function theorem."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hybridflow.errors import HybridFlowError
from hybridflow.transforms import implicit
from hybridflow.transforms.implicit import (
    attach_gradient,
    monotone_inverse,
    solve_elementwise,
    solve_rows,
)


def cubic(x: Tensor) -> tuple[Tensor, Tensor]:
    return x + x**3, torch.log(1 + 3 * x**2)


def cubic_root(y: Tensor) -> Tensor:
    """Cardano's formula for x + x^3 = y."""
    half = y / 2
    root = torch.sqrt(half.square() + 1 / 27)
    first = (half.abs() + root).pow(1 / 3)
    return torch.sign(y) * (first - 1 / (3 * first))


def logistic(x: Tensor) -> tuple[Tensor, Tensor]:
    return torch.sigmoid(x), torch.nn.functional.logsigmoid(x) + torch.nn.functional.logsigmoid(-x)


def sine(x: Tensor) -> tuple[Tensor, Tensor]:
    return x + 0.999 * torch.sin(x), torch.log(1 + 0.999 * torch.cos(x))


def steps(x: Tensor) -> tuple[Tensor, Tensor]:
    """Steep in places and nearly flat between: Newton alone runs in circles."""
    value = sum(torch.tanh(200 * (x - k)) for k in (-3, 0, 3)) + 1e-3 * x
    slope = sum(200 / torch.cosh((200 * (x - k)).clamp(-40, 40)).square() for k in (-3, 0, 3))
    return value, torch.log(slope + 1e-3)


DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])


@DTYPES
def test_roots_of_a_cubic_equation_are_cardanos(dtype: torch.dtype) -> None:
    y = torch.cat([torch.linspace(-900, 900, 301), torch.logspace(-4, 0, 50)]).to(dtype)
    x = monotone_inverse(cubic, y, -10.0, 10.0)
    expected = cubic_root(y.double()).to(dtype)
    torch.testing.assert_close(x, expected, rtol=4 * torch.finfo(dtype).eps, atol=2e-16)


@DTYPES
@pytest.mark.parametrize("function", [cubic, logistic, sine, steps])
def test_every_root_is_exact_to_rounding(function, dtype: torch.dtype) -> None:
    x = torch.linspace(-7.9, 7.9, 2001, dtype=dtype)
    y = function(x)[0]
    found = monotone_inverse(function, y, -8.0, 8.0)
    eps = torch.finfo(dtype).eps
    residual = (function(found)[0] - y).abs()
    slope = torch.exp(function(found)[1])
    # The value at the nearest number on either side, or the rounding of the value itself.
    assert (residual <= 8 * eps * (y.abs().clamp(min=1) + slope * found.abs())).all()


def test_roots_outside_the_bracket_are_taken_to_its_end() -> None:
    y = torch.tensor([-1e9, 1e9, 0.0, -math.inf, math.inf], dtype=torch.float64)
    x = monotone_inverse(cubic, y, -2.0, torch.full((5,), 3.0, dtype=torch.float64))
    expected = torch.tensor([-2.0, 3.0, 0.0, -2.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)


def test_what_is_no_number_stays_none_and_harms_nobody() -> None:
    y = torch.tensor([2.0, math.nan, 10.0])
    x = monotone_inverse(cubic, y, -5.0, 5.0)
    assert x[1].isnan()
    torch.testing.assert_close(x[[0, 2]], torch.tensor([1.0, 2.0]))
    assert monotone_inverse(lambda x: (x * math.nan, x), y, -5.0, 5.0).shape == (3,)


def test_a_value_alone_is_inverted_as_in_a_batch() -> None:
    y = torch.linspace(-3, 3, 101, dtype=torch.float64)
    together = monotone_inverse(steps, y, -8.0, 8.0)
    alone = torch.cat([monotone_inverse(steps, value[None], -8.0, 8.0) for value in y])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_bisection_alone_reaches_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implicit, "_NEWTON_STEPS", 0)
    y = torch.linspace(-9, 9, 31, dtype=torch.float64)
    torch.testing.assert_close(
        monotone_inverse(cubic, y, -10.0, 10.0), cubic_root(y), rtol=1e-14, atol=1e-15
    )


def test_no_rows_and_no_gradients() -> None:
    assert monotone_inverse(cubic, torch.empty(0, 3), -1.0, 1.0).shape == (0, 3)
    y = torch.zeros(2, requires_grad=True)
    assert not monotone_inverse(cubic, y, -1.0, 1.0).requires_grad


# Gradients


def mixed(x: Tensor, weight: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    """A dense invertible map of rows, whose Jacobian is a sum of the unit and a small matrix."""
    h = torch.tanh(x @ weight.t() + context)
    jacobian = torch.eye(3, dtype=x.dtype) + 0.3 * (1 - h.square())[:, :, None] * weight
    return x + 0.3 * h, torch.linalg.slogdet(jacobian).logabsdet


def iterated(z: Tensor, weight: Tensor, context: Tensor) -> Tensor:
    x = z
    for _ in range(200):
        x = x + z - mixed(x, weight, context)[0]
    return x


@pytest.fixture
def problem() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3), (3, 3), (4, 3))
    return tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    )


def attached(z: Tensor, weight: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        x = iterated(z, weight, context)
    return attach_gradient(lambda x: mixed(x, weight, context), x, z)


def test_gradients_in_latent_parameters_and_context_are_those_of_finite_differences(
    problem,
) -> None:
    assert torch.autograd.gradcheck(attached, problem)


def test_gradients_are_those_of_the_unrolled_iteration(problem) -> None:
    x, ladj = attached(*problem)
    unrolled = iterated(*problem)
    torch.testing.assert_close(x, unrolled)
    torch.testing.assert_close(ladj, -mixed(unrolled, *problem[1:])[1])
    for pair in ((x, unrolled), (ladj, -mixed(unrolled, *problem[1:])[1])):
        weight = torch.randn_like(pair[0])
        ours, theirs = (
            torch.autograd.grad(value, problem, weight, retain_graph=True) for value in pair
        )
        torch.testing.assert_close(ours, theirs)


def test_the_value_is_not_changed(problem) -> None:
    """Not even where it is no solution at all."""
    x = torch.randn(4, 3, dtype=torch.float64)
    kept = x.clone()
    out, _ = attach_gradient(lambda x: mixed(x, *problem[1:]), x, problem[0])
    assert torch.equal(out, kept)
    out.detach().zero_()
    assert torch.equal(x, kept)


def test_without_recording_there_are_no_gradients(problem) -> None:
    with torch.no_grad():
        x, ladj = attached(*problem)
    assert not x.requires_grad
    torch.testing.assert_close(ladj, -mixed(x, *problem[1:])[1])


def test_what_asks_for_no_gradient_gets_none(problem) -> None:
    frozen = [tensor.detach() for tensor in problem]
    x, ladj = attached(*frozen)
    assert not x.requires_grad
    assert not ladj.requires_grad
    for moving in range(3):
        given = [problem[i] if i == moving else frozen[i] for i in range(3)]
        x, _ = attached(*given)
        truth = torch.autograd.grad(iterated(*given).sum(), given[moving])
        torch.testing.assert_close(torch.autograd.grad(x.sum(), given[moving]), truth)


def test_a_graph_can_be_used_twice_and_gradients_add_up(problem) -> None:
    x, ladj = attached(*problem)
    loss = x.square().sum() + ladj.sum()
    first = torch.autograd.grad(loss, problem, retain_graph=True)
    second = torch.autograd.grad(loss, problem)
    torch.testing.assert_close(first, second)
    # The same in two parts, by way of .grad as an optimizer wants it.
    z, weight, context = problem
    x, ladj = attached(z, weight, context)
    x.square().sum().backward(retain_graph=True)
    ladj.sum().backward()
    torch.testing.assert_close((z.grad, weight.grad, context.grad), first)


def test_a_second_derivative_is_refused() -> None:
    z = torch.ones(1, 1, requires_grad=True)
    x, _ = attach_gradient(cubic_rows, torch.ones(1, 1), z)
    (slope,) = torch.autograd.grad(x.sum(), z, create_graph=True)
    assert slope.item() == 0.25
    with pytest.raises(HybridFlowError, match="cannot be differentiated again"):
        slope.sum().backward()


def cubic_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    y, ladj = cubic(x)
    return y, ladj.sum(1)


def test_the_elementwise_solution_is_the_dense_one() -> None:
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    g = torch.randn(5, 3, dtype=torch.float64)
    z = cubic(x)[0]
    torch.testing.assert_close(solve_elementwise(g, z, x), solve_rows(g, z, x))
    torch.testing.assert_close(solve_elementwise(g, z, x), g / (1 + 3 * x**2).detach())


@pytest.mark.parametrize("shape", [(0, 3), (4, 0)], ids=["no-rows", "no-features"])
def test_empty_rows_have_empty_gradients(shape: tuple[int, int]) -> None:
    z = torch.zeros(shape, requires_grad=True)
    x, ladj = attach_gradient(cubic_rows, torch.zeros(shape), z)
    (gradient,) = torch.autograd.grad(x.sum() + ladj.sum(), z)
    assert gradient.shape == shape
