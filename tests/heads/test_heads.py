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
    Bernoulli,
    Gaussian,
    GeneralizedLinear,
    Head,
    HiddenBasis,
    LinearBasis,
    Poisson,
    TargetBatch,
)
from hybridflow.likelihoods.basis import Dropout
from hybridflow.likelihoods.links import Probit
from hybridflow.specs import Event, HeadSpec, Target

EVERY = {spec.name: spec for spec in hybridflow_heads()}
SPECS = {
    name: spec
    for name, spec in EVERY.items()
    if spec.requires_base is None and "multi-label" not in spec.tasks
}
REGRESSION = Target(kind="regression", location=(3.0,), scale=(2.0,))
CLASSIFIERS = ["bayes", "bernoulli", "categorical", "ordinal"]
REGRESSORS = [
    *("beta", "gamma", "gaussian", "mixture", "negative-binomial", "poisson"),
    *("student-t", "zero-inflated"),
]
WIDTHS = [(0, 0), (2, 0), (0, 3), (4, 2)]


@pytest.fixture(params=SPECS)
def spec(request: pytest.FixtureRequest) -> HeadSpec:
    return SPECS[request.param]


def build(spec: HeadSpec, features: int = 4, context: int = 0, **settings: object):
    event, target = Event.real(features, context), target_of(spec)
    torch.manual_seed(0)
    return spec.build(event, target, Normal(features), spec.config(**settings)).double()


def target_of(spec: HeadSpec) -> Target:
    if "regression" in spec.tasks:
        return REGRESSION
    return Target(kind="classification", classes=("a", "b", "c")[: spec.max_classes])


def rows(n: int, features: int, context: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(n, features, generator=generator, dtype=torch.float64)
    c = torch.randn(n, context, generator=generator, dtype=torch.float64)
    return z, c if context else None


def targets(head: Head, n: int) -> TargetBatch:
    """Return 0, 1 and 2 in turn, or what the head takes in their place."""
    values = torch.arange(n, dtype=torch.float64)[:, None] % 3
    observed = torch.ones(n, 1, dtype=torch.bool)
    if isinstance(head.likelihood, Bernoulli):
        return TargetBatch(values.clamp(max=1), observed)
    for candidate in (values, values + 1, (values + 1) / 4):
        try:
            head.check(TargetBatch(candidate, observed))
        except InputError:
            continue
        return TargetBatch(candidate, observed)
    raise AssertionError("the head takes neither counts, positive numbers nor shares")


def test_names_and_tasks() -> None:
    for task, names in (("classification", CLASSIFIERS), ("regression", REGRESSORS)):
        assert set(names) <= {name for name, spec in EVERY.items() if task in spec.tasks}
    assert EVERY["bayes"].requires_base == "class-conditional"
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
    y = targets(head, 30)
    head.initialize(z, c, y, torch.ones(30))
    eta = head(z, c)
    start = head.likelihood.start(y, torch.ones(30))
    assert_allclose(eta.detach(), start.expand_as(eta), rtol=1e-12)
    nll = head.nll(eta, y)
    assert nll.shape == (30,)
    assert_allclose(-head.law(eta).log_prob(y.values[:, 0].numpy()), nll.detach())
    nll.sum().backward()
    if features + context:
        assert torch.isfinite(head.weight.grad).all()
        assert (head.weight.grad != 0).any()


@pytest.mark.parametrize("basis", ["identity", "hidden"])
def test_rows_do_not_influence_each_other(spec: HeadSpec, basis: str) -> None:
    head = build(spec, 4, 2, basis=basis).eval()
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


@pytest.mark.parametrize("layers", [1, 2])
def test_hidden_basis_is_the_linear_one_beside_layers(layers: int) -> None:
    event = Event.real(3, 2)
    basis = HiddenBasis(event, units=5, layers=layers, dropout=0.5).double().eval()
    z, c = rows(7, 3, 2)
    phi = basis(z, c).detach().numpy()
    assert_array_equal(phi[:, :5], LinearBasis(event)(z, c))
    h = np.concatenate([10 * np.tanh(z.numpy() / 10), c.numpy()], 1)
    for layer in basis.hidden:
        a = h @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        h = a / (1 + np.exp(-a))
    assert_allclose(phi[:, 5:], h, rtol=1e-12)
    assert basis.features == 10


def test_dropout_leaves_out_its_share_in_training_alone() -> None:
    dropout = Dropout(0.25)
    x = torch.ones(400, 100)
    assert dropout.eval()(x) is x
    state = torch.get_rng_state()
    first, second = dropout.train()(x), dropout(x)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, second)
    assert sorted(first.unique().tolist()) == [0.0, pytest.approx(4 / 3)]
    assert float((first == 0).double().mean()) == pytest.approx(0.25, abs=4 * 0.0022)
    again = Dropout(0.25)
    again.load_state_dict(dropout.state_dict())
    assert torch.equal(again(x), dropout(x))  # it goes on as if not stopped


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
    y = targets(weighted, 6)
    weighted.initialize(z, None, y, times.double())
    again = torch.repeat_interleave(torch.arange(6), times)
    repeated.initialize(z[again], None, y[again])
    for one, other in zip(weighted.parameters(), repeated.parameters(), strict=True):
        assert_allclose(one.detach(), other.detach(), rtol=1e-12, atol=1e-12)


