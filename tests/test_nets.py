"""Conditioner networks."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear, silu

from hybridflow.errors import InputError
from hybridflow.nets import MLP, squash


def perturb(net: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)


def test_squash_is_close_to_the_identity_and_bounded() -> None:
    x = torch.tensor([0.0, 0.5, -2.0, 1e30, -1e30], requires_grad=True)
    y = squash(x)
    torch.testing.assert_close(y[:3], x[:3], atol=0.03, rtol=0)
    assert y.abs().max().item() <= 10.0
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()


@pytest.mark.parametrize("hidden", [(), (8,), (8, 5)], ids=str)
@pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
@pytest.mark.parametrize("features", [0, 3], ids=["no-input", "input"])
def test_mlp_layouts_agree_and_start_at_zero(features: int, width: int, hidden) -> None:
    torch.manual_seed(0)
    net = MLP(features, hidden, 4, width)
    x = torch.randn(6, features)
    context = torch.randn(6, width) if width else None
    assert torch.equal(net(x, context), torch.zeros(6, 4))
    perturb(net)
    out = net(x, context)
    assert out.shape == (6, 4)
    assert out.abs().min().item() > 0
    feature_major = net.feature_major(x, context)
    assert feature_major.shape == (4, 6)
    torch.testing.assert_close(feature_major.t(), out)


def test_mlp_reads_its_input_and_its_context() -> None:
    torch.manual_seed(0)
    net = MLP(2, (8,), 3, context_features=1)
    perturb(net)
    x, context = torch.randn(1, 2), torch.randn(1, 1)
    for given in (x, context):
        given.requires_grad_()
    gradients = torch.autograd.grad(net(x, context).sum(), (x, context))
    assert all((gradient != 0).all() for gradient in gradients)


def test_a_net_without_input_learns_a_constant() -> None:
    net = MLP(0, (8,), 3)
    assert [tuple(parameter.shape) for parameter in net.parameters()] == [(3,)]
    perturb(net)
    assert torch.equal(net(torch.empty(2, 0))[0], net.bias)


def test_a_net_declared_without_context_ignores_it() -> None:
    net = MLP(2, (4,), 1)
    perturb(net)
    x = torch.randn(3, 2)
    assert torch.equal(net(x, torch.randn(3, 5)), net(x))


@pytest.mark.parametrize("context", [None, torch.zeros(3, 5)], ids=["none", "too-wide"])
def test_a_wrong_context_is_refused(context) -> None:
    net = MLP(2, (4,), 1, 2)
    with pytest.raises(InputError, match=r"context: expected a tensor of shape \(n, 2\), got"):
        net(torch.zeros(3, 2), context)


@pytest.mark.parametrize("hidden", [(), (4,), (5, 6), (3, 4, 2)], ids=str)
def test_mlp_gradients_of_both_orders_agree_with_finite_differences(hidden) -> None:
    torch.manual_seed(0)
    net = MLP(2, hidden, 3).double()
    perturb(net)
    names, parameters = zip(*net.named_parameters(), strict=True)

    def outputs(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (x,))

    x = torch.tensor([[0.4, -1.2], [30.0, 0.1]], dtype=torch.float64, requires_grad=True)
    h = squash(x)
    for index, layer in enumerate(net.hidden):
        h = linear(silu(h) if index else h, layer.weight, layer.bias)
    expected = linear(silu(h) if hidden else h, net.weight, net.bias)
    torch.testing.assert_close(net(x), expected, atol=1e-14, rtol=1e-13)
    assert torch.autograd.gradcheck(outputs, (x, *parameters))
    assert torch.autograd.gradgradcheck(outputs, (x, *parameters))


def test_mlp_under_function_transforms() -> None:
    torch.manual_seed(0)
    net = MLP(3, (4, 4), 2).double()
    perturb(net)
    x = torch.randn(5, 3, dtype=torch.float64)
    by_row = torch.func.vmap(torch.func.jacrev(lambda row: net(row[None])[0]))(x)
    for row, jacobian in zip(x, by_row, strict=True):
        expected = torch.autograd.functional.jacobian(lambda row: net(row[None])[0], row)
        torch.testing.assert_close(jacobian, expected, atol=1e-12, rtol=1e-12)

    def loss(parameters: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(net, parameters, (row[None],)).sum()

    own = dict(net.named_parameters())
    per_row = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(own, x)
    net(x).sum().backward()
    for name, parameter in own.items():
        torch.testing.assert_close(per_row[name].sum(0), parameter.grad, atol=1e-12, rtol=1e-12)


def test_frozen_layers_get_no_gradient() -> None:
    net = MLP(3, (4,), 2)
    net.hidden[0].requires_grad_(False)
    net(torch.randn(5, 3)).sum().backward()
    assert net.hidden[0].weight.grad is None
    assert net.weight.grad is not None
