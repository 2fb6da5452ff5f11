"""The generalized linear head, its bases, and the registry entries."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from hybridflow.densities import Normal
from hybridflow.errors import ConfigError, InputError
from hybridflow.heads import GaussianHead, MixtureHead, hybridflow_heads
from hybridflow.laws import PoissonLaw
from hybridflow.likelihoods import (
    Gaussian,
    GeneralizedLinear,
    HiddenBasis,
    LinearBasis,
    Poisson,
    TargetBatch,
)
from hybridflow.specs import Event, HeadSpec, Target

EVERY = {spec.name: spec for spec in hybridflow_heads()}
SPECS = {name: spec for name, spec in EVERY.items() if spec.requires_base is None}
TARGETS = {
    "classification": Target(kind="classification", classes=("a", "b", "c")),
    "regression": Target(kind="regression", location=(3.0,), scale=(2.0,)),
}
WIDTHS = [(0, 0), (2, 0), (0, 3), (4, 2)]


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> HeadSpec:
    return SPECS[request.param]


def build(spec: HeadSpec, features: int = 4, context: int = 0, **settings: object):
    event, target = Event.real(features, context), TARGETS[spec.tasks[0]]
    torch.manual_seed(0)
    return spec.build(event, target, Normal(features), spec.config(**settings)).double()


def rows(n: int, features: int, context: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(n, features, generator=generator, dtype=torch.float64)
    c = torch.randn(n, context, generator=generator, dtype=torch.float64)
    return z, c if context else None


def targets(n: int) -> TargetBatch:
    values = torch.arange(n, dtype=torch.float64)[:, None] % 3
    return TargetBatch(values, torch.ones(n, 1, dtype=torch.bool))


def test_names_and_tasks() -> None:
    assert sorted(SPECS) == ["categorical", "gaussian", "mixture", "poisson", "student-t"]
    assert sorted(EVERY) == ["bayes", *sorted(SPECS)]
    assert [n for n, s in EVERY.items() if "classification" in s.tasks] == ["bayes", "categorical"]
    assert all(s.reference and s.summary for s in EVERY.values())


def test_settings_that_every_head_shares(spec: HeadSpec) -> None:
    assert {"basis", "hidden_units"} <= set(spec.config.space())
    assert spec.config.from_json(spec.config().model_dump(mode="json")) == spec.config()
    for bad in ({"hidden_units": 0}, {"basis": "cosine"}, {"units": 3}):
        with pytest.raises(ConfigError):
            spec.config(**bad)


@pytest.mark.parametrize(("features", "context"), WIDTHS)
@pytest.mark.parametrize("basis", ["identity", "hidden"])
def test_a_head_starts_from_the_model_without_features(
    spec: HeadSpec, basis: str, features: int, context: int
) -> None:
    head = build(spec, features, context, basis=basis, hidden_units=8)
    z, c = rows(30, features, context)
    head.initialize(z, c, targets(30), torch.ones(30))
    eta = head(z, c)
    start = head.likelihood.start(targets(30), torch.ones(30))
    assert_allclose(eta.detach(), start.expand_as(eta), rtol=1e-12)
    nll = head.nll(eta, targets(30))
    assert nll.shape == (30,)
    assert_allclose(-head.law(eta).log_prob(targets(30).values[:, 0].numpy()), nll.detach())
    nll.sum().backward()
    if features + context:
        assert torch.isfinite(head.weight.grad).all()
        assert (head.weight.grad != 0).any()


@pytest.mark.parametrize("basis", ["identity", "hidden"])
def test_rows_do_not_influence_each_other(spec: HeadSpec, basis: str) -> None:
    head = build(spec, 4, 2, basis=basis)
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(1))
    z, c = rows(9, 4, 2)
    alone = torch.cat([head(z[i : i + 1], c[i : i + 1]) for i in range(9)])
    assert_allclose(head(z, c).detach(), alone.detach(), rtol=1e-12)


@pytest.mark.parametrize("size", [1e8, -1e30])
def test_extreme_latents_stay_finite(spec: HeadSpec, size: float) -> None:
    head = build(spec).float()
    torch.nn.init.normal_(head.weight, std=0.1, generator=torch.Generator().manual_seed(1))
    z = torch.full((3, 4), size, requires_grad=True)
    eta = head(z)
    assert torch.isfinite(eta).all()
    hidden = eta - z @ head.weight[:, :4].T
    phi = head.basis(z)[:, 4:]
    assert phi.abs().max() < 100
    (gradient,) = torch.autograd.grad(hidden.sum(), z)
    assert torch.isfinite(gradient).all()


def test_hidden_basis_is_the_linear_one_beside_a_layer() -> None:
    event = Event.real(3, 2)
    basis = HiddenBasis(event, units=5).double()
    z, c = rows(7, 3, 2)
    phi = basis(z, c).detach().numpy()
    assert_array_equal(phi[:, :5], LinearBasis(event)(z, c))
    inside = np.concatenate([10 * np.tanh(z.numpy() / 10), c.numpy()], 1)
    a = inside @ basis.hidden.weight.detach().numpy().T + basis.hidden.bias.detach().numpy()
    assert_allclose(phi[:, 5:], a / (1 + np.exp(-a)), rtol=1e-12)
    assert basis.features == 10


def test_basis_flattens_images() -> None:
    event = Event(shape=(1, 2, 2), support=Event.real(1).support)
    assert LinearBasis(event)(torch.ones(3, 1, 2, 2)).shape == (3, 4)


def test_initialize_without_targets_changes_nothing(spec: HeadSpec) -> None:
    head = build(spec)
    before = head.bias.detach().clone()
    head.initialize(*rows(5, 4, 0))
    assert_array_equal(head.bias.detach(), before)


def test_weights_of_initialize_equal_repetition(spec: HeadSpec) -> None:
    weighted, repeated = build(spec), build(spec)
    z, _ = rows(6, 4, 0)
    times = torch.tensor([1, 2, 0, 3, 1, 1])
    weighted.initialize(z, None, targets(6), times.double())
    again = torch.repeat_interleave(torch.arange(6), times)
    repeated.initialize(z[again], None, targets(6)[again])
    assert_allclose(weighted.bias.detach(), repeated.bias.detach(), rtol=1e-12, atol=1e-12)


def test_offset_multiplies_the_rate() -> None:
    head = GeneralizedLinear(LinearBasis(Event.real(2)), Poisson(Target(kind="regression")))
    exposure = torch.tensor([1.0, 5.0, 0.25])
    law = head.law(head(torch.zeros(3, 2), None, exposure.log()))
    assert isinstance(law, PoissonLaw)
    assert_allclose(law.rate, exposure, rtol=1e-6)


def test_offset_needs_a_head_for_counts() -> None:
    head = GeneralizedLinear(LinearBasis(Event.real(2)), Gaussian(TARGETS["regression"]))
    with pytest.raises(InputError, match="exposure needs a head for counts, and Gaussian is none"):
        head(torch.zeros(3, 2), None, torch.zeros(3))


def test_check_reaches_the_likelihood() -> None:
    head = build(SPECS["poisson"])
    with pytest.raises(InputError, match="Poisson needs y >= 0; 1 negative values"):
        head.check(TargetBatch(torch.tensor([[-1.0]]), torch.ones(1, 1, dtype=torch.bool)))


def test_settings_reach_the_likelihood() -> None:
    event, target, base = Event.real(1), TARGETS["regression"], Normal(1)
    one = SPECS["gaussian"].build(event, target, base, GaussianHead(spread="one"))
    assert one.likelihood.outputs == 1
    five = SPECS["mixture"].build(event, target, base, MixtureHead(components=5, hidden_units=7))
    assert five.likelihood.outputs == 15
    assert five.basis.features == 8


def test_a_linear_head_learns_a_regression_and_a_hidden_one_a_bend() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400, 1, generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(400, generator=generator, dtype=torch.float64)
    losses = {}
    for name, line in (("identity", 2 * z[:, 0]), ("hidden", z[:, 0].abs())):
        y = TargetBatch((3 + 2 * (line + noise))[:, None], torch.ones(400, 1, dtype=torch.bool))
        for basis in ("identity", "hidden"):
            head = build(SPECS["gaussian"], 1, basis=basis, hidden_units=32)
            head.initialize(z, None, y)
            optimizer = torch.optim.Adam(head.parameters(), 0.03)
            for _ in range(400):
                optimizer.zero_grad()
                loss = head.nll(head(z), y).mean()
                loss.backward()
                optimizer.step()
            losses[name, basis] = loss.item()
    noise_entropy = np.log(0.2) + 0.5 * np.log(2 * np.pi * np.e)
    assert losses["identity", "identity"] < noise_entropy + 0.1
    assert losses["hidden", "hidden"] < noise_entropy + 0.2
    assert losses["hidden", "identity"] > noise_entropy + 0.7


def test_listing_imports_no_heavy_library() -> None:
    code = (
        "import sys, hybridflow.heads, hybridflow.bases\n"
        "hybridflow.heads.hybridflow_heads(), hybridflow.bases.hybridflow_bases()\n"
        "print([m for m in ('torch', 'scipy', 'numpy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
