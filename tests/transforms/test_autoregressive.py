"""Masked autoregression: what depends on what, and the incremental inverse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.transforms import AffineMap, MaskedAutoregressive, RationalQuadraticMap

MAPS = {"affine": AffineMap(), "spline": RationalQuadraticMap(bins=4)}


def perturbed(*args, **kwargs) -> MaskedAutoregressive:
    torch.manual_seed(0)
    flow = MaskedAutoregressive(*args, **kwargs).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return flow


def inverse_by_passes(flow: MaskedAutoregressive, z: Tensor, context: Tensor | None) -> Tensor:
    """The textbook inverse: a whole pass for each feature."""
    ordered = z.index_select(1, flow.order)
    x = torch.zeros_like(ordered)
    for i in range(z.shape[1]):
        params = flow.net(x, context)
        x = x.clone()
        x[:, i] = flow.elementwise.inverse(ordered[:, i], params[:, i])[0]
    return x.index_select(1, flow.place)


@pytest.mark.parametrize("elementwise", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("features", [1, 2, 5, 23])
@pytest.mark.parametrize("hidden", [(16,), (7, 32, 11)], ids=["one-layer", "three-layers"])
@pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
def test_incremental_inverse_equals_one_pass_per_feature(
    elementwise, features, hidden, width
) -> None:
    order = torch.randperm(features).tolist()
    flow = perturbed(elementwise, features, hidden, order, width)
    z = 2 * torch.randn(9, features, dtype=torch.float64)
    context = torch.randn(9, width, dtype=torch.float64) if width else None
    expected = inverse_by_passes(flow, z, context)
    with torch.no_grad():
        in_place, _ = flow.inverse(z, context)
    recorded, _ = flow.inverse(z, context)
    torch.testing.assert_close(in_place, expected, atol=1e-10, rtol=0)
    torch.testing.assert_close(recorded, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("width", [0, 3], ids=["no-context", "context"])
def test_each_feature_depends_on_those_before_it_and_on_all_of_them(width: int) -> None:
    order = [3, 0, 4, 1, 2]
    flow = perturbed(AffineMap(), 5, (40, 40), order, width)
    context = torch.randn(1, width, dtype=torch.float64) if width else None
    x = torch.randn(5, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda row: flow(row[None], context)[0][0], x)
    ordered = jacobian[order][:, order]
    assert torch.equal(ordered.triu(1), torch.zeros_like(ordered))
    below = ordered[torch.tril_indices(5, 5).unbind(0)]
    assert (below != 0).all()


def test_context_reaches_every_feature() -> None:
    flow = perturbed(AffineMap(), 4, (16,), None, 2)
    x = torch.randn(1, 4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda c: flow(x, c[None])[0][0], torch.randn(2, dtype=torch.float64)
    )
    assert (jacobian.abs().sum(1) > 0).all()


def test_few_hidden_units_still_see_the_last_feature_but_one() -> None:
    flow = perturbed(AffineMap(), 30, (5,))
    jacobian = torch.autograd.functional.jacobian(
        lambda row: flow(row[None])[0][0], torch.randn(30, dtype=torch.float64)
    )
    assert (jacobian[29, :29] != 0).all()


def test_gradients_pass_through_the_inverse() -> None:
    flow = perturbed(RationalQuadraticMap(bins=3), 3, (6,), None, 1)
    names, values = zip(*flow.named_parameters(), strict=True)

    def sample(z: Tensor, context: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(
            Caller(flow), {f"flow.{name}": value for name, value in state.items()}, (z, context)
        )

    class Caller(torch.nn.Module):
        def __init__(self, flow: MaskedAutoregressive) -> None:
            super().__init__()
            self.flow = flow

        def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
            return self.flow.inverse(z, context)

    z = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, 1, dtype=torch.float64, requires_grad=True)
    free = [value.detach().clone().requires_grad_() for value in values]
    assert torch.autograd.gradcheck(sample, (z, context, *free))


def test_order_must_name_every_feature_once() -> None:
    with pytest.raises(ConfigError, match=r"order: expected each of 0 to 2 once, got \(0, 0, 1\)"):
        MaskedAutoregressive(AffineMap(), 3, (8,), order=[0, 0, 1])


def test_a_hidden_layer_is_needed() -> None:
    with pytest.raises(ConfigError, match="hidden: a masked network needs at least one"):
        MaskedAutoregressive(AffineMap(), 3, ())
