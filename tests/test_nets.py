"""Conditioner networks."""

from __future__ import annotations

import pytest
import torch

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
