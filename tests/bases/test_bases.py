"""Base distributions against scipy, quadrature and their own samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import special, stats

from hybridflow.bases import MixtureBase, StudentTBase, hybridflow_bases
from hybridflow.densities import (
    Base,
    ClassConditional,
    DiagonalNormal,
    FullNormal,
    Laplace,
    Logistic,
    Mixture,
    Normal,
    StudentT,
)
from hybridflow.densities.positive import (
    Degrees,
    inverse_softplus,
    log_gamma_step,
    softplus,
)
from hybridflow.errors import ConfigError
from hybridflow.specs import BaseSpec, Event

SPECS = {spec.name: spec for spec in hybridflow_bases()}


def perturbed(base: Base) -> Base:
    generator = torch.Generator().manual_seed(3)
    for parameter in base.double().parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return base


def trained_mixture(features: int) -> Mixture:
    base = Mixture(features, components=3).double()
    generator = torch.Generator().manual_seed(features)
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return base


def learned_t(features: int) -> StudentT:
    base = StudentT(features).double()
    torch.nn.init.normal_(base.degrees.raw, generator=torch.Generator().manual_seed(1))
    return base


MAKERS = {
    "normal": lambda d: Normal(d).double(),
    "student-t-learned": learned_t,
    "student-t-fixed": lambda d: StudentT(d, df=4.0).double(),
    "mixture": trained_mixture,
    "mixture-fresh": lambda d: Mixture(d, components=5).double(),
    "diagonal-normal": lambda d: perturbed(DiagonalNormal(d)),
    "full-normal": lambda d: perturbed(FullNormal(d)),
    "laplace": lambda d: perturbed(Laplace(d)),
    "logistic": lambda d: perturbed(Logistic(d)),
    "class-conditional": lambda d: perturbed(ClassConditional(d, 3, components=2)),
}


@pytest.fixture(params=MAKERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def density(base: Base, *z: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return base.log_prob(torch.tensor(np.stack(z, -1))).exp().numpy()


def line(reach: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points and weights of a trapezoidal rule on the whole line."""
    u = np.linspace(-reach, reach, n)
    return np.sinh(u), np.cosh(u) * (u[1] - u[0])


def test_integrates_to_one_in_one_dimension(name: str) -> None:
    z, weight = line(40, 8001)
    tolerance = 1e-3 if name == "laplace" else 1e-8  # its kink, which no rule likes
    assert_allclose((density(MAKERS[name](1), z) * weight).sum(), 1, rtol=tolerance)


def test_integrates_to_one_in_two_dimensions(name: str) -> None:
    z, weight = line(12, 481)
    a, b = (grid.ravel() for grid in np.meshgrid(z, z))
    total = (density(MAKERS[name](2), a, b) * np.outer(weight, weight).ravel()).sum()
    assert_allclose(total, 1, rtol=2e-3 if name == "laplace" else 1e-6)


@pytest.mark.parametrize("features", [1, 3])
def test_agrees_with_scipy(features: int) -> None:
    z = np.random.default_rng(0).normal(scale=5, size=(50, features))
    rows = torch.tensor(z)
    found = MAKERS["normal"](features).log_prob(rows)
    assert_allclose(found, stats.norm.logpdf(z).sum(1), rtol=1e-12)
    for base in (MAKERS["student-t-fixed"](features), learned_t(features)):
        with torch.no_grad():
            found, df = base.log_prob(rows), base.df().numpy()
        assert_allclose(found, stats.t.logpdf(z, df).sum(1), rtol=1e-12)
    base = trained_mixture(features)
    with torch.no_grad():
        found = base.log_prob(rows)
        weights = torch.softmax(base.logits, 0).numpy()
        scales = 1e-3 + np.logaddexp(0, base.raw.numpy())
    parts = [
        stats.multivariate_normal(mean, np.diag(scale**2)).logpdf(z)
        for mean, scale in zip(base.means.detach().numpy(), scales, strict=True)
    ]
    expected = special.logsumexp(np.stack(parts, -1).reshape(50, 3), axis=1, b=weights)
    assert_allclose(found, expected, rtol=1e-12)


def test_samples_follow_the_density(name: str) -> None:
    base = MAKERS[name](1)
    draws = base.sample(4000, generator=torch.Generator().manual_seed(5)).detach().numpy()[:, 0]
    z, weight = line(40, 20001)
    cdf = np.cumsum(density(base, z) * weight)
    assert stats.kstest(np.interp(draws, z, cdf), "uniform").pvalue > 1e-3


