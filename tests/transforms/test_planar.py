"""Planar maps: the paper's condition, context, and the inverse by one scalar root."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybridflow.transforms import Planar, Transform

SIZES = pytest.mark.parametrize("features", [1, 2, 3, 7])
CONTEXTS = pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])


def moved(features: int, width: int = 0, spread: float = 1.0) -> Planar:
    """A layer in float64, far from its start."""
    torch.manual_seed(0)
    layer = Planar(features, width).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += spread * torch.randn_like(parameter)
    return layer


def rows(n: int, features: int, width: int) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, features, dtype=torch.float64, generator=generator)
    context = torch.randn(n, width, dtype=torch.float64, generator=generator)
    return x, context if width else None


def log_determinant(direction, x: Tensor, context: Tensor | None) -> Tensor:
    """log|det| of the autograd Jacobian of each row."""
    leaf = x.clone().requires_grad_()
    image, _ = direction(leaf, context)
    jacobian = [torch.autograd.grad(c.sum(), leaf, retain_graph=True)[0] for c in image.unbind(1)]
    return torch.linalg.slogdet(torch.stack(jacobian, 1)).logabsdet.detach()


@SIZES
@CONTEXTS
def test_log_det_is_that_of_the_jacobian(features: int, width: int) -> None:
    layer = moved(features, width)
    x, context = rows(20, features, width)
    for direction in (layer.forward, layer.inverse):
        _, ladj = direction(x, context)
        expected = log_determinant(direction, x, context)
        torch.testing.assert_close(ladj.detach(), expected, atol=1e-8, rtol=0)


@SIZES
@CONTEXTS
@pytest.mark.parametrize(
    ("dtype", "near", "far"),
    [(torch.float64, 1e-9, 1e-8), (torch.float32, 1e-4, 1e-3)],
    ids=["f64", "f32"],
)
def test_round_trip(features: int, width: int, dtype: torch.dtype, near: float, far: float) -> None:
    layer = moved(features, width).to(dtype)
    for scale in (1.0, 10.0, 1e4, 1e8):
        x, context = rows(100, features, width)
        x, context = (scale * x).to(dtype), None if context is None else context.to(dtype)
        with torch.no_grad():
            z, ladj = layer(x, context)
            back, back_ladj = layer.inverse(z, context)
        error = (back - x).abs().amax(1) / x.abs().amax(1).clamp(min=1)
        assert error.max().item() < (near if scale <= 10 else far)
        assert ladj.isfinite().all()
        if scale <= 10:
            torch.testing.assert_close(back_ladj, -ladj, atol=100 * near, rtol=0)


def test_the_formula_and_the_condition_of_the_paper() -> None:
    """z = x + u tanh(w'x + b) with w'u > -1, for parameters of any size."""
    layer = moved(3, spread=30.0)
    x, _ = rows(500, 3, 0)
    z, ladj = layer(x)
    step = (z - x).detach()
    # All rows move along one line, the vector u.
    u = step[step.norm(dim=1).argmax()]
    cosine = (step @ u).abs() / (step.norm(dim=1) * u.norm())
    torch.testing.assert_close(cosine, torch.ones_like(cosine))
    # The smallest determinant is 1 + w'u, bounded from below by the smallest slope.
    assert ladj.min().item() >= -2 - 1e-9
    assert ladj.max().item() <= 2 + 1e-9


@CONTEXTS
def test_gradients_are_finite_and_those_of_the_inverse_right(width: int) -> None:
    layer = moved(3, width)
    x, context = rows(6, 3, width)
    free = list(layer.parameters())
    for scale in (0.0, 1.0, 1e8):
        leaf = (scale * x).requires_grad_()
        z, ladj = layer(leaf, context)
        back, _ = layer.inverse(z, context)
        objective = (z.sum() + back.square().sum()) / max(1, scale) + ladj.sum()
        for gradient in torch.autograd.grad(objective, [leaf, *free]):
            assert gradient.isfinite().all()

    def inverse(z: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        names = [name for name, _ in layer.named_parameters()]
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(_Inverse(layer), prefixed(given), (z, context))

    values = [parameter.detach().clone().requires_grad_() for parameter in free]
    assert torch.autograd.gradcheck(inverse, (x.clone().requires_grad_(), *values))


def prefixed(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"layer.{name}": value for name, value in parameters.items()}


class _Inverse(torch.nn.Module):
    """The inverse as a module, for `functional_call`."""

    def __init__(self, layer: Transform) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.layer.inverse(z, context)


def test_the_context_changes_the_map() -> None:
    layer = moved(2, 2)
    x, _ = rows(5, 2, 0)
    one, other = (layer(x, torch.full((5, 2), value).double())[0] for value in (0.0, 1.0))
    assert (one - other).abs().amax(1).min().item() > 1e-3


@SIZES
def test_starts_as_the_identity(features: int) -> None:
    x, _ = rows(10, features, 0)
    z, ladj = Planar(features).double()(x)
    assert torch.equal(z, x)
    assert torch.equal(ladj, torch.zeros_like(ladj))


def test_no_rows_give_no_rows() -> None:
    layer = moved(3)
    for direction in (layer.forward, layer.inverse):
        z, ladj = direction(torch.empty(0, 3, dtype=torch.float64))
        assert z.shape == (0, 3)
        assert ladj.shape == (0,)
