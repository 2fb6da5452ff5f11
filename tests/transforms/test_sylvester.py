"""Sylvester maps: the paper's matrices, and the inverse by back-substitution.

The contract of all transforms is tested with the others.
"""

from __future__ import annotations

import pytest
import torch

from hybridflow.transforms import Sylvester


def moved(features: int, width: int = 0, spread: float = 0.5) -> Sylvester:
    """A layer in float64, far from its start."""
    torch.manual_seed(0)
    layer = Sylvester(features, 3, width).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += spread * torch.randn_like(parameter)
    return layer


@pytest.mark.parametrize("features", [1, 2, 3, 7])
def test_the_formula_with_the_matrices_of_the_paper(features: int) -> None:
    """z = x + Q R tanh(R~ Q'x + b), with Q orthogonal and both triangular."""
    layer = moved(features)
    x = torch.randn(20, features, dtype=torch.float64)
    with torch.no_grad():
        q = torch.eye(features, dtype=torch.float64)
        for v in layer.normals:
            q = (torch.eye(features) - 2 * torch.outer(v, v) / (v @ v)) @ q
        shift, gain, slope = (2 * torch.tanh(layer.net.bias / 2)).chunk(3)
        shift = layer.net.bias[:features]
        inner = torch.triu(layer.inner, 1) + torch.diag(gain.exp())
        outer = torch.triu(layer.outer, 1) + torch.diag(torch.expm1(slope) / gain.exp())
        expected = x + torch.tanh(x @ q @ inner.t() + shift) @ outer.t() @ q.t()
        z, _ = layer(x)
    torch.testing.assert_close(q @ q.t(), torch.eye(features).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(z, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("features", [1, 2, 7])
@pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
def test_round_trip_of_strongly_bent_layers(features: int, width: int) -> None:
    layer = moved(features, width, spread=1.5)
    x = 3 * torch.randn(300, features, dtype=torch.float64)
    context = torch.randn(300, width, dtype=torch.float64) if width else None
    with torch.no_grad():
        z, ladj = layer(x, context)
        back, back_ladj = layer.inverse(z, context)
    torch.testing.assert_close(back, x, atol=1e-9, rtol=0)
    torch.testing.assert_close(back_ladj, -ladj, atol=1e-8, rtol=0)


def test_gradients_of_the_inverse() -> None:
    layer = moved(3, 2)
    z = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    context = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer.inverse, (z, context))


def test_parameters_of_the_inverse_get_the_implicit_gradient() -> None:
    """d inverse(z) / d parameters = -J^-1 d forward(x) / d parameters."""
    layer = moved(2)
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    image, _ = layer(x)
    along = torch.randn_like(image)
    rows = [torch.autograd.grad(c.sum(), x, retain_graph=True)[0] for c in image.unbind(1)]
    jacobian = torch.stack(rows, 1)
    solved = torch.linalg.solve(jacobian.mT, along[..., None])[..., 0]
    expected = torch.autograd.grad(image, list(layer.parameters()), -solved)
    back, _ = layer.inverse(image.detach())
    found = torch.autograd.grad(back, list(layer.parameters()), along)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_the_context_changes_the_map() -> None:
    layer = moved(2, 2)
    x = torch.randn(5, 2, dtype=torch.float64)
    one, other = (layer(x, torch.full((5, 2), value).double())[0] for value in (0.0, 1.0))
    assert (one - other).abs().amax(1).min().item() > 1e-3


@pytest.mark.parametrize("features", [1, 2, 7])
def test_starts_as_the_identity(features: int) -> None:
    x = torch.randn(10, features)
    z, ladj = Sylvester(features, reflections=2)(x)
    assert torch.equal(z, x)
    assert torch.equal(ladj, torch.zeros(10))