def test_samples_of_many_dimensions_have_the_moments_of_the_density(name: str) -> None:
    base = MAKERS[name](2)
    draws = base.sample(20_000, generator=torch.Generator().manual_seed(6)).detach()
    # E[log p] by draws and by quadrature: wrong if dimensions or components are mixed up.
    z, weight = line(12, 481)
    a, b = (grid.ravel() for grid in np.meshgrid(z, z))
    p = density(base, a, b)
    area = np.outer(weight, weight).ravel()
    expected = (area * special.xlogy(p, p)).sum()
    with torch.no_grad():
        scores = base.log_prob(draws)
    assert abs(scores.mean() - expected) < 4 * scores.std() / np.sqrt(20_000)


def test_draws_repeat_with_the_generator_and_leave_the_global_state(name: str) -> None:
    base = MAKERS[name](3)
    state = torch.get_rng_state()
    first, second = (base.sample(7, None, torch.Generator().manual_seed(2)) for _ in range(2))
    assert_array_equal(first.detach(), second.detach())
    assert_array_equal(torch.get_rng_state(), state)
    assert first.shape == (7, 3)
    assert base.sample(0).shape == (0, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dtype_follows_the_module(name: str, dtype: torch.dtype) -> None:
    base = MAKERS[name](2).to(dtype)
    draws = base.sample(5, generator=torch.Generator().manual_seed(0))
    assert draws.dtype == dtype
    assert base.log_prob(draws).dtype == dtype


def test_no_features(name: str) -> None:
    base = MAKERS[name](0)
    base.initialize(torch.zeros(4, 0))
    assert_allclose(base.log_prob(torch.zeros(4, 0)).detach(), np.zeros(4), atol=1e-15)
    assert base.sample(4).shape == (4, 0)


def test_gradients_by_finite_differences(name: str) -> None:
    base = MAKERS[name](2)
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z.requires_grad_()
    assert torch.autograd.gradcheck(base.log_prob, (z,))
    loss = base.log_prob(z).sum()
    for parameter in base.parameters():
        (slope,) = torch.autograd.grad(loss, parameter, retain_graph=True)
        with torch.no_grad():
            entry = parameter.view(-1)[:1]
            entry += 1e-6
            above = base.log_prob(z).sum()
            entry -= 2e-6
            below = base.log_prob(z).sum()
            entry += 1e-6
        assert_allclose(slope.view(-1)[0], (above - below) / 2e-6, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [1e8, -1e15])
def test_extreme_rows_stay_finite(name: str, size: float) -> None:
    base = MAKERS[name](2).float()
    z = torch.full((2, 2), size, requires_grad=True)
    score = base.log_prob(z)
    (gradient,) = torch.autograd.grad(score.sum(), z)
    assert torch.isfinite(score).all()
    assert torch.isfinite(gradient).all()


def test_rows_do_not_influence_each_other(name: str) -> None:
    base = MAKERS[name](3)
    z = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alone = torch.cat([base.log_prob(row[None]) for row in z])
    assert_allclose(base.log_prob(z).detach(), alone.detach(), rtol=1e-12)


def test_student_t_tails_of_float32_draws_reach_far() -> None:
    draws = StudentT(1, df=1.0).sample(200_000, generator=torch.Generator().manual_seed(0))
    assert draws.abs().max() > 1e4
    assert abs((draws.abs() > 100).float().mean() - 2 * stats.cauchy.sf(100)) < 1e-3


@pytest.mark.parametrize("components", [1, 2, 8, 33])
def test_mixture_starts_with_the_moments_of_the_rows(components: int) -> None:
    rng = np.random.default_rng(0)
    z = torch.tensor(rng.normal([3.0, -50.0, 0.0], [2.0, 0.1, 7.0], (400, 3)))
    weight = torch.tensor(rng.random(400))
    base = Mixture(3, components).double()
    base.initialize(z, weight=weight)
    share = (weight / weight.sum())[:, None]
    mean = (share * z).sum(0)
    variance = (share * (z - mean) ** 2).sum(0)
    means = base.means.detach()
    scales = 1e-3 + softplus(base.raw.detach())
    assert_allclose(means.mean(0), mean, rtol=1e-9, atol=1e-9)
    total = (scales**2 + (means - mean) ** 2).mean(0)
    assert_allclose(total, variance, rtol=1e-9)
    if components > 1:
        assert len(np.unique(means.numpy().round(6), axis=0)) == components


def test_mixture_start_of_weights_is_start_of_repetitions() -> None:
    z = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    times = torch.tensor([1, 2, 0, 3, 1, 1, 4, 0, 1])
    weighted, repeated = Mixture(2, 4).double(), Mixture(2, 4).double()
    weighted.initialize(z, weight=times)
    repeated.initialize(torch.repeat_interleave(z, times, 0))
    for a, b in zip(weighted.parameters(), repeated.parameters(), strict=True):
        assert_allclose(a.detach(), b.detach(), rtol=1e-12, atol=1e-12)


def test_mixture_learns_clusters() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[-4.0, 0.0], [4.0, 1.0], [0.0, 6.0]], dtype=torch.float64)
    which = torch.randint(3, (600,), generator=generator)
    noise = torch.randn(600, 2, generator=generator, dtype=torch.float64)
    z = centres[which] + 0.5 * noise
    base = Mixture(2, 4).double()
    base.initialize(z)
    optimizer = torch.optim.Adam(base.parameters(), 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss = -base.log_prob(z).mean()
        loss.backward()
        optimizer.step()
    entropy = np.log(3) + 2 * np.log(0.5) + np.log(2 * np.pi * np.e)
    assert loss.item() < entropy + 0.05


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="components must be at least 1, got 0"):
        Mixture(2, 0)
    with pytest.raises(ConfigError, match="df must be positive, got -1"):
        StudentT(2, df=-1.0)
    with pytest.raises(ConfigError):
        MixtureBase(components=0)
    with pytest.raises(ConfigError):
        StudentTBase(df=0.0)


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
@pytest.mark.parametrize("features", [0, 1, 4])
def test_registry_entries_build(spec: BaseSpec, features: int) -> None:
    base = spec.build(Event.real(features), None, spec.config())
    assert base.log_prob(base.sample(3)).shape == (3,)
    assert spec.reference
    assert spec.config.from_json(spec.config().model_dump(mode="json")) == spec.config()


