"""Negative binomial and zero-inflated laws against scipy, high precision and enumeration."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from hybridflow.errors import InputError
from hybridflow.laws import (
    GaussianLaw,
    Law,
    MixtureLaw,
    NegativeBinomialLaw,
    PoissonLaw,
    ZeroInflatedLaw,
)

NEGATIVE = NegativeBinomialLaw([0.02, 4.0, 300.0], [3.0, 0.5, 1e-6])
ZEROS = ZeroInflatedLaw(PoissonLaw([0.5, 3.0, 200.0]), [-2.0, 0.0, 5.0])
BOTH = ZeroInflatedLaw(NEGATIVE, [1.0, -8.0, 0.3])
LAWS = {
    "negative-binomial": NEGATIVE,
    "zero-inflated-poisson": ZEROS,
    "zero-inflated-negative-binomial": BOTH,
    "members": MixtureLaw([NEGATIVE, ZEROS], [0.25, 0.75]),
}
COUNTS = np.arange(3000.0)[None]


@pytest.fixture(params=LAWS, ids=str)
def law(request: pytest.FixtureRequest) -> Law:
    return LAWS[request.param]


def test_masses_sum_to_the_cdf_and_the_sf(law: Law) -> None:
    mass = np.exp(law.log_prob(COUNTS))
    assert_allclose(np.cumsum(mass, 1), law.cdf(COUNTS), rtol=1e-9)
    above = np.cumsum(mass[:, ::-1], 1)[:, ::-1] - mass
    seen = above > 1e-200
    # scipy's incomplete beta function keeps nine digits where one argument is a million.
    assert_allclose(law.sf(COUNTS)[seen], above[seen], rtol=1e-8)


def test_moments_by_enumeration(law: Law) -> None:
    mass = np.exp(law.log_prob(COUNTS))
    mean = (mass * COUNTS).sum(1)
    assert_allclose(law.mean(), mean, rtol=1e-10)
    assert_allclose(law.std() ** 2, (mass * (COUNTS - mean[:, None]) ** 2).sum(1), rtol=1e-9)


def test_quantile_is_the_smallest_count_that_reaches_p(law: Law) -> None:
    p = np.array([[1e-9, 0.03, 0.25, 0.5, 0.73, 0.95, 1 - 1e-9]])
    y = law.quantile(p)
    assert (law.cdf(y) >= p - 1e-13).all()
    assert (law.cdf(y - 1) < p + 1e-13).all()
    assert_array_equal(law.quantile([[0.0, 1.0]]), [[0, np.inf]] * 3)


@pytest.mark.parametrize("row", range(3))
def test_samples_have_the_masses(law: Law, row: int) -> None:
    draws = law.sample(6000, np.random.default_rng(row))[row]
    expected = 6000 * np.exp(law[row].log_prob(COUNTS))[0]
    observed = np.bincount(draws.astype(int), minlength=COUNTS.size)
    often = expected >= 5
    rest = max(6000 - expected[often].sum(), 1e-9)
    statistic = ((observed - expected)[often] ** 2 / expected[often]).sum()
    statistic += (observed[~often].sum() - rest) ** 2 / max(rest, 1.0)
    assert stats.chi2.sf(statistic, max(often.sum(), 1)) > 1e-3


def test_rows_are_picked(law: Law) -> None:
    part = law[np.array([2, 0])]
    assert_array_equal(part.mean(), law.mean()[[2, 0]])
    assert_array_equal(part.log_prob([[0.0, 3.0]]), law.log_prob([[0.0, 3.0]])[[2, 0]])
    assert len(law[1]) == 1
    assert part.lattice == (0.0, 1.0)


def test_outside_and_between_counts(law: Law) -> None:
    assert_array_equal(law.log_prob(-1.0), -np.inf)
    assert_array_equal(law.cdf([[-0.5, np.inf]]), [[0, 1]] * 3)
    assert_array_equal(law.sf([[-0.5, np.inf]]), [[1, 0]] * 3)
    assert_array_equal(law.cdf(2.7), law.cdf(2.0))
    for method in (law.cdf, law.sf, law.log_prob):
        assert np.isnan(method(np.nan)).all()


def test_negative_binomial_agrees_with_scipy() -> None:
    mean, dispersion = np.array([0.3, 12.0, 5000.0]), np.array([2.0, 0.1, 0.9])
    law = NegativeBinomialLaw(mean, dispersion)
    r = 1 / dispersion[:, None]
    reference = stats.nbinom(r, r / (r + mean[:, None]))
    y = np.array([[0.0, 1.0, 3.0, 20.0, 400.0, 9000.0]])
    assert_allclose(law.log_prob(y), reference.logpmf(y), rtol=1e-10)
    assert_allclose(law.cdf(y), reference.cdf(y), rtol=1e-10)
    assert_allclose(law.sf(y), reference.sf(y), rtol=1e-9)
    assert_allclose(law.std(), reference.std()[:, 0], rtol=1e-13)
    p = np.array([[0.01, 0.5, 0.99]])
    assert_array_equal(law.quantile(p), reference.ppf(p))


@pytest.mark.parametrize("dispersion", [1e-13, 1e-6, 0.2, 40.0], ids=str)
@pytest.mark.parametrize("mean", [1e-4, 7.0, 1e6], ids=str)
def test_negative_binomial_against_high_precision(mean: float, dispersion: float) -> None:
    law = NegativeBinomialLaw([mean], [dispersion])
    for count in (0, 1, 9, 1_000_000, 10**15):
        with mpmath.workdps(60):
            m, y, r = mpmath.mpf(mean), mpmath.mpf(count), 1 / mpmath.mpf(dispersion)
            logs = mpmath.loggamma(y + r) - mpmath.loggamma(r) - mpmath.loggamma(y + 1)
            expected = float(logs + r * mpmath.log(r / (r + m)) + y * mpmath.log(m / (r + m)))
        # As with a Poisson law, terms of the size of the mean add up to something small.
        slack = 1e-12 + 4e-15 * mean
        assert_allclose(law.log_prob(count)[0], expected, rtol=1e-12, atol=slack)


def test_negative_binomial_becomes_the_poisson_law() -> None:
    mean = np.array([0.1, 5.0, 2000.0])
    law, poisson = NegativeBinomialLaw(mean, np.full(3, 1e-13)), PoissonLaw(mean)
    y = np.array([[0.0, 2.0, 7.0, 1900.0, 2100.0]])
    assert_allclose(law.log_prob(y), poisson.log_prob(y), rtol=1e-9)
    assert_allclose(law.cdf(y), poisson.cdf(y), rtol=1e-7)


@pytest.mark.parametrize("mean", [1e-30, 4e16], ids=str)
@pytest.mark.parametrize("dispersion", [1e-13, 1.0, 1e13], ids=str)
def test_extreme_negative_binomials_stay_finite(mean: float, dispersion: float) -> None:
    law = NegativeBinomialLaw([mean], [dispersion])
    assert np.isfinite(law.std()).all()
    assert np.isfinite(law.quantile([[1e-12, 0.5, 1 - 1e-12]])).all()
    assert np.isfinite(law.log_prob([[0.0, 1e9]])).all()
    assert np.isfinite(law.sample(4, np.random.default_rng(0))).all()


def test_zeros_that_are_certain_or_impossible() -> None:
    law = ZeroInflatedLaw(PoissonLaw([4.0, 4.0]), [1e8, -1e8])
    plain = PoissonLaw([4.0])
    y = np.array([[0.0, 3.0]])
    assert_allclose(law.log_prob(y)[0], [0, -1e8 + plain.log_prob(3.0)[0]])
    assert_allclose(law.log_prob(y)[1], plain.log_prob(y)[0])
    assert_array_equal(law.quantile(0.999)[0], 0)
    assert_array_equal(law.quantile([[0.1, 0.9]])[1], plain.quantile([[0.1, 0.9]])[0])
    assert_array_equal(law.mean(), [0, 4])


def test_upper_tail_of_inflated_counts_keeps_its_digits() -> None:
    expected = 0.5 * stats.poisson.sf(60, 3.0)
    assert 0 < expected < 1e-40
    assert_allclose(ZEROS.sf(60.0)[1], expected, rtol=1e-12)


@pytest.mark.parametrize(("mean", "dispersion"), [(0.0, 1.0), (np.nan, 1.0), (2.0, -1.0)])
def test_parameters_are_positive(mean: float, dispersion: float) -> None:
    with pytest.raises(InputError, match="must be positive"):
        NegativeBinomialLaw([mean], [dispersion])


def test_only_counts_are_inflated() -> None:
    with pytest.raises(InputError, match="counts must be a law of counts, got GaussianLaw"):
        ZeroInflatedLaw(GaussianLaw([0.0], [1.0]), [0.0])
