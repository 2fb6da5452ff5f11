"""Less memory, the same gradients: checkpointing and rebuilding by inverses against plain."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import pytest
import torch
from torch import Tensor, nn

from hybridflow.errors import ConfigError, DriftWarning
from hybridflow.nets import MLP
from hybridflow.transforms import (
    LU,
    ActNorm,
    AffineMap,
    Compose,
    Coupling,
    ElementwiseMap,
    Householder,
    Identity,
    Inverse,
    LogisticMixtureMap,
    MaskedAutoregressive,
    Permutation,
    RationalQuadraticMap,
    Standardize,
    Transform,
    alternating_mask,
)
from hybridflow.transforms.batchnorm import BatchNorm
from hybridflow.transforms.planar import Planar
from hybridflow.transforms.reversible import recomputed

D, WIDTH = 5, 2
SPLINE = RationalQuadraticMap(bins=5)


def coupling(elementwise: ElementwiseMap, layer: int) -> Coupling:
    return Coupling(elementwise, alternating_mask(D, layer), (8,), WIDTH)


# name: the transforms of one step; a stack has ten
STEPS: dict[str, Callable[[int], list[Transform]]] = {
    "affine-coupling": lambda i: [coupling(AffineMap(), i)],
    "spline-coupling": lambda i: [coupling(SPLINE, i)],
    "autoregressive": lambda i: [MaskedAutoregressive(AffineMap(), D, (8,), None, WIDTH)],
    "actnorm-lu-permutation": lambda i: [ActNorm(D), LU(D), Permutation.shuffled(D, seed=i)],
    "rotation-identity": lambda i: [Identity(), Householder(D, reflections=2), Standardize(D)],
    "nested": lambda i: [Compose([LU(D), coupling(SPLINE, i)], memory="checkpoint")],
    "inverse": lambda i: [Inverse(coupling(AffineMap(), i))],
}


def perturb(transform: Transform, size: float = 0.1) -> None:
    """Move the parameters away from the identity."""
    with torch.no_grad():
        for parameter in transform.parameters():
            parameter += size * torch.randn_like(parameter)


def stack(name: str, steps: int = 10, dtype: torch.dtype = torch.float64) -> Compose:
    torch.manual_seed(0)
    flow = Compose(t for step in range(steps) for t in STEPS[name](step)).to(dtype)
    perturb(flow)
    return flow


def rows(dtype: torch.dtype = torch.float64, n: int = 30) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = 2 * torch.randn(n, D, generator=generator, dtype=torch.float64)
    context = torch.randn(n, WIDTH, generator=generator, dtype=torch.float64)
    return x.to(dtype).requires_grad_(), context.to(dtype).requires_grad_()


def gradients(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    x: Tensor,
    context: Tensor,
    parameters: Iterable[Tensor],
) -> list[Tensor]:
    """Differentiate a function of z and ladj in which each row counts differently."""
    z, ladj = function(x, context)
    objective = (z.sin() * torch.arange(1, D + 1)).sum() + (ladj * torch.arange(len(x))).sum()
    inputs = [x, context, *parameters]
    found = torch.autograd.grad(objective, inputs, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(inputs, found, strict=True)]


def worst(found: list[Tensor], expected: list[Tensor]) -> float:
    """Return the largest relative error of a tensor."""
    return max(
        ((a - b).norm() / b.norm().clamp(min=1e-3)).item()
        for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
@pytest.mark.parametrize("name", STEPS)
def test_values_and_gradients_are_those_of_plain(name, memory, direction) -> None:
    flow = stack(name)
    x, context = rows()
    function = flow.forward if direction == "forward" else flow.inverse
    plain_z, plain_ladj = function(x, context)
    expected = gradients(function, x, context, flow.parameters())
    flow.memory = memory
    z, ladj = function(x, context)
    torch.testing.assert_close(z, plain_z, atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(ladj, plain_ladj, atol=1e-12, rtol=1e-13)
    assert worst(gradients(function, x, context, flow.parameters()), expected) < 1e-12


@pytest.mark.parametrize("name", ["affine-coupling", "spline-coupling"])
def test_float32_gradients_are_as_good_as_plain_ones(name) -> None:
    flow = stack(name, steps=24)
    truth = gradients(flow, *rows(), flow.parameters())
    flow.float()
    errors = {}
    for memory in ("plain", "reversible"):
        flow.memory = memory
        found = gradients(flow, *rows(torch.float32), flow.parameters())
        errors[memory] = worst([g.double() for g in found], truth)
    assert errors["reversible"] < 2 * errors["plain"] + 1e-6


def bytes_kept(function: Callable[[], tuple[Tensor, Tensor]], parameters: list[Tensor]) -> int:
    """Return the bytes that autograd holds for the way back, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    assert result[0].requires_grad
    return sum(held.values())