def test_names() -> None:
    assert list(SPECS) == sorted(SPECS)
    assert set(SPECS) == {
        "class-conditional",
        "laplace",
        "logistic",
        "mixture",
        "normal",
        "student-t",
        "uniform",
    }
    assert SPECS["student-t"].build(Event.real(1), None, StudentTBase(df=3.0)).degrees is None
    assert len(SPECS["mixture"].build(Event.real(1), None, MixtureBase(components=3)).logits) == 3


@pytest.mark.parametrize("x", [1e-3, 0.5, 1.0, 4.0, 33.3, 1e6], ids=str)
def test_log_gamma_step(x: float) -> None:
    found = log_gamma_step(torch.tensor([x], dtype=torch.float64))
    expected = special.gammaln(x + 0.5) - special.gammaln(x)
    assert_allclose(found, expected, rtol=1e-9 if x > 1e3 else 2e-14, atol=2e-14)


def test_degrees_stay_within_their_bounds() -> None:
    degrees = Degrees(5, low=2.05, high=100.0, start=8.0)
    assert_allclose(degrees().detach(), 8.0, rtol=1e-6)
    with torch.no_grad():
        degrees.raw.copy_(torch.tensor([-1e4, -3.0, 0.0, 3.0, 1e4]))
    found = degrees().detach().numpy()
    assert_allclose(found[[0, -1]], [100, 2.05], rtol=1e-5)
    assert (np.diff(found) < 0).all()


def test_softplus_and_its_inverse() -> None:
    x = torch.tensor([-800.0, -30.0, -1.0, 0.0, 1.0, 30.0, 1e4], dtype=torch.float64)
    x.requires_grad_()
    assert_allclose(softplus(x).detach(), np.logaddexp(0, x.detach().numpy()), rtol=1e-13)
    (slope,) = torch.autograd.grad(softplus(x).sum(), x)
    assert_allclose(slope, special.expit(x.detach().numpy()), rtol=1e-13, atol=1e-16)
    for y in (1e-8, 0.5, 3.0, 200.0):
        assert_allclose(softplus(torch.tensor(inverse_softplus(y), dtype=torch.float64)), y, 1e-7)


def test_golden_numbers() -> None:
    # Computed with 30 digits by mpmath.
    z = torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    assert_allclose(Normal(2).log_prob(z), -3.88287706640934548, rtol=1e-14)
    assert_allclose(StudentT(2, 4.0).double().log_prob(z), -3.75015297976036514, rtol=1e-14)
    mixture = Mixture(2, 2).double()
    with torch.no_grad():
        mixture.logits.copy_(torch.tensor([0.4, -0.1], dtype=torch.float64))
        mixture.means.copy_(torch.tensor([[0.0, -1.0], [1.0, 2.0]], dtype=torch.float64))
        mixture.raw.copy_(torch.tensor([[0.2, 0.5], [-0.3, 1.0]], dtype=torch.float64))
        assert_allclose(mixture.log_prob(z), -2.65368506833843283, rtol=1e-13)
