"""Posteriors of the last layer against closed forms, scikit-learn and integrals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, optimize, special, stats
from sklearn.linear_model import BayesianRidge

from hybridflow import HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.errors import InputError
from hybridflow.laws import StudentTLaw
from hybridflow.likelihoods import (
    BayesianLinear,
    HiddenBasis,
    LaplaceCategorical,
    LaplacePoisson,
    LinearBasis,
    TargetBatch,
)
from hybridflow.likelihoods.bayesian_linear import variance_of
from hybridflow.specs import Event, Target

BINARY = Target(kind="classification", classes=("no", "yes"))
THREE = Target(kind="classification", classes=("a", "b", "c"))
COUNTS = Target(kind="regression", step=1.0)


def rows(n: int, d: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=(n, d)))


def batch(y: torch.Tensor) -> TargetBatch:
    return TargetBatch(y[:, None], torch.ones(len(y), 1, dtype=torch.bool))


def numbers(n: int = 40) -> tuple[torch.Tensor, torch.Tensor, Target]:
    z = rows(n)
    y = (
        7
        + 2 * (z @ torch.tensor([1.0, -0.5, 0.0], dtype=torch.float64))
        + 1.5 * rows(n, 1, 1)[:, 0]
    )
    target = Target(kind="regression", location=(y.mean().item(),), scale=(y.std().item(),))
    return z, y, target


def fitted(n: int = 40) -> tuple[BayesianLinear, torch.Tensor, torch.Tensor, Target]:
    z, y, target = numbers(n)
    head = BayesianLinear(LinearBasis(Event.real(3)), target).double()
    head.finish([(z[:15], None, batch(y[:15])), (z[15:], None, batch(y[15:]))])
    return head, z, y, target


def precision(head: BayesianLinear, z: torch.Tensor) -> float:
    """Read alpha off the posterior."""
    size = head.weight.shape[1]
    inverse = torch.linalg.inv(head.factor[:size, :size].T @ head.factor[:size, :size])
    centred = z - z.mean(0)
    return float((inverse - centred.T @ centred).diagonal().mean())


def test_posterior_is_that_of_ridge_regression_and_bayesian_ridge() -> None:
    head, z, y, target = fitted()
    alpha, scale = precision(head, z), target.scale[0]
    centred, v = z - z.mean(0), (y - target.location[0]) / scale
    gram = centred.T @ centred + alpha * torch.eye(3, dtype=torch.float64)
    ridge = torch.linalg.solve(gram, centred.T @ v)
    assert_allclose(head.weight.detach()[0], ridge, rtol=1e-9)
    # scikit-learn's, its precisions held where ours are by priors that leave no choice.
    noise = head.likelihood.noise.item() ** 2
    sure = 1e12
    reference = BayesianRidge(
        alpha_1=sure / noise, alpha_2=sure, lambda_1=sure * alpha / noise, lambda_2=sure
    ).fit(z.numpy(), v.numpy())
    assert_allclose(head.weight.detach()[0], reference.coef_, rtol=1e-7)
    new = rows(5, 3, 9)
    shape = 1 + (len(z) - 1) / 2
    rest = ((v - v.mean()) ** 2).sum() - (centred.T @ v) @ ridge
    assert_allclose(noise, (1e-6 + rest / 2) / shape, rtol=1e-9)
    away = new - z.mean(0)
    leverage = 1 / len(z) + (away * torch.linalg.solve(gram, away.T).T).sum(1)
    law = head.law(head(new))
    assert isinstance(law, StudentTLaw)
    assert_allclose(law.df, 2 * shape)
    assert_allclose(law.scale, scale * np.sqrt(noise * (1 + leverage.numpy())), rtol=1e-9)
    mean, std = reference.predict(new.numpy(), return_std=True)  # which knows its intercept
    assert_allclose(law.mean(), target.location[0] + scale * mean, rtol=1e-7)
    assert_allclose(law.scale**2, scale**2 * (std**2 + noise / len(z)), rtol=1e-7)


def test_prediction_is_the_integral_over_the_posterior() -> None:
    head, z, y, target = fitted(12)
    alpha, v = precision(head, z), ((y - target.location[0]) / target.scale[0]).numpy()
    centred = (z - z.mean(0)).numpy()
    gram = centred.T @ centred + alpha * np.eye(3)
    mean, inverse = np.linalg.solve(gram, centred.T @ v), np.linalg.inv(gram)
    rest = ((v - v.mean()) ** 2).sum() - (centred.T @ v) @ mean
    noise = stats.invgamma(1 + 11 / 2, scale=1e-6 + rest / 2)  # the posterior of its variance
    new = np.array([[0.4, -1.0, 2.0]])
    away = new - z.mean(0).numpy()
    leverage = 1 / 12 + float((away @ inverse @ away.T)[0, 0])
    centre = v.mean() + float((away @ mean)[0])
    law = head.law(head(torch.tensor(new)))
    for u in (-1.0, 0.3, 2.5):
        value, _ = integrate.quad(
            lambda s, u=u: noise.pdf(s) * stats.norm.pdf(u, centre, np.sqrt(s * (1 + leverage))),
            0,
            20,
            points=[noise.mean()],
            epsabs=1e-12,
            limit=500,
        )
        found = np.exp(law.log_prob(target.location[0] + target.scale[0] * u)) * target.scale[0]
        assert_allclose(found, value, rtol=1e-7)


def test_alpha_has_the_largest_evidence() -> None:
    head, z, y, target = fitted()
    v = ((y - target.location[0]) / target.scale[0]).numpy()
    centred = (z - z.mean(0)).numpy()

    def evidence(log_alpha: float) -> float:
        # The integral over weights, intercept and noise, as a multivariate t of what is left.
        kernel = np.eye(40) + centred @ centred.T / np.exp(log_alpha)
        ones = np.ones(40)
        solved = np.linalg.solve(kernel, np.stack([ones, v], 1))
        rest = v @ solved[:, 1] - (ones @ solved[:, 1]) ** 2 / (ones @ solved[:, 0])
        half = 0.5 * np.linalg.slogdet(kernel)[1] + 0.5 * np.log(ones @ solved[:, 0])
        return float(-half - (1 + 39 / 2) * np.log(1e-6 + rest / 2))

    best = optimize.minimize_scalar(lambda a: -evidence(a), bounds=(-8, 8), method="bounded")
    found = np.log(precision(head, z))
    assert evidence(found) == pytest.approx(-best.fun, abs=1e-3)
    assert abs(found - best.x) < 0.06  # half of the distance of the alphas that are tried


def test_weights_equal_repetition() -> None:
    z, y, target = numbers(8)
    times = torch.tensor([1, 2, 0, 3, 1, 1, 2, 1])
    heads = [BayesianLinear(LinearBasis(Event.real(3)), target).double() for _ in range(2)]
    heads[0].finish([(z, None, batch(y))], times.double())
    again = torch.repeat_interleave(torch.arange(8), times)
    heads[1].finish([(z[again], None, batch(y[again]))])
    new = rows(5, 3, 7)
    assert_allclose(heads[0](new).detach(), heads[1](new).detach(), rtol=1e-8)
    assert_allclose(heads[0].likelihood.df, heads[1].likelihood.df)


def test_it_is_less_sure_far_away_and_with_few_rows() -> None:
    head = fitted()[0]
    near, far = torch.zeros(1, 3, dtype=torch.float64), torch.full((1, 3), 50.0).double()
    assert head.law(head(far)).std()[0] > 3 * head.law(head(near)).std()[0]
    few = fitted(5)[0]
    assert few.likelihood.df < head.likelihood.df


def test_intercept_alone() -> None:
    _, y, target = numbers()
    head = BayesianLinear(LinearBasis(Event.real(0)), target).double()
    nothing = torch.zeros(40, 0, dtype=torch.float64)
    head.finish([(nothing, None, batch(y))])
    law = head.law(head(nothing[:1]))
    assert_allclose(law.mean(), y.mean(), rtol=1e-12)
    assert_allclose(law.scale**2, (1 + 1 / 40) * 39 * y.var().item() / 41, rtol=1e-4)


# -- Laplace ---------------------------------------------------------------------


def test_mode_and_curvature_of_a_logistic_regression() -> None:
    z = rows(200, 2)
    y = (torch.sigmoid(z @ torch.tensor([2.0, -1.0]).double()) > torch.rand(200)).double()
    head = LaplaceCategorical(LinearBasis(Event.real(2)), BINARY).double()
    head.finish([(z[:90], None, batch(y[:90])), (z[90:], None, batch(y[90:]))])
    design = np.column_stack([z.numpy(), np.ones(200)])
    mode = np.append(head.weight.detach().numpy()[0], head.bias.detach().numpy())
    p = special.expit(design @ mode)
    curved = design.T @ ((p * (1 - p))[:, None] * design)
    covariance = (head.factors[0].T @ head.factors[0]).numpy()
    prior = np.linalg.inv(covariance) - curved
    alpha = prior[0, 0]
    assert_allclose(prior, np.diag([alpha, alpha, 0]), atol=1e-5 * np.abs(curved).max())
    slope = design.T @ (p - y.numpy()) + np.diag([alpha, alpha, 0]) @ mode
    assert_allclose(slope, 0, atol=0.05)  # alpha moves once more after the last mode
    determined = 2 - alpha * np.trace(covariance[:2, :2])
    assert_allclose(alpha, determined / (mode[:2] ** 2).sum(), rtol=0.02)


@pytest.mark.parametrize("variance", [0.01, 1.0, 25.0], ids=str)
@pytest.mark.parametrize("mean", [-6.0, -1.0, 0.5, 3.0], ids=str)
def test_moderation_is_close_to_the_integral(mean: float, variance: float) -> None:
    head = LaplaceCategorical(LinearBasis(Event.real(1)), BINARY)
    eta = head.predicted(torch.tensor([[mean]]), torch.tensor([[variance]])).double()
    law = stats.norm(mean, np.sqrt(variance))
    exact, _ = integrate.quad(lambda u: special.expit(u) * law.pdf(u), *law.interval(1 - 1e-14))
    assert abs(head.law(eta).probabilities[0, 1] - exact) < 0.02


def test_posterior_of_a_poisson_regression_by_quadrature() -> None:
    # One weight and no more: the whole posterior is an integral.
    rng = np.random.default_rng(2)
    y = torch.tensor(rng.poisson(3.0, 30).astype(float))
    head = LaplacePoisson(LinearBasis(Event.real(0)), COUNTS).double()
    nothing = torch.zeros(30, 0, dtype=torch.float64)
    head.finish([(nothing, None, batch(y))])
    assert_allclose(head.bias.exp().item(), y.mean(), rtol=1e-6)
    mean, variance = head(nothing[:1]).detach().numpy()[0]
    assert_allclose(variance, 1 / y.sum(), rtol=1e-6)
    exact = stats.nbinom(y.sum().item(), 30 / 31)  # under a flat prior of the log-rate
    counts = np.arange(12.0)
    found = np.exp(head.law(head(nothing[:1])).log_prob(counts[None])[0])
    assert_allclose(found, exact.pmf(counts), atol=2e-3)
    for k in (0, 4, 9):
        integral, _ = integrate.quad(
            lambda u, k=k: stats.poisson.pmf(k, np.exp(u)) * stats.norm.pdf(u, mean, variance**0.5),
            mean - 3,
            mean + 3,
        )
        assert_allclose(found[k], integral, rtol=1e-8)


def test_exposure_enters_the_posterior_of_counts() -> None:
    y, exposure = torch.tensor([4.0, 10.0, 1.0]).double(), torch.tensor([1.0, 3.0, 1.0]).double()
    head = LaplacePoisson(LinearBasis(Event.real(0)), COUNTS).double()
    nothing = torch.zeros(3, 0, dtype=torch.float64)
    targets = TargetBatch(y[:, None], torch.ones(3, 1, dtype=torch.bool), offset=exposure.log())
    head.finish([(nothing, None, targets)])
    assert_allclose(head.bias.exp().item(), 3.0, rtol=1e-6)
    eta = head(nothing, None, exposure.log())
    assert_allclose(eta[:, 0].exp().detach(), 3 * exposure, rtol=1e-6)
    with pytest.raises(InputError, match="bayesian-poisson"):
        fitted()[0](rows(2), None, torch.zeros(2))


def test_three_classes_find_the_mode() -> None:
    z = rows(300, 2)
    y = (z @ torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.5, 0.0]]).double()).argmax(1).double()
    y[::5] = 0
    head = LaplaceCategorical(HiddenBasis(Event.real(2), 6), THREE).double()
    head.finish([(z, None, batch(y))])
    eta = head(z)
    accuracy = (eta.argmax(1) == y).double().mean()
    assert accuracy > 0.75
    assert_allclose(head.law(eta).probabilities.sum(1), 1, rtol=1e-12)


@pytest.mark.parametrize("target", [BINARY, THREE], ids=["two", "three"])
def test_far_away_classes_are_not_certain(target: Target) -> None:
    z = rows(60, 2)
    y = (z[:, 0] > 0).double() if len(target.classes) == 2 else torch.arange(60).double() % 3
    head = LaplaceCategorical(LinearBasis(Event.real(2)), target).double()
    head.finish([(z, None, batch(y))])
    across = torch.tensor([[0.0, 1e4]], dtype=torch.float64)
    assert head.law(head(across)).probabilities.max() < 0.99


def test_variance_is_a_sum_of_squares() -> None:
    factor = rows(3, 3, 4)
    phi = rows(5, 2, 5)
    design = torch.cat([phi, torch.ones(5, 1).double()], 1)
    expected = torch.einsum("ni,ij,nj->n", design, factor.T @ factor, design)
    assert_allclose(variance_of(phi, factor), expected, rtol=1e-12)


@pytest.mark.parametrize("head", ["bayesian-linear", "bayesian-poisson"])
def test_estimators_call_finish(head: str, tmp_path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    brief = TrainingConfig(steps=30)
    if head == "bayesian-poisson":
        y = rng.poisson(np.exp(0.5 + X[:, 0])).astype(float)
    else:
        y = 3 * X[:, 0] + rng.normal(size=300)
    model = HybridRegressor("actnorm", head=head, training=brief, random_state=0).fit(X, y)
    module = model.models_[0].head
    assert (module.factor if head == "bayesian-linear" else module.factors).abs().max() > 0
    assert np.corrcoef(model.predict(X), y)[0, 1] > 0.7
    path = tmp_path / "model.hflow"
    model.save(path)
    assert_array_equal(HybridRegressor.load(path).predict(X), model.predict(X))


def test_a_classifier_with_a_posterior() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = np.where(X[:, 0] > 0, "up", "down")
    model = HybridClassifier(
        "actnorm", head="bayesian-linear", training=TrainingConfig(steps=30), random_state=0
    ).fit(X, y)
    assert model.score(X, y) > 0.93
