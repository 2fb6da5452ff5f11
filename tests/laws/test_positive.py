"""Gamma and beta laws against scipy, high precision and quadrature."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from hybridflow.errors import InputError
from hybridflow.laws import BetaLaw, Discretized, GammaLaw, Law, MixtureLaw

GAMMA = GammaLaw([1e-6, 3.0, 2e9], [0.3, 2.0, 4000.0])
BETA = BetaLaw([0.2, 3.0, 8000.0], [0.5, 1.0, 150.0])
SCALE = (GAMMA.mean() / GAMMA.shape)[:, None]
REFERENCES = {
    "gamma": stats.gamma(GAMMA.shape[:, None], scale=SCALE),
    "beta": stats.beta(BETA.alpha[:, None], BETA.beta[:, None]),
}
LAWS = {"gamma": GAMMA, "beta": BETA}
MEMBERS = {
    "members-gamma": MixtureLaw([GAMMA, GammaLaw([2e-6, 1.0, 1e9], [4.0, 9.0, 1.0])]),
    "members-beta": MixtureLaw([BETA, BetaLaw([1.0, 9.0, 2.0], [5.0, 9.0, 2.0])]),
}
LEVELS = np.array([[1e-12, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-12]])


@pytest.fixture(params=LAWS, ids=str)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[*LAWS, *MEMBERS], ids=str)
def law(request: pytest.FixtureRequest) -> Law:
    return {**LAWS, **MEMBERS}[request.param]


def test_agrees_with_scipy(name: str) -> None:
    law, reference = LAWS[name], REFERENCES[name]
    y = reference.ppf(LEVELS)
    assert_allclose(law.log_prob(y), reference.logpdf(y), rtol=1e-9, atol=1e-9)
    assert_allclose(law.cdf(y), reference.cdf(y), rtol=1e-11)
    assert_allclose(law.sf(y), reference.sf(y), rtol=1e-11)
    assert_allclose(law.mean(), reference.mean()[:, 0], rtol=1e-13)
    assert_allclose(law.std(), reference.std()[:, 0], rtol=1e-13)


@pytest.mark.parametrize("p", [1e-300, 1e-100, 1e-12, 0.2, 0.5, 0.8, 1 - 1e-12], ids=str)
def test_quantile_inverts_the_tail_that_keeps_its_digits(name: str, p: float) -> None:
    law = LAWS[name]
    y = law.quantile(p)
    found, wanted = (law.sf(y), 1 - p) if p > 0.5 else (law.cdf(y), p)
    slack = 8 * np.spacing(np.abs(y)) * np.exp(law.log_prob(y)) / wanted
    held = y > 1e-300  # below, and next to 1, float64 knows no number in between
    held &= (name == "gamma") | (y < 1 - 1e-15)
    assert (np.abs(found / wanted - 1) < 1e-11 + slack)[held].all()
    assert held.sum() > 1


def test_quantile_at_the_ends() -> None:
    assert_array_equal(GAMMA.quantile([[0.0, 1.0]]), [[0, np.inf]] * 3)
    assert_array_equal(BETA.quantile([[0.0, 1.0]]), [[0, 1]] * 3)


def test_density_is_the_derivative_of_the_cdf(law: Law) -> None:
    y = law.quantile([[0.1, 0.4, 0.6, 0.9]])
    h = 1e-4 * np.minimum(law.std()[:, None], y)
    around = [law.cdf(y + k * h) for k in (-2, -1, 1, 2)]
    slope = (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / (12 * h)
    assert_allclose(slope, np.exp(law.log_prob(y)), rtol=1e-7)


@pytest.mark.parametrize("row", range(3))
def test_samples_follow_the_cdf(law: Law, row: int) -> None:
    draws = law.sample(4000, np.random.default_rng(row))
    assert draws.shape == (3, 4000)
    assert stats.kstest(law.cdf(draws)[row], "uniform").pvalue > 1e-3


def test_rows_are_picked(law: Law) -> None:
    part = law[np.array([2, 0])]
    assert_array_equal(part.mean(), law.mean()[[2, 0]])
    assert_array_equal(part.log_prob([[0.2, 0.7]]), law.log_prob([[0.2, 0.7]])[[2, 0]])
    assert len(law[1]) == 1
    assert law.lattice is None


@pytest.mark.parametrize("shape", [1e-13, 0.01, 1.0, 30.0, 1e6], ids=str)
@pytest.mark.parametrize("mean", [1e-9, 4.0, 1e12], ids=str)
def test_gamma_density_against_high_precision(mean: float, shape: float) -> None:
    law = GammaLaw([mean], [shape])
    for ratio in (1e-8, 0.9, 1.0, 1 + 1e-5, 60.0):
        y = mean * ratio
        with mpmath.workdps(60):
            m, k, v = mpmath.mpf(mean), mpmath.mpf(shape), mpmath.mpf(y)
            logs = k * mpmath.log(k / m) - mpmath.loggamma(k)
            expected = float(logs + (k - 1) * mpmath.log(v) - k * v / m)
        assert_allclose(law.log_prob(y)[0], expected, rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("alpha", [1e-15, 0.4, 1.0, 2e6], ids=str)
@pytest.mark.parametrize("beta", [1e-15, 0.4, 25.0, 1e6], ids=str)
def test_beta_density_against_high_precision(alpha: float, beta: float) -> None:
    law = BetaLaw([alpha], [beta])
    for y in (1e-300, 1e-5, 0.5, 2 / 3, 0.999, 1 - 1e-12):
        with mpmath.workdps(60):
            a, b, v = mpmath.mpf(alpha), mpmath.mpf(beta), mpmath.mpf(y)
            logs = mpmath.loggamma(a + b) - mpmath.loggamma(a) - mpmath.loggamma(b)
            expected = float(logs + (a - 1) * mpmath.log(v) + (b - 1) * mpmath.log(1 - v))
        assert_allclose(law.log_prob(y)[0], expected, rtol=1e-12, atol=1e-9)


def test_densities_at_and_beyond_the_ends() -> None:
    gamma = GammaLaw([2.0, 2.0, 2.0], [0.5, 1.0, 3.0])
    assert_array_equal(gamma.log_prob(-1.0), -np.inf)
    assert_allclose(gamma.log_prob(0.0), [np.inf, -np.log(2), -np.inf])
    assert_array_equal(gamma.log_prob(np.inf), -np.inf)
    beta = BetaLaw([0.5, 1.0, 3.0], [1.0, 3.0, 0.5])
    assert_array_equal(beta.log_prob([[-0.1, 1.1]]), -np.inf)
    assert_allclose(beta.log_prob(0.0), [np.inf, np.log(3), -np.inf])
    assert_allclose(beta.log_prob(1.0), [np.log(0.5), -np.inf, np.inf])


def test_tails_beyond_the_ends(law: Law) -> None:
    assert_array_equal(law.cdf([[-1.0, np.inf]]), [[0, 1]] * 3)
    assert_array_equal(law.sf([[-1.0, np.inf]]), [[1, 0]] * 3)
    for method in (law.cdf, law.sf, law.log_prob):
        assert np.isnan(method(np.nan)).all()


@pytest.mark.parametrize("alpha", [1e-17, 25.0, 1e9], ids=str)
@pytest.mark.parametrize("beta", [1e-17, 25.0, 1e9], ids=str)
def test_quantiles_of_extreme_betas_are_shares(alpha: float, beta: float) -> None:
    y = BetaLaw([alpha], [beta]).quantile([[0.0, 1e-300, 1e-12, 0.5, 1 - 1e-12, 1.0]])
    assert ((y >= 0) & (y <= 1)).all()
    assert (np.diff(y) >= 0).all()


def test_rounded_gamma_has_the_mass_of_its_cells() -> None:
    law = Discretized(GAMMA[1], step=0.5)
    y = np.array([[0.5, 1.0, 4.0, 40.0]])
    mass = REFERENCES["gamma"].sf(y - 0.25)[1] - REFERENCES["gamma"].sf(y + 0.25)[1]
    assert_allclose(np.exp(law.log_prob(y))[0], mass, rtol=1e-7)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan], ids=str)
@pytest.mark.parametrize("family", [GammaLaw, BetaLaw])
def test_parameters_are_positive(family: type[Law], bad: float) -> None:
    for parameters in (([bad], [1.0]), ([1.0], [bad])):
        with pytest.raises(InputError, match="must be positive"):
            family(*parameters)  # type: ignore[call-arg]
