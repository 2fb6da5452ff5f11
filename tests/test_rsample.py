"""Gradients through samples: of every base, every flow and the whole model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy import optimize, special, stats
from torch import Tensor, nn

from hybridflow.densities import Base, Mixture, Normal, StudentT
from hybridflow.errors import ConfigError
from hybridflow.flows import hybridflow_flows
from hybridflow.model import HybridModel
from hybridflow.specs import Event, FlowSpec
from hybridflow.transforms import Affine, Identity, Standardize, Transform

FLOWS = {
    spec.name: spec
    for spec in hybridflow_flows()
    if spec.inverse != "none" and "real" in spec.supports
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_like(module: nn.Module, seed: int = 1) -> list[Tensor]:
    generator = seeded(seed)
    return [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in module.parameters()]


@contextmanager
def shifted(module: nn.Module, directions: list[Tensor], step: float) -> Iterator[None]:
    """Within, the parameters are moved by so many steps along the directions."""
    kept = [parameter.detach().clone() for parameter in module.parameters()]
    with torch.no_grad():
        for parameter, direction in zip(module.parameters(), directions, strict=True):
            parameter += step * direction
    yield
    with torch.no_grad():
        for parameter, before in zip(module.parameters(), kept, strict=True):
            parameter.copy_(before)


def perturb(module: nn.Module, spread: float) -> None:
    with torch.no_grad():
        for parameter, noise in zip(module.parameters(), random_like(module), strict=True):
            parameter += spread * noise


def directional(value: Tensor, module: nn.Module, directions: list[Tensor]) -> float:
    """The derivative of a value along directions in the space of the parameters."""
    slopes = torch.autograd.grad(value, list(module.parameters()), materialize_grads=True)
    return sum((g * v).sum().item() for g, v in zip(slopes, directions, strict=True))


def model_of(flow: Transform, base: Base, features: int, context: int = 0) -> HybridModel:
    model = HybridModel(
        Event.real(features, context),
        Standardize(features),
        flow,
        base,
        None,
        step=torch.zeros(features),
        lattice=torch.zeros(features, dtype=torch.bool),
        origin=torch.zeros(features),
    )
    model.network_to(torch.float64)
    return model


# Bases


def test_degrees_of_freedom_move_the_mean_of_a_bounded_function() -> None:
    """The derivative of E[1 / (1 + t^2)] against a difference of quadratures."""
    base = StudentT(1).double()
    rows = base.rsample(200_000, generator=seeded())
    raw = base.degrees.raw
    (drawn,) = torch.autograd.grad((1 / (1 + rows.square())).mean(), raw)
    (stretch,) = torch.autograd.grad(base.df().sum(), raw)

    def expectation(df: float) -> float:
        u = (np.arange(100_000) + 0.5) / 100_000
        return float(np.mean(1 / (1 + special.stdtrit(df, u) ** 2)))

    df = base.df().item()
    truth = (expectation(df + 0.01) - expectation(df - 0.01)) / 0.02
    assert (drawn / stretch).item() == pytest.approx(truth, rel=0.05)


def conditional_quantiles(base: Mixture, u: np.ndarray) -> np.ndarray:
    """The rows at which the conditional distribution functions of a mixture are u, by bisection."""
    with torch.no_grad():
        weights = torch.softmax(base.logits, 0).numpy()
        stds = 1e-3 + np.log1p(np.exp(base.raw.numpy()))
        means = base.means.numpy()
    rows = np.empty_like(u)
    for n in range(len(u)):
        posterior = weights
        for j in range(u.shape[1]):

            def excess(z: float, w=posterior, j=j, n=n) -> float:
                return float(w @ stats.norm.cdf(z, means[:, j], stds[:, j]) - u[n, j])

            rows[n, j] = optimize.brentq(excess, -50, 50, xtol=1e-14, rtol=1e-14)
            posterior = posterior * stats.norm.pdf(rows[n, j], means[:, j], stds[:, j])
            posterior = posterior / posterior.sum()
    return rows


def test_rows_of_a_mixture_move_along_their_conditional_quantiles() -> None:
    """What the gradients say against rows found anew under moved parameters."""
    base = Mixture(3, components=4).double()
    perturb(base, 0.7)
    rows = base.rsample(6, generator=seeded())
    u = np.empty((6, 3))
    with torch.no_grad():
        signed = base._uniforms(rows)[0]
        u[:] = torch.where(signed < 0, 1 + signed, signed).numpy()
    np.testing.assert_allclose(conditional_quantiles(base, u), rows.detach(), atol=1e-9)

    weight = torch.randn(6, 3, generator=seeded(2), dtype=torch.float64)
    directions = random_like(base)
    slope = directional((rows * weight).sum(), base, directions)
    moved = []
    for step in (1e-5, -1e-5):
        with shifted(base, directions, step):
            moved.append(float((conditional_quantiles(base, u) * weight.numpy()).sum()))
    assert slope == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("power", [1, 2])
def test_the_moments_of_a_mixture_have_the_gradients_of_their_formulas(power: int) -> None:
    base = Mixture(2, components=3).double()
    perturb(base, 0.5)
    rows = base.rsample(100_000, generator=seeded())
    logs, stds = base._components()
    moments = base.means if power == 1 else base.means.square() + stds.square()
    truth = (logs.exp()[:, None] * moments).sum()
    parameters = list(base.parameters())
    drawn = torch.autograd.grad(rows.pow(power).sum(1).mean(), parameters)
    expected = torch.autograd.grad(truth, parameters, materialize_grads=True)
    for ours, known in zip(drawn, expected, strict=True):
        torch.testing.assert_close(ours, known, atol=0.05, rtol=0.05)


BASES = {"normal": Normal, "student-t": StudentT, "mixture": lambda d: Mixture(d, components=3)}


@pytest.mark.parametrize("name", BASES)
@pytest.mark.parametrize("features", [0, 1, 3])
def test_rows_are_those_of_sample(name: str, features: int) -> None:
    base = BASES[name](features).double()
    rows = base.rsample(50, None, seeded())
    assert torch.equal(rows, base.sample(50, None, seeded()))
    assert rows.requires_grad == any(True for _ in base.parameters())
    assert not base.sample(50, None, seeded()).requires_grad
    assert base.rsample(0, None, seeded()).shape == (0, features)


def test_a_base_without_gradients_says_so() -> None:
    class Lattice(Base):
        def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
            return torch.zeros(len(z))

        def sample(self, n, context=None, generator=None) -> Tensor:
            return torch.zeros(n, 1)

    with pytest.raises(ConfigError, match="base Lattice: has no draws with gradients"):
        Lattice().rsample(3)


# Flows


@pytest.mark.parametrize("spec", FLOWS.values(), ids=FLOWS)
@pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
def test_the_pathwise_gradient_is_that_of_finite_differences(spec: FlowSpec, width: int) -> None:
    """Of a smooth function of samples, at common random numbers."""
    torch.manual_seed(0)
    flow = spec.build(Event.real(3, width), spec.config()).double()
    rows = torch.randn(200, 3, dtype=torch.float64)
    contexts = torch.randn(200, width, dtype=torch.float64) if width else None
    flow.initialize(rows, contexts)
    perturb(flow, 0.05)
    model = model_of(flow, StudentT(3), 3, width)
    context = torch.randn(20, width, dtype=torch.float64) if width else None

    def value(shift: float = 0.0) -> Tensor:
        given = None if context is None else context + shift
        x = model.rsample(20, given, seeded())
        return torch.sin(x).sum() + (x[:, 0] * torch.tanh(x[:, 1])).sum()

    directions = random_like(model)
    slope = directional(value(), model, directions)
    moved = []
    for step in (1e-5, -1e-5):
        with shifted(model, directions, step), torch.no_grad():
            moved.append(value().item())
    assert slope == pytest.approx((moved[0] - moved[1]) / 2e-5, rel=1e-4, abs=1e-5)
    if context is not None:
        given = context
        context = context.clone().requires_grad_()
        (by_context,) = torch.autograd.grad(value(), context)
        context = given
        with torch.no_grad():
            difference = (value(1e-5) - value(-1e-5)).item() / 2e-5
        assert by_context.sum().item() == pytest.approx(difference, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    "base", [Normal(2), StudentT(2, df=5.0), Mixture(2)], ids=["normal", "student-t", "mixture"]
)
def test_scales_and_shifts_of_an_affine_flow(base: Base) -> None:
    """For x = exp(-s) (z - b), E[x] and E[x^2] follow from the moments of the drawn z."""
    flow = Affine(2)
    perturb(flow, 0.4)
    model = model_of(flow, base, 2)
    z = model.base.sample(1000, None, seeded())
    x = model.rsample(1000, None, seeded())
    parameters = list(flow.parameters())
    for power in (1, 2):
        drawn = torch.autograd.grad(x.pow(power).mean(), parameters, retain_graph=True)
        truth = flow.inverse(z)[0].pow(power).mean()
        expected = torch.autograd.grad(truth, parameters)
        torch.testing.assert_close(drawn, expected)


# The whole model


def test_the_whole_model_learns_from_its_samples() -> None:
    """Moving the mean of the samples to a target by gradients through them."""
    spec = FLOWS["iaf"]
    torch.manual_seed(0)
    model = model_of(spec.build(Event.real(2), spec.config(layers=2)), Normal(2), 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    generator = seeded()
    for _ in range(60):
        optimizer.zero_grad()
        x = model.rsample(256, None, generator)
        (x - torch.tensor([1.0, -0.5])).square().sum(1).mean().backward()
        optimizer.step()
    x = model.sample(2000, None, seeded(1))
    torch.testing.assert_close(x.mean(0), torch.tensor([1.0, -0.5]).double(), atol=0.1, rtol=0)
    assert x.std(0).max().item() < 0.5


def test_rows_of_a_model_are_those_of_sample() -> None:
    model = model_of(Identity(), Normal(3), 3)
    assert torch.equal(model.rsample(7, None, seeded()), model.sample(7, None, seeded()))
