"""Masked networks: what depends on what, their sweeps, and the transposed solve."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybridflow.errors import InputError
from hybridflow.masked import BlockedSweep, FunctionalSweep, MaskedMLP, Sweep, solve_adjoint

WIDTHS = pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
HIDDEN = pytest.mark.parametrize("hidden", [(12,), (5, 12), (1,), (3, 1, 9), (40, 40)], ids=str)


def perturbed(*args: object) -> MaskedMLP:
    torch.manual_seed(0)
    net = MaskedMLP(*args).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return net


def draw(rows: int, features: int, width: int) -> tuple[Tensor, Tensor | None]:
    x = torch.randn(rows, features, dtype=torch.float64)
    return x, torch.randn(rows, width, dtype=torch.float64) if width else None


@WIDTHS
@HIDDEN
def test_outputs_depend_on_earlier_features_only(width: int, hidden) -> None:
    net = perturbed(4, hidden, 2, width)
    x, context = draw(1, 4, width)
    jacobian = torch.autograd.functional.jacobian(
        lambda row: net(row[None], context)[:, :, 0], x[0]
    )
    assert jacobian.shape == (2, 4, 4)
    assert torch.equal(jacobian.triu(), torch.zeros_like(jacobian))
    assert (jacobian[:, 3, :3] != 0).all()


@pytest.mark.parametrize("context", [None, torch.zeros(3, 5)], ids=["none", "too-wide"])
def test_a_wrong_context_is_refused(context) -> None:
    net = MaskedMLP(2, (4,), 1, 2)
    for use in (net, lambda x, c: BlockedSweep(net, len(x), c)):
        with pytest.raises(InputError, match=r"context: expected a tensor of shape \(n, 2\), got"):
            use(torch.zeros(3, 2), context)


@WIDTHS
@HIDDEN
@pytest.mark.parametrize("features", [1, 4, 8, 9, 19])
@pytest.mark.parametrize("kind", [BlockedSweep, FunctionalSweep])
def test_a_sweep_gives_what_one_pass_gives(kind: type[Sweep], features, hidden, width) -> None:
    net = perturbed(features, hidden, 3, width)
    x, context = draw(5, features, width)
    expected = net(x, context)
    sweep = kind(net, 5, context)
    for i in range(features):
        torch.testing.assert_close(sweep.parameters(), expected[:, i], atol=1e-12, rtol=0)
        sweep.reveal(x[:, i])


def test_a_blocked_sweep_records_nothing_and_leaves_the_network_alone() -> None:
    net = perturbed(11, (20, 20), 2)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    x, _ = draw(3, 11, 0)
    sweep = BlockedSweep(net, 3)
    for i in range(11):
        assert not sweep.parameters().requires_grad
        sweep.reveal(x[:, i])
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


def test_a_functional_sweep_records_gradients() -> None:
    net = perturbed(5, (8,), 2)
    x, _ = draw(3, 5, 0)
    sweep, outputs = FunctionalSweep(net, 3), []
    for i in range(5):
        outputs.append(sweep.parameters())
        sweep.reveal(x[:, i])
    parameters = list(net.parameters())
    swept = torch.autograd.grad(torch.stack(outputs, 1).square().sum(), parameters)
    passed = torch.autograd.grad(net(x).square().sum(), parameters)
    torch.testing.assert_close(swept, passed)


@WIDTHS
@HIDDEN
@pytest.mark.parametrize("features", [1, 4, 8, 9, 19])
def test_the_adjoint_is_the_dense_transposed_solve(features: int, hidden, width: int) -> None:
    """For z = x * slope + theta_1 * weight_1 + theta_2 * weight_2, linear but in the network."""
    net = perturbed(features, hidden, 2, width)
    x, context = draw(3, features, width)
    slope = 0.5 + torch.rand(features, 3, dtype=torch.float64)
    sensitivity = torch.randn(2, features, 3, dtype=torch.float64)
    g = torch.randn(features, 3, dtype=torch.float64)
    solved = solve_adjoint(net, g, x, context, slope, sensitivity)
    for row in range(3):
        given = None if context is None else context[row : row + 1]

        def image(x: Tensor, row=row, given=given) -> Tensor:
            return slope[:, row] * x + (sensitivity[:, :, row] * net(x[None], given)[..., 0]).sum(0)

        jacobian = torch.autograd.functional.jacobian(image, x[row])
        expected = torch.linalg.solve(jacobian.t(), g[:, row])
        torch.testing.assert_close(solved[:, row], expected, atol=1e-10, rtol=1e-10)
