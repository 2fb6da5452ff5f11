"""Every likelihood against the law that it returns, which is numpy and scipy alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special

from hybridflow.errors import ConfigError, InputError, NonIntegerCountWarning
from hybridflow.laws import CategoricalLaw, Discretized, PoissonLaw
from hybridflow.likelihoods import (
    Bernoulli,
    Beta,
    Categorical,
    Gamma,
    Gaussian,
    Likelihood,
    MixtureOfGaussians,
    NegativeBinomial,
    Ordinal,
    Poisson,
    StudentT,
    TargetBatch,
    ZeroInflated,
)
from hybridflow.likelihoods.links import POSITIVE_LINKS, PROBABILITY_LINKS
from hybridflow.specs import Target

UNITS = {
    "standard": Target(kind="regression"),
    "shifted": Target(kind="regression", location=(250.0,), scale=(37.0,)),
    "tiny": Target(kind="regression", location=(1e-7,), scale=(1e-9,)),
    "whole": Target(kind="regression", location=(5.3,), scale=(1.7,), step=1.0),
    "fine-lattice": Target(kind="regression", location=(3932.0,), scale=(3989.0,), step=1.0),
    "coarse-lattice": Target(kind="regression", location=(0.2,), scale=(0.4,), step=1.0),
    "hundredths": Target(kind="regression", location=(22.0,), scale=(10.0,), step=0.01),
}
CONTINUOUS = {
    "gaussian-row": Gaussian,
    "gaussian-one": lambda target: Gaussian(target, per_row=False),
    "student-t": StudentT,
    "mixture-3": MixtureOfGaussians,
    "mixture-1": lambda target: MixtureOfGaussians(target, components=1),
}
DISCRETE = {
    "binary": lambda: Categorical(Target(kind="classification", classes=("no", "yes"))),
    "classes": lambda: Categorical(Target(kind="classification", classes=(0, 1, 7))),
    "poisson": lambda: Poisson(Target(kind="regression", step=1.0)),
}
TWO = Target(kind="classification", classes=("no", "yes"))
FIVE = Target(kind="classification", classes=("a", "b", "c", "d", "e"), order=(2, 0, 4, 1, 3))
COUNT = Target(kind="regression", location=(1.7,), scale=(1.3,), step=1.0)
AMOUNT = Target(kind="regression", location=(20.0,), scale=(15.0,))
ROUNDED = Target(kind="regression", location=(20.0,), scale=(15.0,), step=5.0)
SHARE = Target(kind="regression", location=(0.3,), scale=(0.2,))
LOG, SOFTPLUS = POSITIVE_LINKS["log"], POSITIVE_LINKS["softplus"]
RESTRICTED = {
    **{
        f"{family.__name__.lower()}-{link}": (
            lambda family=family, link=link, target=target: family(target, PROBABILITY_LINKS[link])
        )
        for family, target in ((Bernoulli, TWO), (Ordinal, FIVE))
        for link in PROBABILITY_LINKS
    },
    "ordinal-two": lambda: Ordinal(TWO, PROBABILITY_LINKS["logit"]),
    "negative-binomial-row": lambda: NegativeBinomial(COUNT),
    "negative-binomial-one": lambda: NegativeBinomial(COUNT, per_row=False),
    "zero-inflated-poisson": lambda: ZeroInflated(COUNT, Poisson(COUNT)),
    "zero-inflated-negative-binomial": lambda: ZeroInflated(
        COUNT, NegativeBinomial(COUNT, per_row=False)
    ),
    "gamma-log-row": lambda: Gamma(AMOUNT, LOG),
    "gamma-log-one": lambda: Gamma(AMOUNT, LOG, per_row=False),
    "gamma-softplus-row": lambda: Gamma(AMOUNT, SOFTPLUS),
    "gamma-rounded-row": lambda: Gamma(ROUNDED, LOG),
    "gamma-rounded-one": lambda: Gamma(ROUNDED, SOFTPLUS, per_row=False),
    "beta-row": lambda: Beta(SHARE),
    "beta-one": lambda: Beta(SHARE, per_row=False),
}
"""Families whose targets are not any number: see `targets_for`."""

CASES = {
    **{f"{n}-{u}": (make, UNITS[u]) for n, make in CONTINUOUS.items() for u in UNITS},
    **{
        name: (lambda _, make=make: make(), None)
        for name, make in {**DISCRETE, **RESTRICTED}.items()
    },
}


def build(name: str) -> Likelihood:
    make, target = CASES[name]
    torch.manual_seed(0)
    return make(target).double()


def targets_for(name: str, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    _, target = CASES[name]
    if name in RESTRICTED:
        return restricted_targets(name, n, rng)
    if target is None:
        return rng.integers(0, 2 if name == "binary" else 3, n).astype(float)
    y = target.location[0] + target.scale[0] * 2 * rng.standard_normal(n)
    return np.round(y / target.step) * target.step if target.step else y


def restricted_targets(name: str, n: int, rng: np.random.Generator) -> np.ndarray:
    if name.startswith("beta"):
        return rng.uniform(0.02, 0.98, n)
    if name.startswith("gamma"):
        y = rng.gamma(2.0, 10.0, n)
        return 5 * np.ceil(y / 5) if "rounded" in name else y
    if "binomial" in name or "inflated" in name:
        return rng.negative_binomial(1, 0.3, n) * rng.integers(0, 2, n).astype(float)
    return rng.integers(0, 2 if name.startswith("bernoulli") or "two" in name else 5, n) * 1.0


def batch(y: np.ndarray, observed: np.ndarray | None = None) -> TargetBatch:
    seen = np.ones(len(y), bool) if observed is None else observed
    return TargetBatch(torch.tensor(y)[:, None], torch.tensor(seen)[:, None])


def random_eta(likelihood: Likelihood, n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, likelihood.outputs, generator=generator, dtype=torch.float64) * 1.5


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_nll_is_minus_the_law(name: str) -> None:
    likelihood = build(name)
    y, eta = targets_for(name, 200), random_eta(likelihood, 200)
    nll = likelihood.nll(eta, batch(y)).detach().numpy()
    assert nll.shape == (200,)
    assert_allclose(nll, -likelihood.law(eta).log_prob(y), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("family", CONTINUOUS)
@pytest.mark.parametrize("raw", [-40.0, -4.0, -1.0, 0.0, 3.0], ids=lambda r: f"spread-{r}")
@pytest.mark.parametrize("ratio", [1e-6, 1e-3, 0.02, 0.3, 1.0, 30.0], ids=lambda r: f"step-{r}")
def test_mass_of_a_cell_at_every_scale(family: str, raw: float, ratio: float) -> None:
    target = Target(kind="regression", location=(0.37,), scale=(2.0,), step=2.0 * ratio)
    likelihood = CONTINUOUS[family](target).double()
    points = np.arange(-8, 9) * target.step
    eta = random_eta(likelihood, len(points)) / 3
    spreads = {1: 0, 2: 1, 3: 1, 9: 3}[likelihood.outputs]
    if spreads:
        eta[:, -spreads:] = raw
    nll = likelihood.nll(eta, batch(points)).detach().numpy()
    expected = -likelihood.law(eta).log_prob(points)
    # Near the location to the last digits; the far tails of a spike, which only
    # serve to pull the location over, to a part in a hundred thousand.
    near = expected < 200
    assert_allclose(nll[near], expected[near], rtol=2e-9, atol=2e-9)
    assert_allclose(nll, expected, rtol=1e-3)


def test_law_of_a_lattice_is_discretized() -> None:
    law = build("student-t-whole").law(torch.zeros(2, 2))
    assert isinstance(law, Discretized)
    assert law.lattice == (0.0, 1.0)


def test_gradients_by_finite_differences(name: str) -> None:
    likelihood = build(name)
    y = batch(targets_for(name, 6))
    eta = random_eta(likelihood, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: likelihood.nll(e, y), (eta,), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ["gaussian-one-whole", "student-t-shifted", "student-t-whole"])
def test_shared_parameters_get_the_right_gradient(name: str) -> None:
    likelihood = build(name)
    (parameter,) = likelihood.parameters()
    y, eta = batch(targets_for(name, 50)), random_eta(likelihood, 50)
    (slope,) = torch.autograd.grad(likelihood.nll(eta, y).sum(), parameter)
    values = []
    for h in (-1e-5, 1e-5):
        with torch.no_grad():
            parameter += h
            values.append(likelihood.nll(eta, y).sum())
            parameter -= h
    assert_allclose(slope.item(), (values[1] - values[0]).item() / 2e-5, rtol=1e-6)


@pytest.mark.parametrize("junk", [np.nan, np.inf, -1e300, 1e9], ids=str)
def test_unobserved_cells_never_leak(name: str, junk: float) -> None:
    likelihood = build(name)
    y, observed = targets_for(name, 8), np.arange(8) % 3 != 0
    spoiled = np.where(observed, y, junk)
    results = []
    for values in (y, spoiled):
        eta = random_eta(likelihood, 8).requires_grad_()
        nll = likelihood.nll(eta, batch(values, observed))
        gradients = torch.autograd.grad(nll.sum(), [eta, *likelihood.parameters()])
        assert_array_equal(nll.detach().numpy()[~observed], 0.0)
        assert_array_equal(gradients[0].numpy()[~observed], 0.0)
        start = likelihood.start(batch(values, observed), torch.ones(8, dtype=torch.float64))
        results.append([nll.detach().numpy(), start.numpy(), *(g.numpy() for g in gradients)])
    for clean, dirty in zip(*results, strict=True):
        assert np.isfinite(clean).all()
        assert_array_equal(dirty, clean)


def test_a_broken_eta_of_an_unlabelled_row_does_not_spread(name: str) -> None:
    likelihood = build(name)
    eta = random_eta(likelihood, 4)
    eta[1] = torch.nan
    eta.requires_grad_()
    observed = np.array([True, False, True, True])
    nll = likelihood.nll(eta, batch(targets_for(name, 4), observed))
    (gradient,) = torch.autograd.grad(nll.sum(), eta)
    assert torch.isfinite(nll).all()
    assert torch.isfinite(gradient).all()


def test_start_of_weights_is_start_of_repetitions(name: str) -> None:
    likelihood = build(name)
    y = targets_for(name, 30)
    times = np.random.default_rng(1).integers(0, 4, 30)
    weighted = likelihood.start(batch(y), torch.tensor(times))
    repeated = likelihood.start(batch(np.repeat(y, times)), torch.ones(times.sum()))
    assert weighted.shape == (likelihood.outputs,)
    assert_allclose(weighted, repeated, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("family", CONTINUOUS)
def test_start_has_the_moments_of_the_targets(family: str, unit: str) -> None:
    name = f"{family}-{unit}"
    likelihood, y = build(name), targets_for(name, 500)
    weight = np.random.default_rng(2).random(500)
    law = likelihood.law(likelihood.start(batch(y), torch.tensor(weight))[None])
    mean = np.average(y, weights=weight)
    std = np.sqrt(np.average((y - mean) ** 2, weights=weight))
    step = UNITS[unit].step
    # Rounding moves the mean of a law that is narrow beside the step.
    assert_allclose(law.mean()[0], mean, atol=(2e-2 if step > std / 2 else 1e-9) * std)
    if family == "gaussian-one":
        # Its spread is a parameter that starts from the scale of the target, in float32.
        assert_allclose(law.std()[0], np.hypot(UNITS[unit].scale[0], step / 12**0.5), rtol=0.1)
        return
    expected = np.sqrt(std**2 + step**2 / 12)
    # Where the floor of the spread, a quarter of the cell, is of the spread's size, it counts.
    assert_allclose(law.std()[0], expected, rtol=0.02 if step > std / 4 else 1e-9)


def test_start_of_classes_is_their_frequency() -> None:
    y = batch(np.repeat([0.0, 1.0, 2.0], [20, 70, 10]))
    likelihood = build("classes")
    law = likelihood.law(likelihood.start(y, torch.ones(100))[None])
    assert_allclose(law.probabilities, [[0.2, 0.7, 0.1]], atol=1e-3)
    one = build("binary")
    rare = one.law(one.start(batch(np.zeros(50)), torch.ones(50))[None])
    assert 0 < rare.probabilities[0, 1] < 1e-3


@pytest.mark.parametrize("size", [1e4, -1e4, 1e8], ids=lambda s: f"eta-{s:g}")
def test_extreme_eta_stays_finite(name: str, size: float) -> None:
    likelihood = build(name)
    k = likelihood.outputs
    signs = torch.tensor([[(-1.0) ** (i * (j + 1)) for i in range(k)] for j in range(2)])
    eta = (size * torch.cat([torch.ones(1, k), signs])).double().requires_grad_()
    nll = likelihood.nll(eta, batch(targets_for(name, 3)))
    (gradient,) = torch.autograd.grad(nll.sum(), eta)
    assert torch.isfinite(nll).all()
    assert torch.isfinite(gradient).all()
    law = likelihood.law(eta)
    assert np.isfinite(law.mean()).all()
    assert np.isfinite(law.std()).all()
    assert np.isfinite(law.log_prob(targets_for(name, 3))).all()
    assert np.isfinite(law.quantile([[0.1, 0.9]])).all()


@pytest.mark.parametrize("family", CONTINUOUS)
@pytest.mark.parametrize("unit", ["standard", "whole"])
@pytest.mark.parametrize("far", [1e6, -1e12])
def test_far_targets_stay_finite_and_pull_back(family: str, unit: str, far: float) -> None:
    likelihood = build(f"{family}-{unit}")
    eta = random_eta(likelihood, 3).requires_grad_()
    nll = likelihood.nll(eta, batch(np.full(3, far)))
    (gradient,) = torch.autograd.grad(nll.sum(), eta)
    assert torch.isfinite(nll).all()
    assert torch.isfinite(gradient).all()
    location = likelihood.outputs // 3 if likelihood.outputs % 3 == 0 else 0
    means = gradient[:, location : location + max(likelihood.outputs // 3, 1)]
    assert (torch.sign(means.sum(1)) == -np.sign(far)).all()


def test_a_float32_eta_is_scored_in_float64(name: str) -> None:
    likelihood = build(name).float()
    eta = random_eta(likelihood, 20).float().requires_grad_()
    y = targets_for(name, 20)
    nll = likelihood.nll(eta, batch(y))
    assert nll.dtype == torch.float64
    (gradient,) = torch.autograd.grad(nll.sum(), eta)
    assert gradient.dtype == torch.float32
    assert_allclose(nll.detach(), -likelihood.law(eta).log_prob(y), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", CONTINUOUS)
def test_units_shift_the_score_by_a_known_constant(family: str) -> None:
    plain = CONTINUOUS[family](UNITS["standard"]).double()
    other = CONTINUOUS[family](UNITS["shifted"]).double()
    y, eta = np.linspace(-3, 3, 9), random_eta(plain, 9)
    difference = other.nll(eta, batch(250 + 37 * y)) - plain.nll(eta, batch(y))
    assert_allclose(difference.detach(), np.log(37), rtol=1e-12)


def test_gradients_flow_at_an_output_of_exactly_zero() -> None:
    likelihood = build("gaussian-row-standard")
    eta = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(likelihood.nll(eta, batch(np.zeros(1))).sum(), eta)
    assert_allclose(gradient[0, 1], 0.5 / (1e-3 + np.log(2)), rtol=1e-12)


def test_categorical_matches_log_softmax() -> None:
    likelihood, eta = build("classes"), random_eta(build("classes"), 50)
    law = likelihood.law(eta)
    assert isinstance(law, CategoricalLaw)
    assert_allclose(law.probabilities, special.softmax(eta.numpy(), 1), rtol=1e-13)
    binary = build("binary")
    eta = random_eta(binary, 50)
    assert_allclose(
        binary.law(eta).probabilities[:, 1], special.expit(eta[:, 0].numpy()), rtol=1e-13
    )


def test_categorical_needs_two_classes() -> None:
    with pytest.raises(ConfigError, match=r"at least two classes, got \['a'\]"):
        Categorical(Target(kind="classification", classes=("a",)))


@pytest.mark.parametrize("family", [*CONTINUOUS.values(), Poisson])
def test_one_output_at_a_time(family: object) -> None:
    two = Target(kind="regression", names=("a", "b"), location=(0.0, 0.0), scale=(1.0, 1.0))
    with pytest.raises(ConfigError, match="one output, got 2"):
        family(two)  # type: ignore[operator]


def test_mixture_needs_a_component() -> None:
    with pytest.raises(ConfigError, match="components must be at least 1"):
        MixtureOfGaussians(UNITS["standard"], components=0)


def test_poisson_rate_is_the_exponential_of_eta() -> None:
    law = build("poisson").law(torch.tensor([[-30.0], [-5.0], [5.0], [20.0], [1e4]]))
    assert isinstance(law, PoissonLaw)
    assert_allclose(law.rate[1:4], np.exp([-5.0, 5.0, 20.0]), rtol=1e-13)
    assert_allclose(np.log(law.rate[[0, 4]]), [-20 - np.log(11), 20 + np.log(9981)], rtol=1e-13)


def test_poisson_starts_from_events_per_exposure() -> None:
    likelihood = build("poisson")
    y = torch.tensor([[2.0], [0.0], [7.0]], dtype=torch.float64)
    exposure = torch.tensor([1.0, 4.0, 2.5], dtype=torch.float64)
    targets = TargetBatch(y, torch.ones(3, 1, dtype=torch.bool), offset=exposure.log())
    start = likelihood.start(targets, torch.tensor([1.0, 2.0, 1.0]))
    assert_allclose(start, [np.log(9 / 11.5)], rtol=1e-12)
    none = likelihood.start(batch(np.zeros(4)), torch.ones(4))
    assert_allclose(none, np.log(1e-4))


def test_poisson_names_negative_counts() -> None:
    y = np.ones(20)
    y[[17, 18, 19]] = [-2, -1, -5]
    match = r"Poisson needs y >= 0; 3 negative values, first at row 17 \(-2\)"
    with pytest.raises(InputError, match=match):
        build("poisson").check(batch(y))
    build("poisson").check(batch(y, np.arange(20) < 17))


def test_poisson_warns_of_broken_counts() -> None:
    y = np.array([0.0, 1.0, 2.5, 0.1])
    with pytest.warns(NonIntegerCountWarning, match=r"2 values .* first at row 2 \(2.5\)"):
        build("poisson").check(batch(y))
    build("poisson").check(batch(y, np.array([True, True, False, False])))


def test_other_likelihoods_take_any_number() -> None:
    build("student-t-standard").check(batch(np.array([-1.0, 2.5])))


GOLDEN = {
    "gaussian-row-shifted": 5.2782514353957157,
    "gaussian-row-whole": 1.4888621203444303,
    "student-t-shifted": 5.2815915667837625,
    "student-t-whole": 1.5424627292448368,
    "mixture-3-shifted": 5.2892183920998738,
    "mixture-3-whole": 2.0652140686340723,
    "poisson": 1.0918246976412703,
    "binary": 0.51301525239995262,
    "classes": 1.4975763263348716,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_numbers(name: str) -> None:
    # Computed with 30 digits by mpmath for the eta 0.4, -0.2, 0.3, -0.5, 0.1, ... below.
    likelihood = build(name)
    eta = torch.tensor([0.4, -0.2, 0.3, -0.5, 0.1, 0.8, -0.7, 0.6, 0.2], dtype=torch.float64)
    y = 7.0 if "whole" in name else 1.0 if name in DISCRETE else 300.0
    nll = likelihood.nll(eta[None, : likelihood.outputs], batch(np.array([y])))
    # The degrees of freedom start from 8 as nearly as float32 has them.
    rtol = 1e-9 if "student" in name else 1e-13
    assert_allclose(nll.item(), GOLDEN[name], rtol=rtol)