def kept_by(name: str, memory: str, steps: int) -> int:
    flow = stack(name, steps)
    x, context = rows(n=100)
    if memory == "no anchors":
        return bytes_kept(
            lambda: recomputed(
                list(flow), x, context, anchor_every=len(flow), on_drift=pytest.fail
            ),
            [*flow.parameters(), *flow.buffers()],
        )
    flow.memory = memory
    return bytes_kept(lambda: flow(x, context), [*flow.parameters(), *flow.buffers()])


@pytest.mark.parametrize("name", ["affine-coupling", "spline-coupling"])
class TestBytes:
    def test_without_anchors_do_not_grow_with_depth(self, name) -> None:
        assert kept_by(name, "no anchors", 110) <= 1.1 * kept_by(name, "no anchors", 8)

    def test_with_anchors_are_a_twentieth_of_plain(self, name) -> None:
        assert 20 * kept_by(name, "reversible", 110) <= kept_by(name, "plain", 110)

    def test_of_checkpoints_are_one_input_per_transform(self, name) -> None:
        row = 100 * 8
        # The inputs, the output and the context.
        assert kept_by(name, "checkpoint", 12) == 12 * row * D + row * D + row * WIDTH

    def test_of_no_gradient_are_none(self, name) -> None:
        flow = stack(name)
        flow.memory = "reversible"
        with torch.no_grad():
            z, _ = flow(*rows())
        assert not z.requires_grad


class Sloppy(Transform):
    """A shear whose inverse is off."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.3))
        self.error = error

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        moved = x[:, 1:] + self.scale * x[:, :1].sin()
        return torch.cat([x[:, :1], moved], dim=1), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        moved = z[:, 1:] - self.scale * z[:, :1].sin()
        return torch.cat([z[:, :1], moved], dim=1) + self.error, z.new_zeros(len(z))


@pytest.mark.parametrize("error", [1e-7, float("nan")], ids=["small", "nan"])
def test_drift_is_noticed_and_mended(error: float) -> None:
    transforms = [coupling(SPLINE, layer) for layer in range(9)]
    flow = Compose([*transforms[:4], Sloppy(error), *transforms[4:]]).double()
    torch.manual_seed(0)
    perturb(flow)
    x, context = rows()
    expected = gradients(flow, x, context, flow.parameters())
    flow.memory = "reversible"
    with pytest.warns(DriftWarning, match="inputs rebuilt by the inverse are off by"):
        found = gradients(flow, x, context, flow.parameters())
    assert worst(found, expected) < 1e-12
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says so once
        assert worst(gradients(flow, x, context, flow.parameters()), expected) < 1e-12


def test_a_lost_row_is_no_drift() -> None:
    flow = stack("affine-coupling")
    flow.memory = "reversible"
    x, context = rows()
    with torch.no_grad():
        x[3] = float("nan")
    z, _ = flow(x, context)
    z[[0, 1, 2]].sum().backward()  # a warning would be an error


class Noisy(Transform):
    """A shift by random numbers times a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x + self.scale * torch.randn_like(x), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def test_random_numbers_are_drawn_again() -> None:
    flow = Compose([Noisy(), LU(D), Noisy()]).double()
    perturb(flow)
    results = {}
    for memory in ("plain", "checkpoint"):
        flow.memory = memory
        torch.manual_seed(5)
        found = gradients(flow, *rows(), flow.parameters())
        results[memory] = found, torch.rand(1)
    assert worst(results["checkpoint"][0], results["plain"][0]) == 0
    assert torch.equal(results["checkpoint"][1], results["plain"][1])


