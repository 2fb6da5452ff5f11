"""Radial maps: the closed-form inverse; the contract of all transforms holds besides."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import brentq

from hybridflow.transforms import Radial


def moved(features: int, width: int = 0) -> Radial:
    """A layer in float64, far from its start."""
    torch.manual_seed(0)
    layer = Radial(features, width).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 2 * torch.randn_like(parameter)
    return layer


@pytest.mark.parametrize("features", [1, 2, 3, 7])
@pytest.mark.parametrize("raw", [-50.0, -1.0, 1.0, 50.0], ids=str)
def test_radii_are_those_of_the_formula(features: int, raw: float) -> None:
    """|z - m| = r (1 + beta / (alpha + r)), and a root finder agrees with the inverse."""
    torch.manual_seed(features)
    layer = Radial(features).double()
    with torch.no_grad():
        layer.net.bias[features] = raw
    centre = layer.net.bias[:features].detach()
    alpha = math.sqrt(features)
    beta = alpha * math.expm1(2 * math.tanh(raw / 2))
    x = centre + 3 * torch.randn(20, features, dtype=torch.float64)
    with torch.no_grad():
        z, _ = layer(x)
        back, _ = layer.inverse(z)
    for row, image, again in zip(x, z, back, strict=True):
        r, rho = (row - centre).norm().item(), (image - centre).norm().item()
        assert rho == pytest.approx(r * (1 + beta / (alpha + r)), rel=1e-12)
        root = brentq(lambda t, rho=rho: t * (1 + beta / (alpha + t)) - rho, 0, 100, xtol=1e-13)
        assert (again - centre).norm().item() == pytest.approx(root, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])
def test_the_centre_itself_comes_back_with_finite_gradients(dtype: torch.dtype) -> None:
    layer = moved(3).to(dtype)
    x = layer.net.bias[:3].detach().expand(2, -1).clone().requires_grad_()
    z, ladj = layer(x)
    back, back_ladj = layer.inverse(z)
    assert torch.equal(back, x)
    torch.testing.assert_close(back_ladj, -ladj)
    total = z.sum() + back.sum() + ladj.sum() + back_ladj.sum()
    for gradient in torch.autograd.grad(total, [x, *layer.parameters()]):
        assert gradient.isfinite().all()


def test_gradients_of_the_inverse() -> None:
    layer = moved(2, 2)
    z, context = (torch.randn(3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(layer.inverse, (z, context))


def test_the_context_changes_the_map() -> None:
    layer = moved(2, 2)
    x = torch.randn(5, 2, dtype=torch.float64)
    one, other = (layer(x, torch.full((5, 2), value).double())[0] for value in (0.0, 1.0))
    assert (one - other).abs().amax(1).min().item() > 1e-3


def test_rows_move_by_less_than_the_bound() -> None:
    """alpha * |e^s - 1| at most, wherever they are."""
    layer = moved(3)
    x = torch.randn(200, 3, dtype=torch.float64) * torch.logspace(-2, 8, 200)[:, None]
    moves = (layer(x)[0] - x).norm(dim=1)
    assert moves.max().item() <= math.sqrt(3) * math.e**2 * math.expm1(2) * (1 + 1e-6)


@pytest.mark.parametrize("features", [1, 2, 7])
def test_starts_as_the_identity(features: int) -> None:
    x = torch.randn(10, features)
    z, ladj = Radial(features)(x)
    assert torch.equal(z, x)
    assert torch.equal(ladj, torch.zeros(10))
