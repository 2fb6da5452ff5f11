"""Bases with a learned location and scale, against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats

from hybridflow import FlowDensity, TrainingConfig
from hybridflow.bases import NormalBase, hybridflow_bases
from hybridflow.densities import Base, DiagonalNormal, FullNormal, Laplace, Logistic, Normal
from hybridflow.specs import Event

LAWS = {
    "normal": (DiagonalNormal, stats.norm),
    "laplace": (Laplace, stats.laplace),
    "logistic": (Logistic, stats.logistic),
}


def rows(n: int = 400, features: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(n, features, generator=generator, dtype=torch.float64)
    return z @ torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.3, 0.0], [0.0, -0.2, 5.0]]).double() - 4


@pytest.fixture(params=LAWS)
def fitted(request: pytest.FixtureRequest):
    """A base with the moments of correlated rows, and its law in scipy."""
    kind, law = LAWS[request.param]
    base = kind(3).double()
    base.initialize(rows())
    return base, law


def test_log_prob_and_samples_are_those_of_scipy(fitted) -> None:
    base, law = fitted
    location, scale = base.location.detach().numpy(), base.scale().detach().numpy()
    z = rows(50) * 3
    with torch.no_grad():
        found = base.log_prob(z)
    assert_allclose(found, law.logpdf(z.numpy(), location, scale).sum(1), rtol=1e-12)
    draws = base.sample(4000, generator=torch.Generator().manual_seed(5))
    for j in range(3):
        cdf = law(location[j], scale[j]).cdf
        assert stats.kstest(draws[:, j].numpy(), cdf).pvalue > 1e-3


def test_float32_draws_reach_the_tails_of_a_laplace() -> None:
    draws = Laplace(1).sample(1_000_000, generator=torch.Generator().manual_seed(0))
    assert draws.dtype == torch.float32
    assert (draws.abs() > 10).double().mean() == pytest.approx(np.exp(-10), rel=0.5)


def test_initialize_takes_the_moments_of_the_rows(fitted) -> None:
    base, law = fitted
    z = rows().numpy()
    found = law(base.location.detach().numpy(), base.scale().detach().numpy())
    assert_allclose(found.mean(), z.mean(0), rtol=1e-12)
    assert_allclose(found.std(), z.std(0), rtol=1e-9)


def test_a_full_normal_takes_the_covariance_of_the_rows() -> None:
    base = FullNormal(3).double()
    z = rows()
    base.initialize(z)
    assert_allclose(base.location.detach(), z.mean(0), rtol=1e-12)
    expected = np.cov(z.numpy().T, bias=True)
    assert_allclose(base.covariance().detach(), expected, rtol=2e-3, atol=1e-3)
    law = stats.multivariate_normal(base.location.detach(), base.covariance().detach())
    assert_allclose(base.log_prob(3 * z).detach(), law.logpdf(3 * z.numpy()), rtol=1e-8)
    draws = base.sample(4000, generator=torch.Generator().manual_seed(1)).numpy()
    assert_allclose(np.cov(draws.T), expected, rtol=0.2, atol=0.2)
    root = np.linalg.cholesky(base.covariance().detach().numpy())
    white = np.linalg.solve(root, (draws - base.location.detach().numpy()).T)
    for each in white:
        assert stats.kstest(each, "norm").pvalue > 1e-3


@pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal, Laplace, Logistic])
def test_start_of_weights_is_start_of_repetitions(kind: type[Base]) -> None:
    z = rows(9)
    times = torch.tensor([1, 2, 0, 3, 1, 1, 4, 0, 1])
    weighted, repeated = kind(3).double(), kind(3).double()
    weighted.initialize(z, weight=times)
    repeated.initialize(torch.repeat_interleave(z, times, 0))
    for a, b in zip(weighted.parameters(), repeated.parameters(), strict=True):
        assert_allclose(a.detach(), b.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal, Laplace, Logistic])
def test_one_row_or_one_value_gives_a_finite_start(kind: type[Base]) -> None:
    for z in (torch.full((1, 2), 7.0), torch.full((30, 2), -7.0)):
        base = kind(2)
        base.initialize(z)
        assert base.log_prob(z).isfinite().all()
        assert base.location.tolist() == z[0].tolist()


@pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal, Laplace, Logistic])
def test_rsample_has_the_gradients_of_the_moments(kind: type[Base]) -> None:
    """The derivative of E |z|^2 by the location is twice the location, whatever the law."""
    base = kind(2).double()
    base.initialize(rows()[:, :2])
    z = base.rsample(200_000, generator=torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad(z.square().sum(1).mean(), base.location)
    assert_allclose(slope, 2 * base.location.detach(), atol=0.05)
    again = base.sample(200_000, generator=torch.Generator().manual_seed(0))
    assert not again.requires_grad
    assert torch.equal(again, z)


@pytest.mark.parametrize("kind", [DiagonalNormal, FullNormal, Laplace, Logistic])
def test_context_is_accepted_and_not_used(kind: type[Base]) -> None:
    base, z = kind(3).double(), rows(5)
    assert torch.equal(base.log_prob(z, torch.ones(5, 2)), base.log_prob(z))


def test_the_settings_of_the_normal_base() -> None:
    spec = next(spec for spec in hybridflow_bases() if spec.name == "normal")
    for covariance, kind in (("identity", Normal), ("diagonal", DiagonalNormal)):
        assert type(spec.build(Event.real(2), None, NormalBase(covariance=covariance))) is kind
    assert type(spec.build(Event.real(2), None, NormalBase(covariance="full"))) is FullNormal
    assert NormalBase().covariance == "identity"


@pytest.mark.parametrize("base", ["laplace", "logistic", NormalBase(covariance="full")], ids=str)
def test_a_density_trains_on_it(base) -> None:
    """With a flow that cannot scale, the base has to."""
    X = np.random.default_rng(0).laplace(size=(300, 2)) * [1, 1e3]
    X[:, 1] += 500 * X[:, 0]
    model = FlowDensity("maf", base, training=TrainingConfig(steps=60), random_state=0).fit(X)
    assert model.score(X) > stats.multivariate_normal(X.mean(0), np.cov(X.T)).logpdf(X).mean()
