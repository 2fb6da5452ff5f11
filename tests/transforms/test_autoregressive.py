"""Masked autoregression: what depends on what, and the incremental inverse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.transforms import (
    AffineMap,
    MaskedAutoregressive,
    RationalQuadraticMap,
    autoregressive,
)

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
@pytest.mark.parametrize("features", [1, 2, 5, 8, 23])
@pytest.mark.parametrize("hidden", [(16,), (7, 32, 11)], ids=["one-layer", "three-layers"])
@pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
@pytest.mark.parametrize("rows", [9, 80], ids=["few-rows", "many-rows"])
def test_the_inverse_equals_one_pass_per_feature(
    elementwise, features, hidden, width, rows
) -> None:
    order = torch.randperm(features).tolist()
    flow = perturbed(elementwise, features, hidden, order, width)
    z = 2 * torch.randn(rows, features, dtype=torch.float64)
    context = torch.randn(rows, width, dtype=torch.float64) if width else None
    expected = inverse_by_passes(flow, z, context)
    truth = -flow(expected, context)[1]
    with torch.no_grad():
        unrecorded = flow.inverse(z, context)
    for x, ladj in (unrecorded, flow.inverse(z, context)):
        torch.testing.assert_close(x, expected, atol=1e-10, rtol=0)
        torch.testing.assert_close(ladj, truth, atol=1e-10, rtol=0)


def test_what_does_not_settle_soon_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stiff chain in which every feature waits for the one before."""
    features = 40
    flow = perturbed(AffineMap(), features, (features - 1,))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
        flow.net.layers()[0].weight.copy_(3 * torch.eye(features)[:-1])
        # The shift of feature i is three times the unit of feature i - 1.
        flow.net.weight[1:features].copy_(3 * torch.eye(features - 1))
    z = 0.5 + torch.rand(7, features, dtype=torch.float64)
    expected = inverse_by_passes(flow, z, None)
    with torch.no_grad():
        assert flow._by_iteration(z, None) is None
        x, _ = flow.inverse(z)
        torch.testing.assert_close(x, expected, atol=1e-10, rtol=0)
        monkeypatch.setattr(autoregressive, "_MOST_STEPS", features)
        found = flow._by_iteration(z, None)
    assert found is not None
    torch.testing.assert_close(found[0], expected, atol=1e-10, rtol=0)


def test_rows_that_are_no_numbers_stay_alone() -> None:
    flow = perturbed(AffineMap(), 30, (32,))
    for rows in (5, 80):
        z = torch.randn(rows, 30, dtype=torch.float64)
        clean, _ = flow.inverse(z)
        z[1, 3] = torch.nan
        x, _ = flow.inverse(z)
        others = torch.arange(rows) != 1
        torch.testing.assert_close(x[others], clean[others], atol=1e-12, rtol=1e-12)
        assert x[1, 3:].isnan().any()


@pytest.mark.parametrize("elementwise", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("rows", [5, 70], ids=["few-rows", "many-rows"])
def test_gradients_are_those_of_the_recorded_passes(elementwise, rows: int) -> None:
    """In the latent, the context and all parameters, of the rows and the log-determinant."""
    flow = perturbed(elementwise, 11, (16, 16), torch.randperm(11).tolist(), 2)
    z = torch.randn(rows, 11, dtype=torch.float64, requires_grad=True)
    context = torch.randn(rows, 2, dtype=torch.float64, requires_grad=True)
    wanted = [z, context, *flow.parameters()]
    x, ladj = flow.inverse(z, context)
    expected = inverse_by_passes(flow, z, context)
    weight = torch.randn_like(x)
    for ours, theirs in (
        ((x * weight).sum(), (expected * weight).sum()),
        (ladj.square().sum(), flow(expected, context)[1].square().sum()),
    ):
        torch.testing.assert_close(
            torch.autograd.grad(ours, wanted, retain_graph=True),
            torch.autograd.grad(theirs, wanted, retain_graph=True),
            atol=1e-9,
            rtol=1e-9,
        )


def test_an_exported_graph_samples_like_the_module() -> None:
    flow = perturbed(AffineMap(), 5, (8,), [4, 2, 0, 1, 3], 1)

    class Sampler(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flow = flow

        def forward(self, z: Tensor, context: Tensor) -> Tensor:
            return self.flow.inverse(z, context)[0]

    def inputs(rows: int) -> tuple[Tensor, Tensor]:
        return torch.randn(rows, 5).double(), torch.randn(rows, 1).double()

    rows = torch.export.Dim("rows", min=2)
    with torch.no_grad():
        program = torch.export.export(Sampler(), inputs(10), dynamic_shapes=({0: rows}, {0: rows}))
        for n in (3, 100):
            given = inputs(n)
            torch.testing.assert_close(program.module()(*given), flow.inverse(*given)[0])


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