def test_a_transform_that_learns_from_its_batch_runs_once() -> None:
    results = {}
    for memory in ("plain", "checkpoint", "reversible"):
        torch.manual_seed(0)
        norm = BatchNorm(D)
        flow = Compose([coupling(SPLINE, 0), norm, coupling(SPLINE, 1)], memory=memory).double()
        perturb(flow)
        flow.train()
        found = gradients(flow, *rows(), flow.parameters())
        results[memory] = [*found, norm.location.clone(), norm.variance.clone()]
    for memory in ("checkpoint", "reversible"):
        assert worst(results[memory], results["plain"]) < 1e-12


def test_a_transform_used_twice_gets_both_gradients() -> None:
    torch.manual_seed(0)
    shared = coupling(AffineMap(), 0)
    flow = Compose([shared, LU(D), shared]).double()
    perturb(flow)
    expected = gradients(flow, *rows(), flow.parameters())
    flow.memory = "reversible"
    assert worst(gradients(flow, *rows(), flow.parameters()), expected) < 1e-12


def test_frozen_parameters_get_no_gradient() -> None:
    flow = stack("spline-coupling")
    flow.memory = "reversible"
    first = next(flow.parameters()).requires_grad_(False)
    x, context = (tensor.detach() for tensor in rows())
    z, ladj = flow(x, context)
    (z.sum() + ladj.sum()).backward()
    assert first.grad is None
    assert x.grad is None
    assert all(p.grad is not None for p in list(flow.parameters())[1:])


def test_the_conditioner_is_evaluated_once_on_the_way_back(monkeypatch) -> None:
    flow = stack("spline-coupling", steps=8)
    flow.memory = "reversible"
    calls, evaluate = [], MLP.feature_major

    def counted(*arguments: Tensor) -> Tensor:
        calls.append(1)
        return evaluate(*arguments)

    monkeypatch.setattr(MLP, "feature_major", counted)
    z, _ = flow(*rows())
    assert len(calls) == 8
    z.sum().backward()
    assert len(calls) == 16


@pytest.mark.parametrize("elementwise", [SPLINE, AffineMap()], ids=["spline", "affine"])
def test_a_rebuilt_map_is_the_map(elementwise: ElementwiseMap) -> None:
    torch.manual_seed(0)
    y = torch.tensor([-60.0, -5.0, -4.9, -0.3, 0.0, 2.0, 5.0, 5.1, 60.0], dtype=torch.float64)
    params = torch.randn(elementwise.n_parameters, len(y), dtype=torch.float64).requires_grad_()
    x, forward = elementwise.rebuild(y, params)
    torch.testing.assert_close(x, elementwise.inverse(y, params)[0])
    assert not x.requires_grad
    leaf = x.clone().requires_grad_()
    results = []
    for function in (forward, lambda x: elementwise.forward(x, params)):
        image, ladj = function(leaf)
        objective = (image.sin() + ladj).sum()
        results.append([image, ladj, *torch.autograd.grad(objective, [leaf, params])])
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


def test_a_parameter_changed_before_the_way_back_is_an_error() -> None:
    flow = stack("affine-coupling")
    flow.memory = "reversible"
    z, _ = flow(*rows())
    with torch.no_grad():
        next(flow.parameters()).add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_gradients_of_gradients_are_refused() -> None:
    flow = stack("affine-coupling")
    flow.memory = "checkpoint"
    x, context = rows()
    (gradient,) = torch.autograd.grad(flow(x, context)[0].sin().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_an_iterative_inverse_is_refused() -> None:
    mixture = coupling(LogisticMixtureMap(), 0)
    for transform in (Planar(D), mixture, Compose([LU(D), Planar(D)])):
        with pytest.raises(ConfigError, match=r"no exact inverse.*use memory='checkpoint'"):
            Compose([transform], memory="reversible")
    Compose([Planar(D), mixture], memory="checkpoint")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="memory: expected 'plain', 'checkpoint', 'reversible'"):
        Compose([LU(D)], memory="less")
    flow = Compose([LU(D)])
    with pytest.raises(ConfigError, match="got 'none'"):
        flow.memory = "none"
    assert flow.memory == "plain"
