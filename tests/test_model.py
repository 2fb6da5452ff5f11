"""The hybrid model: densities against autograd and quadrature, masses, lattices, contract."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

import hybridflow.model
from hybridflow import (
    Config,
    FlowDensity,
    FlowSpec,
    HybridClassifier,
    HybridRegressor,
    Registry,
    TrainingConfig,
    hookimpl,
)
from hybridflow.contract import check_contract
from hybridflow.densities import Normal
from hybridflow.draws import quasi_random
from hybridflow.errors import ConstantFeatureWarning, PluginContractError
from hybridflow.model import HybridModel
from hybridflow.registry import default_registry
from hybridflow.specs import Event
from hybridflow.transforms import Compose, Gaussianize, Identity, Standardize, Transform

FLOWS = ["spline-coupling", "realnvp", "maf", "spline-autoregressive"]
BRIEF = TrainingConfig(steps=60)


def doubles(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def plain(step: Tensor, lattice: Tensor, origin: Tensor, draws: int = 32) -> HybridModel:
    """Return a model whose flow does nothing: standard normal columns."""
    d = len(step)
    return HybridModel(
        Event.real(d),
        Identity(),
        Identity(),
        Normal(d).double(),
        None,
        step=step,
        lattice=lattice,
        origin=origin,
        draws=draws,
    )


def moons(rows: int = 400, features: int = 2) -> np.ndarray:
    """Return rows on a bent, noisy line, on different scales."""
    rng = np.random.default_rng(0)
    t = rng.normal(size=rows)
    x = np.column_stack([t, 0.5 * t**2 + 0.4 * rng.normal(size=rows)])
    return (x * [3.0, 0.2] + [10.0, -1.0])[:, :features]


@pytest.fixture(scope="module")
def trained() -> FlowDensity:
    return FlowDensity(training=BRIEF, random_state=0).fit(moons())


@pytest.mark.parametrize("flow", FLOWS)
def test_log_density_is_the_base_plus_the_autograd_jacobian(flow):
    torch.manual_seed(0)
    spec, config = default_registry().resolve("flow", flow)
    event = Event.real(2)
    model = HybridModel(
        event,
        Compose([Standardize(2), Gaussianize(2)]),
        spec.build(event, config),
        Normal(2),
        None,
        step=doubles(0, 0),
        lattice=torch.tensor([False, False]),
        origin=doubles(0, 0),
    )
    model.network_to(torch.float64)
    x = torch.as_tensor(moons(40))
    model.preprocess.initialize(x, weight=torch.ones(len(x), dtype=torch.float64))
    for parameter in model.flow.parameters():  # away from the identity
        parameter.data += 0.3 * torch.randn_like(parameter)

    def flat(row: Tensor) -> Tensor:
        return model.latent(row[None])[0][0]

    jacobians = torch.stack([torch.autograd.functional.jacobian(flat, row) for row in x])
    z = torch.stack([flat(row) for row in x])
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    expected = expected + torch.linalg.slogdet(jacobians).logabsdet
    assert expected.std() > 0.1
    torch.testing.assert_close(model.log_density(x), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.data(model.latent(x)[0]), x, rtol=1e-7, atol=1e-7)


def test_a_trained_density_integrates_to_one_in_one_dimension():
    model = FlowDensity(training=BRIEF, random_state=0).fit(moons(features=1))
    grid = np.linspace(-50, 70, 200_001)
    mass = np.trapezoid(np.exp(model.score_samples(grid[:, None])), grid)
    assert mass == pytest.approx(1, abs=1e-4)


def test_a_trained_density_integrates_to_one_in_two_dimensions(trained):
    a, b = np.linspace(-30, 50, 601), np.linspace(-3.5, 3.5, 601)
    rows = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(trained.score_samples(rows)).reshape(len(a), len(b))
    mass = np.trapezoid(np.trapezoid(density, b, axis=1), a)
    assert mass == pytest.approx(1, abs=2e-3)


def test_masses_of_a_tied_column_are_those_of_the_normal_law():
    model = plain(doubles(0.5), torch.tensor([True]), doubles(0.25), draws=4096)
    levels = doubles(*np.arange(-20, 21)) * 0.5 + 0.25
    normal = torch.distributions.Normal(0.0, 1.0)
    exact = normal.cdf(levels + 0.25) - normal.cdf(levels - 0.25)
    found = model.log_score(levels[:, None]).exp()
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-5)
    assert float(found.sum()) == pytest.approx(1, abs=1e-4)


def test_the_score_bounds_the_mass_from_below_in_the_mean():
    """By Jensen: log of a mean of few draws lies below the log of the mass on average."""
    # One draw per model, each elsewhere, in place of the fixed first points of one sequence.
    level, scores = doubles(1.0)[:, None], []
    for uniform in torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64):
        model = plain(doubles(1.0), torch.tensor([True]), doubles(0.0), draws=1)
        model.noise.fill_(uniform)
        scores.append(float(model.log_score(level)))
    normal = torch.distributions.Normal(0.0, 1.0)
    mass = float(normal.cdf(torch.tensor(1.5)) - normal.cdf(torch.tensor(0.5)))
    assert np.exp(scores).mean() == pytest.approx(mass, abs=1e-5)
    assert np.mean(scores) < math.log(mass) - 0.01


def test_masses_of_five_levels_sum_to_one():
    rng = np.random.default_rng(0)
    X = np.column_stack(
        [rng.normal(size=600), rng.choice(5, size=600, p=[0.1, 0.2, 0.4, 0.2, 0.1])]
    )
    model = FlowDensity(training=BRIEF, random_state=0).fit(X)
    assert [column.lattice for column in model.schema_.columns] == [False, True]
    # Levels without a row have a mass too, a small one; the other column is integrated.
    a, levels = np.linspace(-12, 12, 501), np.arange(-3, 8)
    rows = np.stack(np.meshgrid(a, levels, indexing="ij"), axis=-1).reshape(-1, 2)
    masses = np.trapezoid(np.exp(model.score_samples(rows)).reshape(len(a), -1), a, axis=0)
    assert masses.sum() == pytest.approx(1, abs=0.02)
    assert masses[3:8].sum() > 0.95
    np.testing.assert_allclose(masses[3:8], [0.1, 0.2, 0.4, 0.2, 0.1], atol=0.08)


def test_parts_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    X = np.column_stack([moons(200), rng.integers(0, 4, 200)])
    labels = (X[:, 0] > 10).astype(int)
    model = HybridClassifier(training=BRIEF, random_state=0).fit(X, labels).models_[0]
    assert model.noised
    x = torch.as_tensor(X)

    def answers() -> list[Tensor]:
        z, _ = model.latent(x)
        with torch.no_grad():
            return [model.log_score(x), model.eta(x), model.data(z)]

    with torch.no_grad():
        whole = answers()
        counts = []
        for cells in (1, 2000):
            monkeypatch.setattr(hybridflow.model, "_CELLS", cells)
            counts.append(len(list(model._parts(x))))
            for part, expected in zip(answers(), whole, strict=True):
                torch.testing.assert_close(part, expected, rtol=1e-10, atol=1e-10)
    assert counts == [200, 29]


def test_the_offset_goes_with_its_rows(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 2))
    counts = rng.poisson(3.0, 120)
    regressor = HybridRegressor(head="poisson", training=BRIEF, random_state=0).fit(X, counts)
    model = regressor.models_[0]
    x, offset = torch.as_tensor(X), torch.as_tensor(rng.normal(size=120))
    with torch.no_grad():
        shift = (model.eta(x, offset=offset) - model.eta(x))[:, 0]
        torch.testing.assert_close(shift, offset, rtol=1e-9, atol=1e-9)
        monkeypatch.setattr(hybridflow.model, "_CELLS", 100)
        shift = (model.eta(x, offset=offset) - model.eta(x))[:, 0]
    torch.testing.assert_close(shift, offset, rtol=1e-9, atol=1e-9)


def test_eta_of_a_density_is_an_error():
    model = plain(doubles(0.0), torch.tensor([False]), doubles(0.0))
    with pytest.raises(TypeError, match="no head"):
        model.eta(torch.zeros(2, 1, dtype=torch.float64))


LATTICES = {
    "tenths": (0.1, 0.1, 1),
    "quarters": (0.25, -0.5, 2),
    "thousandths": (0.001, 5.1, 3),
    "beside-a-large-number": (0.1, 1e6, 1),
    "tiny": (2e-9, 1e-9, 9),
    "wholes": (1.0, 3.0, 0),
    "fives": (5.0, -7.0, 0),
    "large": (16.0, 1e15, 0),
}


@pytest.mark.parametrize(("step", "origin", "digits"), LATTICES.values(), ids=LATTICES)
def test_samples_are_the_decimals_of_their_lattice(step, origin, digits):
    model = plain(doubles(step, 0.0), torch.tensor([True, False]), doubles(origin, 0.0))
    model.preprocess = Shift(-origin, 1 / (20 * step))  # so that twenty steps are a deviation
    generator = torch.Generator().manual_seed(0)
    drawn = model.sample(500, generator=generator)[:, 0].tolist()
    assert len(set(drawn)) > 40
    assert all(float(f"{value:.{digits}f}") == value for value in drawn)
    counts = (np.array(drawn) - origin) / step
    assert np.abs(counts - np.rint(counts)).max() < 1e-3
    assert not any(value == 0 and math.copysign(1, value) < 0 for value in drawn)


def test_a_lattice_of_thirds_keeps_its_values():
    model = plain(doubles(1 / 3), torch.tensor([True]), doubles(1 / 7))
    drawn = model.sample(200, generator=torch.Generator().manual_seed(0))
    counts = torch.round((drawn - 1 / 7) * 3)
    assert torch.equal(drawn, 1 / 7 + (1 / 3) * counts)
    assert len(set(counts.flatten().tolist())) > 5


def test_columns_that_are_no_lattice_are_not_rounded():
    model = plain(doubles(0.1, 0.1), torch.tensor([False, True]), doubles(0.0, 0.0))
    drawn = model.sample(100, generator=torch.Generator().manual_seed(0))
    expected = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(drawn[:, 0], expected[:, 0])
    assert (drawn[:, 1] - expected[:, 1]).abs().max() <= 0.05 + 1e-12


def test_without_columns_the_density_is_one():
    model = plain(doubles(), torch.empty(0, dtype=torch.bool), doubles())
    x = torch.empty(5, 0, dtype=torch.float64)
    assert torch.equal(model.log_density(x), torch.zeros(5, dtype=torch.float64))
    assert torch.equal(model.log_score(x), torch.zeros(5, dtype=torch.float64))
    assert model.latent(x)[0].shape == model.data(x).shape == model.sample(5).shape == (5, 0)


def test_a_table_of_constants_has_a_model_without_columns():
    X = np.column_stack([np.full(150, 2.0), np.full(150, -1.0)])
    labels = np.arange(150) % 3 == 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = HybridClassifier(training=BRIEF, random_state=0).fit(X, labels)
    assert ConstantFeatureWarning in [warning.category for warning in caught]
    assert model.models_[0].event.features == 0
    np.testing.assert_allclose(model.score_samples(X[:4]), np.zeros(4), atol=1e-15)
    np.testing.assert_allclose(model.predict_proba(X[:1])[0], [2 / 3, 1 / 3], atol=0.03)
    rows, _ = model.sample(4, random_state=0)
    assert np.array_equal(rows, X[:4])


def test_noise_has_no_limit_of_columns():
    limit = torch.quasirandom.SobolEngine.MAXDIM
    model = plain(
        torch.ones(limit + 3),
        torch.ones(limit + 3, dtype=torch.bool),
        torch.zeros(limit + 3),
        draws=8,
    )
    noise, again = model.noise, quasi_random(8, limit + 3)
    assert noise.shape == (8, limit + 3)
    assert torch.equal(noise, again)
    assert ((noise >= 0) & (noise < 1)).all()
    assert noise[:, limit:].unique().numel() == 24
    assert torch.equal(quasi_random(8, limit), noise[:, :limit])


class Shift(Transform):
    """``z = (x + shift) * scale``."""

    def __init__(self, shift: float, scale: float = 1.0) -> None:
        super().__init__()
        self.shift, self.scale = shift, scale

    def forward(self, x, context=None):
        return (x + self.shift) * self.scale, x.new_full((len(x),), math.log(self.scale))

    def inverse(self, z, context=None):
        return z / self.scale - self.shift, z.new_full((len(z),), -math.log(self.scale))


class Wrapped(Shift):
    """A shift with another result, in one direction."""

    def __init__(self, change, direction: str = "forward") -> None:
        super().__init__(1.0)
        self.change, self.direction = change, direction

    def forward(self, x, context=None):
        result = super().forward(x, context)
        return self.change(x, *result) if self.direction == "forward" else result

    def inverse(self, z, context=None):
        result = super().inverse(z, context)
        return self.change(z, *result) if self.direction == "inverse" else result


def _mutates(x: Tensor, z: Tensor, ladj: Tensor) -> tuple[Tensor, Tensor]:
    x += 1
    return z, ladj


BROKEN = {
    "rows-only": (lambda x, z, ladj: z, r"must return \(Tensor, ladj\), returned Tensor"),
    "a-list": (lambda x, z, ladj: [z, ladj], r"must return \(Tensor, ladj\), returned list"),
    "three": (lambda x, z, ladj: (z, ladj, z), r"must return \(Tensor, ladj\), returned tuple"),
    "lost-column": (
        lambda x, z, ladj: (z[:, :1], ladj),
        r"its rows of shape \(5, 2\) and torch.float64 on cpu, got shape \(5, 1\)",
    ),
    "lost-row": (lambda x, z, ladj: (z[1:], ladj), r"its rows of shape \(5, 2\).* got .*\(4, 2\)"),
    "ladj-per-cell": (
        lambda x, z, ladj: (z, torch.zeros_like(z)),
        r"ladj of shape \(5,\) and torch.float64 on cpu, got shape \(5, 2\)",
    ),
    "ladj-summed": (lambda x, z, ladj: (z, ladj.sum()), r"ladj of shape \(5,\).* got shape \(\)"),
    "ladj-a-number": (lambda x, z, ladj: (z, 0.0), r"ladj of shape \(5,\).* got float"),
    "rows-of-numpy": (lambda x, z, ladj: (z.numpy(), ladj), r"its rows .* got ndarray"),
    "float32": (
        lambda x, z, ladj: (z.float(), ladj),
        r"its rows .*torch.float64 on cpu, got .*torch.float32",
    ),
    "ladj-float32": (lambda x, z, ladj: (z, ladj.float()), r"ladj of .* got .*torch.float32"),
    "other-device": (lambda x, z, ladj: (z.to("meta"), ladj), r"on cpu, got .* on meta"),
    "mutation": (_mutates, r"changed its input in place"),
}


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_p09_a_flow_that_breaks_its_contract_is_named(change, message, direction):
    z = torch.zeros(5, 2, dtype=torch.float64)
    flow = Wrapped(change, direction)
    with pytest.raises(PluginContractError, match=f"flow 'mine': {direction} .*{message}"):
        check_contract(flow, Event.real(2), "mine", z)


class OneWay(Shift):
    """A flow whose inverse its spec says is not there."""

    def inverse(self, z, context=None):
        raise NotImplementedError


@pytest.mark.parametrize("flow", [Shift(1.0), OneWay(1.0)], ids=["two-ways", "one-way"])
def test_a_flow_that_keeps_its_contract_passes(flow):
    check_contract(flow, Event.real(2), "mine", torch.zeros(5, 2, dtype=torch.float64))


class NoConfig(Config):
    """A flow without parameters."""


@pytest.mark.parametrize("name", ["rows-only", "three", "ladj-per-cell", "float32", "mutation"])
def test_p09_a_fit_with_such_a_flow_says_so(name):
    change, message = BROKEN[name]

    class Plugin:
        @hookimpl
        def hybridflow_flows(self):
            return [FlowSpec("mine", "Broken", NoConfig, lambda event, config: Wrapped(change))]

    registry = Registry(entry_points=False)
    registry.register(Plugin())
    model = FlowDensity("mine", training=BRIEF, registry=registry)
    with pytest.raises(PluginContractError, match=f"flow 'mine': forward .*{message}"):
        model.fit(moons(150))
