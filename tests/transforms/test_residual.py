"""Residual blocks: contractive whatever the weights, exact, invertible, unbiased."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hybridflow.errors import ConfigError, InverseError
from hybridflow.transforms import Residual
from hybridflow.transforms.contractive import ContractiveMLP, lip_swish, sine
from hybridflow.transforms.residual import log_det, power_series, roulette

ACTIVATIONS = pytest.mark.parametrize("activation", [sine, lip_swish])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def block(features: int, context: int = 0, *, steep: bool = True, **settings) -> Residual:
    """A block whose weights are large and aligned: its Jacobian comes close to the bound."""
    torch.manual_seed(features)
    made = Residual(features, (12, 12), context_features=context, **settings).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        if steep:
            for layer in made.net.layers:
                layer.weight += 10 * torch.eye(*layer.weight.shape)
                layer.bias *= 0.3
    return made


def draw(n: int, features: int, context: int = 0) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(features)
    x = torch.randn(n, features, generator=generator, dtype=torch.float64)
    c = torch.randn(n, context, generator=generator, dtype=torch.float64)
    return x, c if context else None


def jacobians(made: Residual, x: Tensor, context: Tensor | None) -> Tensor:
    """The Jacobian of z by x at each row, shape (n, d, d), by autograd."""

    def one(row: Tensor, given: Tensor | None) -> Tensor:
        z, _ = made(row[None], None if given is None else given[None])
        return z[0]

    given = [None] * len(x) if context is None else list(context)
    each = [
        torch.autograd.functional.jacobian(lambda row, g=g: one(row, g), row)
        for row, g in zip(x, given, strict=True)
    ]
    return torch.stack(each)


@ACTIVATIONS
def test_the_slopes_of_the_activations_are_exact_and_at_most_1(activation) -> None:
    x = torch.linspace(-30, 30, 100_001, dtype=torch.float64, requires_grad=True)
    for beta in (0.1, 1.0, 7.0):
        value, slope = activation(x, torch.tensor(beta, dtype=torch.float64))
        (expected,) = torch.autograd.grad(value.sum(), x)
        torch.testing.assert_close(slope, expected, atol=1e-12, rtol=0)
        assert slope.abs().max() <= 1


@ACTIVATIONS
@pytest.mark.parametrize("lipschitz", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("features", [1, 3, 10])
def test_the_lipschitz_constant_is_bounded(activation, lipschitz: float, features: int) -> None:
    made = block(features, lipschitz=lipschitz, activation=activation)
    x, _ = draw(200, features)
    with torch.no_grad():
        contraction = made.net.bind(x)
        norms = [torch.linalg.matrix_norm(weight, 2).item() for weight in contraction.weights]
        _, jacobian = contraction.linearise(0.3 * x)
        stretched = torch.linalg.matrix_norm(jacobian.transposed(), 2).max().item()
        # Between rows that are far apart too, not only in the limit.
        a, b = contraction.linearise(x)[0], contraction.linearise(5 * x.flip(0))[0]
    assert math.prod(norms) <= lipschitz * (1 + 1e-12)
    assert stretched <= lipschitz
    assert stretched > (0.6 if activation is sine else 0.1) * lipschitz  # a test of something
    assert ((a - b).norm(dim=1) <= lipschitz * (x - 5 * x.flip(0)).norm(dim=1)).all()


@pytest.mark.parametrize("features", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
def test_log_det_is_that_of_the_jacobian(features: int, width: int) -> None:
    made = block(features, width)
    x, context = draw(4, features, width)
    expected = torch.linalg.slogdet(jacobians(made, x, context)).logabsdet
    _, ladj = made(x, context)
    torch.testing.assert_close(ladj, expected, atol=1e-10, rtol=0)
    assert features == 50 or expected.abs().max() > 0.1


def test_products_with_the_jacobian_are_those_of_the_dense_one() -> None:
    made, (x, _) = block(5), draw(6, 5)
    _, jacobian = made.net.bind(x).linearise(x)
    dense = jacobians(made, x, None) - torch.eye(5)
    v = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(jacobian.transposed(), dense.mT)
    torch.testing.assert_close(jacobian.times(v), (dense @ v[..., None])[..., 0])
    torch.testing.assert_close(jacobian.transposed_times(v), (dense.mT @ v[..., None])[..., 0])


def test_large_tables_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    made, (x, _) = block(3), draw(100, 3)
    whole = made(x)[1]
    monkeypatch.setattr("hybridflow.transforms.residual._CELLS", 12 * 3 * 7)
    torch.testing.assert_close(made(x)[1], whole, atol=1e-14, rtol=0)


@ACTIVATIONS
@DTYPES
@pytest.mark.parametrize("features", [1, 2, 7])
def test_the_inverse_reaches_its_tolerance(activation, dtype, features: int) -> None:
    made = block(features, 2, activation=activation, lipschitz=0.95).to(dtype)
    for scale in (1.0, 10.0, 1e2, 1e4, 1e8):
        x, context = draw(100, features, 2)
        x[torch.arange(100), torch.arange(100) % features] *= scale
        x, context = x.to(dtype), context.to(dtype)
        with torch.no_grad():
            z, ladj = made(x, context)
            back, back_ladj = made.inverse(z, context)
        error = (back - x).abs().amax(1) / x.abs().amax(1).clamp(min=1)
        assert error.max() < 32 * torch.finfo(dtype).eps / (1 - 0.95)
        torch.testing.assert_close(
            back_ladj, -ladj, atol=1e-3 if dtype.itemsize == 4 else 1e-9, rtol=0
        )


def test_the_inverse_has_exact_gradients() -> None:
    made = block(3, 2)
    z, context = draw(4, 3, 2)
    z.requires_grad_()
    context.requires_grad_()
    assert torch.autograd.gradcheck(made.inverse, (z, context), atol=1e-6)
    # Parameters: what forward does to the preimage is undone.
    x, _ = made.inverse(z, context)
    again, _ = made(x, context)
    slopes = torch.autograd.grad(again.square().sum(), list(made.net.parameters()))
    assert max(slope.abs().max().item() for slope in slopes) < 1e-9


@DTYPES
def test_gradients_are_finite_far_out(dtype) -> None:
    made = block(3).to(dtype)
    for scale in (0.0, 1.0, 1e4, 1e8):
        x, _ = draw(20, 3)
        x = (scale * x).to(dtype).requires_grad_()
        z, ladj = made(x)
        back, _ = made.inverse(z)
        objective = (z.square().sum() + back.square().sum()) / max(1, scale) - ladj.sum()
        for slope in torch.autograd.grad(objective, [x, *made.parameters()]):
            assert slope.isfinite().all()


def test_a_row_that_is_not_finite_harms_no_other() -> None:
    made, (z, _) = block(3), draw(5, 3)
    expected, _ = made.inverse(z)
    z[2] = math.nan
    found, _ = made.inverse(z)
    assert found[2].isnan().all()
    others = [0, 1, 3, 4]
    torch.testing.assert_close(found[others], expected[others], atol=1e-13, rtol=0)


def test_an_inverse_that_does_not_converge_is_an_error() -> None:
    made, (z, _) = block(3), draw(5, 3)
    made.net.lipschitz = 30.0  # what no setting allows
    contraction = made.net.bind(z)
    made.net.lipschitz = 0.9
    made.net.bind = lambda *_: contraction
    with pytest.raises(InverseError, match=r"of 5 rows did not converge in .* steps"):
        made.inverse(z)


def test_bad_settings_are_refused() -> None:
    for lipschitz in (0.0, 1.0, -1.0):
        with pytest.raises(ConfigError, match="lipschitz: expected a number between 0 and 1"):
            ContractiveMLP(2, (8,), lipschitz)
    with pytest.raises(ConfigError, match="hidden: a contractive network needs"):
        ContractiveMLP(2, ())


# The estimate in training


def estimates(made: Residual, x: Tensor, draws: int) -> Tensor:
    """Estimates of the log-determinant of one row, with its own draw of the roulette each."""
    generator = torch.Generator().manual_seed(0)
    found = []
    _, jacobian = made.net.bind(x).linearise(x)
    for _ in range(draws):
        v = 2.0 * torch.randint(2, x.shape, generator=generator).double() - 1
        terms = 2 + roulette(generator, made.net.lipschitz)
        found.append(power_series(jacobian, v, terms, made.net.lipschitz))
    return torch.stack(found)


def test_the_estimate_is_unbiased() -> None:
    made, (x, _) = block(6, lipschitz=0.8), draw(1, 6)
    with torch.no_grad():
        # Rows of a draw share its number of terms: the draws are what is independent.
        found = estimates(made, 0.3 * x.expand(50, 6), 400).mean(1)
        exact = made(0.3 * x)[1].item()
    error = found.std().item() / math.sqrt(400)
    assert abs(exact) > 0.5
    assert abs(found.mean().item() - exact) < 4 * error
    assert error < 0.1 * abs(exact)  # tight enough to see a missing term


def test_the_gradient_of_the_estimate_is_unbiased() -> None:
    made, (x, _) = block(4, lipschitz=0.7), draw(1, 4)
    wanted = [x.requires_grad_(), *made.net.layers[1].parameters()]
    exact = torch.autograd.grad(log_det(made.net.bind(x).linearise(x)[1]).sum(), wanted)
    found = []
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        rows = x.expand(32, 4)
        v = 2.0 * torch.randint(2, rows.shape, generator=generator).double() - 1
        _, jacobian = made.net.bind(rows).linearise(rows)
        estimate = power_series(jacobian, v, 2 + roulette(generator, 0.7), 0.7).mean()
        slopes = torch.autograd.grad(estimate, wanted)
        found.append(torch.cat([slope.flatten() for slope in slopes]))
    drawn = torch.stack(found)
    expected = torch.cat([slope.flatten() for slope in exact])
    error = drawn.std(0) / math.sqrt(300)
    assert ((drawn.mean(0) - expected).abs() < 4.5 * error + 1e-9).all()
    assert error.norm() < 0.2 * expected.norm()


def test_the_roulette_has_the_probabilities_that_the_terms_are_divided_by() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([roulette(generator, 0.8) for _ in range(20_000)])
    for k in range(8):
        share = (drawn >= k).double().mean().item()
        assert share == pytest.approx(0.8**k, abs=4 * math.sqrt(0.25 / 20_000))


def test_estimates_are_for_training_and_repeat_from_the_state() -> None:
    made, (x, _) = block(3, estimate_above=2), draw(50, 3)
    exact = block(3)
    exact.load_state_dict(made.state_dict(), strict=False)
    state, random_state = (
        {k: v.clone() for k, v in made.state_dict().items()},
        torch.get_rng_state(),
    )
    first, second = made(x)[1], made(x)[1]
    assert not torch.equal(first, second)
    made.load_state_dict(state)
    assert torch.equal(made(x)[1], first)
    assert torch.equal(made(x)[1], second)
    assert torch.equal(torch.get_rng_state(), random_state)
    made.eval()
    assert torch.equal(made(x)[1], exact(x)[1])
    torch.testing.assert_close(made(x)[0], exact(x)[0])
    assert not Residual(2, (4,), estimate_above=2).estimated
