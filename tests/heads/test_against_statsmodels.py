"""Heads on the plain basis, fitted to the end, against the same models of statsmodels."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from numpy.testing import assert_allclose
from scipy import stats
from statsmodels.miscmodels.ordinal_model import OrderedModel
from statsmodels.othermod.betareg import BetaModel

from hybridflow.config import Config
from hybridflow.densities import Normal
from hybridflow.heads import (
    BernoulliHead,
    BetaHead,
    GammaHead,
    NegativeBinomialHead,
    OrdinalHead,
    PoissonHead,
    ZeroInflatedHead,
    hybridflow_heads,
)
from hybridflow.likelihoods import GeneralizedLinear, TargetBatch
from hybridflow.specs import Event, Target

SPECS = {spec.config: spec for spec in hybridflow_heads()}
N = 600
_RNG = np.random.default_rng(20)
X = _RNG.normal(size=(N, 2))
DESIGN = sm.add_constant(X)
SIGNAL = 0.3 + X @ [0.8, -0.5]
EXPOSURE = _RNG.uniform(0.2, 5.0, N)


def fitted(model: Any, **settings: Any) -> Any:
    """Fit a model of statsmodels, whose optimisers warn on their way to the right place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(disp=False, **settings)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(21)


def fit(config: Config, y: np.ndarray, target: Target, exposure: np.ndarray | None = None):
    """Return the head at the maximum of the likelihood, and the log-likelihood there."""
    head = SPECS[type(config)].build(Event.real(2), target, Normal(2), config).double()
    assert isinstance(head, GeneralizedLinear)
    z = torch.as_tensor(X)
    offset = None if exposure is None else torch.log(torch.as_tensor(exposure))
    values = torch.as_tensor(y, dtype=torch.float64)[:, None]
    targets = TargetBatch(values, torch.ones(N, 1, dtype=torch.bool), offset=offset)
    head.initialize(z, None, targets)
    optimizer = torch.optim.LBFGS(
        head.parameters(),
        max_iter=400,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = head.nll(head(z, None, offset), targets).mean()
        value.backward()
        return value

    optimizer.step(loss)
    return head, -N * loss().item()


def coefficients(head: GeneralizedLinear, output: int = 0) -> np.ndarray:
    """Return the intercept and the slopes of one output."""
    both = torch.cat([head.bias[output : output + 1], head.weight[output]])
    return both.detach().numpy()


def numbers(y: np.ndarray) -> Target:
    return Target(kind="regression", location=(float(y.mean()),), scale=(float(y.std()),))


def classes(k: int) -> Target:
    return Target(kind="classification", classes=tuple(range(k)))


@pytest.mark.parametrize(
    ("link", "peer"),
    [
        ("logit", sm.families.links.Logit()),
        ("probit", sm.families.links.Probit()),
        ("cloglog", sm.families.links.CLogLog()),
    ],
    ids=["logit", "probit", "cloglog"],
)
def test_bernoulli(link: str, peer: object, rng: np.random.Generator) -> None:
    y = (rng.logistic(size=N) < SIGNAL).astype(float)
    head, found = fit(BernoulliHead(basis="identity", link=link), y, classes(2))
    expected = sm.GLM(y, DESIGN, family=sm.families.Binomial(peer)).fit(tol=1e-12)
    assert_allclose(coefficients(head), expected.params, rtol=1e-6, atol=1e-6)
    assert_allclose(found, expected.llf, rtol=1e-9)


@pytest.mark.parametrize(
    ("link", "peer"),
    [("logit", "logit"), ("probit", "probit"), ("cloglog", stats.gumbel_l)],
    ids=["logit", "probit", "cloglog"],
)
def test_ordinal(link: str, peer: object, rng: np.random.Generator) -> None:
    y = np.digitize(SIGNAL + rng.logistic(size=N), [-1.0, 0.2, 2.0])
    head, found = fit(OrdinalHead(basis="identity", link=link), y, classes(4))
    model = OrderedModel(y, X, distr=peer)
    expected = fitted(model, method="bfgs", gtol=1e-8, maxiter=500)
    cuts = model.transform_threshold_params(expected.params)[1:-1]
    assert_allclose(coefficients(head)[1:], expected.params[:2], rtol=1e-4, atol=1e-5)
    assert_allclose(-coefficients(head)[0], cuts[0], rtol=1e-4, atol=1e-5)
    gaps = head.likelihood.gaps().detach()
    assert_allclose(gaps, np.diff(cuts), rtol=1e-4)
    assert_allclose(found, expected.llf, rtol=1e-8)


@pytest.mark.parametrize("exposure", [None, EXPOSURE], ids=["alone", "exposure"])
def test_poisson(exposure: np.ndarray | None, rng: np.random.Generator) -> None:
    y = rng.poisson(np.exp(SIGNAL) * (1 if exposure is None else exposure)).astype(float)
    head, found = fit(PoissonHead(basis="identity"), y, numbers(y), exposure)
    expected = fitted(sm.Poisson(y, DESIGN, exposure=exposure), tol=1e-10)
    assert_allclose(coefficients(head), expected.params, rtol=1e-6, atol=1e-6)
    assert_allclose(found, expected.llf, rtol=1e-9)


@pytest.mark.parametrize("exposure", [None, EXPOSURE], ids=["alone", "exposure"])
def test_negative_binomial(exposure: np.ndarray | None, rng: np.random.Generator) -> None:
    rate = np.exp(SIGNAL) * (1 if exposure is None else exposure)
    y = rng.poisson(rate * rng.gamma(1.5, 1 / 1.5, N)).astype(float)
    config = NegativeBinomialHead(basis="identity", dispersion="one")
    head, found = fit(config, y, numbers(y), exposure)
    expected = fitted(
        sm.NegativeBinomial(y, DESIGN, exposure=exposure), method="bfgs", gtol=1e-8, maxiter=500
    )
    assert_allclose(coefficients(head), expected.params[:3], rtol=1e-4, atol=1e-5)
    alpha = head.likelihood.dispersion.shared.exp().item()
    assert_allclose(alpha, expected.params[3], rtol=1e-4)
    assert_allclose(found, expected.llf, rtol=1e-8)


@pytest.mark.parametrize("counts", ["poisson", "negative-binomial"])
@pytest.mark.parametrize("exposure", [None, EXPOSURE], ids=["alone", "exposure"])
def test_zero_inflated(counts: str, exposure: np.ndarray | None, rng: np.random.Generator) -> None:
    rate = np.exp(0.7 + SIGNAL) * (1 if exposure is None else exposure)
    if counts == "negative-binomial":
        rate = rate * rng.gamma(3.0, 1 / 3.0, N)
    there = rng.random(N) < 1 / (1 + np.exp(-0.8 + X[:, 1]))
    y = np.where(there, rng.poisson(rate), 0).astype(float)
    head, found = fit(ZeroInflatedHead(basis="identity", counts=counts), y, numbers(y), exposure)
    peer = sm.ZeroInflatedPoisson if counts == "poisson" else sm.ZeroInflatedNegativeBinomialP
    expected = fitted(
        peer(y, DESIGN, exog_infl=DESIGN, exposure=exposure),
        start_params=[-0.8, 0, 1, 1, 0.8, -0.5, 0.3][: 6 if counts == "poisson" else 7],
        method="bfgs",
        gtol=1e-7,
        maxiter=1000,
    )
    assert_allclose(coefficients(head, 1), expected.params[:3], rtol=1e-3, atol=1e-4)
    assert_allclose(coefficients(head, 0), expected.params[3:6], rtol=1e-3, atol=1e-4)
    assert_allclose(found, expected.llf, rtol=1e-7)


def test_gamma(rng: np.random.Generator) -> None:
    mean = 1e-3 * np.exp(SIGNAL)
    y = rng.gamma(2.5, mean / 2.5)
    head, found = fit(GammaHead(basis="identity", dispersion="one"), y, numbers(y))
    family = sm.families.Gamma(sm.families.links.Log())
    expected = sm.GLM(y, DESIGN, family=family).fit(tol=1e-12)
    found_parameters = coefficients(head)
    found_parameters[0] += np.log(y.mean())  # the unit of the head
    assert_allclose(found_parameters, expected.params, rtol=1e-6, atol=1e-6)
    # statsmodels takes its scale from moments: the likelihood is compared at ours.
    dispersion = head.likelihood.dispersion.shared.exp().item()
    assert_allclose(found, family.loglike(y, expected.mu, scale=dispersion), rtol=1e-8)
    shapes = dispersion * np.array([0.99, 1.01])
    assert all(found > family.loglike(y, expected.mu, scale=scale) for scale in shapes)


@pytest.mark.parametrize("precision", ["one", "row"])
def test_beta(precision: str, rng: np.random.Generator) -> None:
    mean = 1 / (1 + np.exp(-SIGNAL))
    y = rng.beta(8 * mean, 8 * (1 - mean))
    head, found = fit(BetaHead(basis="identity", precision=precision), y, numbers(y))
    per_row = {} if precision == "one" else {"exog_precision": DESIGN}
    expected = fitted(BetaModel(y, DESIGN, **per_row), gtol=1e-8)
    assert_allclose(coefficients(head), expected.params[:3], rtol=1e-4, atol=1e-5)
    if precision == "row":
        assert_allclose(coefficients(head, 1), expected.params[3:], rtol=1e-4, atol=1e-4)
    else:
        assert_allclose(head.likelihood.precision.shared.item(), expected.params[3], rtol=1e-4)
    assert_allclose(found, expected.llf, rtol=1e-8)