def test_offset_multiplies_the_rate() -> None:
    head = GeneralizedLinear(LinearBasis(Event.real(2)), Poisson(Target(kind="regression")))
    exposure = torch.tensor([1.0, 5.0, 0.25])
    law = head.law(head(torch.zeros(3, 2), None, exposure.log()))
    assert isinstance(law, PoissonLaw)
    assert_allclose(law.rate, exposure, rtol=1e-6)


@pytest.mark.parametrize("name", ["poisson", "negative-binomial", "zero-inflated"])
def test_offset_goes_to_the_rate_alone(name: str) -> None:
    head = build(SPECS[name], 2)
    z, _ = rows(3, 2, 0)
    exposure = torch.tensor([1.0, 5.0, 0.25], dtype=torch.float64)
    moved = (head(z, None, exposure.log()) - head(z)).detach()
    assert_allclose(moved[:, 0], exposure.log(), atol=1e-14)
    assert_array_equal(moved[:, 1:], 0.0)
    assert SPECS[name].config(exposure="days").exposure == "days"


def test_offset_of_several_counts_goes_to_the_rate_of_each() -> None:
    two = Target(kind="regression", names=("a", "b"), location=(1, 1), scale=(1, 1))
    spec = SPECS["negative-binomial"]
    head = spec.build(Event.real(0), two, Normal(0), spec.config())
    moved = head(torch.zeros(1, 0), None, torch.full((1,), 0.7)).detach()
    assert_allclose(moved, [[0.7, 0.0, 0.7, 0.0]], rtol=1e-6)


def test_offset_needs_a_head_for_counts() -> None:
    head = GeneralizedLinear(LinearBasis(Event.real(2)), Gaussian(REGRESSION))
    with pytest.raises(InputError, match="exposure needs a head for counts, and Gaussian is none"):
        head(torch.zeros(3, 2), None, torch.zeros(3))


def test_check_reaches_the_likelihood() -> None:
    head = build(SPECS["poisson"])
    with pytest.raises(InputError, match="Poisson needs y >= 0; 1 negative values"):
        head.check(TargetBatch(torch.tensor([[-1.0]]), torch.ones(1, 1, dtype=torch.bool)))


def test_settings_reach_the_likelihood() -> None:
    event, target, base = Event.real(1), REGRESSION, Normal(1)
    one = SPECS["gaussian"].build(event, target, base, GaussianHead(spread="one"))
    assert one.likelihood.outputs == 1
    five = SPECS["mixture"].build(event, target, base, MixtureHead(components=5, hidden_units=7))
    assert five.likelihood.outputs == 15
    assert five.basis.features == 8
    negative, shares = SPECS["negative-binomial"], SPECS["beta"]
    for spec, setting in ((negative, {"dispersion": "one"}), (shares, {"precision": "one"})):
        assert build(spec).likelihood.outputs == 2
        assert build(spec, **setting).likelihood.outputs == 1
    probit = build(SPECS["bernoulli"], link="probit")
    assert isinstance(probit.likelihood.link, Probit)


def test_links_are_chosen_from_a_list() -> None:
    for name in ("bernoulli", "ordinal", "gamma"):
        with pytest.raises(ConfigError, match="link"):
            SPECS[name].config(link="cauchit")


def test_a_bernoulli_head_needs_two_classes() -> None:
    three = Target(kind="classification", classes=("a", "b", "c"))
    with pytest.raises(ConfigError, match=r"needs two classes, got \['a', 'b', 'c'\].*categoric"):
        SPECS["bernoulli"].build(Event.real(1), three, Normal(1), SPECS["bernoulli"].config())


def test_a_linear_head_learns_a_regression_and_a_hidden_one_a_bend() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400, 1, generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(400, generator=generator, dtype=torch.float64)
    losses = {}
    for name, line in (("identity", 2 * z[:, 0]), ("hidden", z[:, 0].abs())):
        y = TargetBatch((3 + 2 * (line + noise))[:, None], torch.ones(400, 1, dtype=torch.bool))
        for basis in ("identity", "hidden"):
            head = build(SPECS["gaussian"], 1, basis=basis, hidden_units=32, dropout=0.0)
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
