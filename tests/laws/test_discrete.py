"""Categorical and Poisson laws, and mixtures of them, against scipy and enumeration."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from hybridflow.errors import InputError
from hybridflow.laws import CategoricalLaw, Discretized, GaussianLaw, Law, MixtureLaw, PoissonLaw

PROBABILITIES = np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [0.1, 0.1, 0.8]])
CATEGORICAL = CategoricalLaw(PROBABILITIES, ("a", "b", "c"))
POISSON = PoissonLaw([0.0, 0.3, 900.0])
LAWS = {
    "categorical": CATEGORICAL,
    "poisson": POISSON,
    "members-categorical": MixtureLaw([CATEGORICAL, CATEGORICAL[[2, 1, 0]]], [0.3, 0.7]),
    "members-poisson": MixtureLaw([POISSON, PoissonLaw([4.0, 7.0, 30.0])]),
    "members-rounded": MixtureLaw(
        [
            Discretized(GaussianLaw([0.0, 7.0, 5.0], [0.3, 9.0, 1.0]), step=2.0, origin=1.0),
            Discretized(GaussianLaw([4.0, -7.0, 5.0], [0.3, 1.0, 2.0]), step=2.0, origin=1.0),
        ]
    ),
}


@pytest.fixture(params=LAWS, ids=str)
def law(request: pytest.FixtureRequest) -> Law:
    return LAWS[request.param]


@pytest.fixture
def points(law: Law) -> np.ndarray:
    assert law.lattice is not None
    origin, step = law.lattice
    return (origin + step * np.arange(-60, 2000))[None]


def test_masses_sum_to_the_cdf_and_the_sf(law: Law, points: np.ndarray) -> None:
    mass = np.exp(law.log_prob(points))
    assert_allclose(np.cumsum(mass, 1), law.cdf(points), rtol=1e-9, atol=1e-14)
    above = np.cumsum(mass[:, ::-1], 1)[:, ::-1] - mass
    assert_allclose(above, law.sf(points), rtol=1e-9, atol=1e-14)


def test_moments_by_enumeration(law: Law, points: np.ndarray) -> None:
    mass = np.exp(law.log_prob(points))
    mean = (mass * points).sum(1)
    assert_allclose(law.mean(), mean, rtol=1e-10, atol=1e-12)
    variance = (mass * (points - mean[:, None]) ** 2).sum(1)
    assert_allclose(law.std(), np.sqrt(variance), rtol=1e-9, atol=1e-12)


def test_quantile_is_the_smallest_point_that_reaches_p(law: Law, points: np.ndarray) -> None:
    p = np.array([[1e-9, 0.03, 0.1, 0.25, 0.5, 0.77, 0.95, 1 - 1e-9]])
    y = law.quantile(p)
    assert np.isin(y, points).all()
    step = law.lattice[1]  # type: ignore[index]
    slack = 1e-13
    assert (law.cdf(y) >= p - slack).all()
    assert (law.cdf(y - step) < p + slack).all()


def test_cdf_is_a_step_function(law: Law, points: np.ndarray) -> None:
    step = law.lattice[1]  # type: ignore[index]
    some = points[:, 50:70]
    assert_array_equal(law.cdf(some + 0.4 * step), law.cdf(some))
    assert_array_equal(law.sf(some + 0.4 * step), law.sf(some))


@pytest.mark.parametrize("row", range(3))
def test_samples_have_the_masses(law: Law, points: np.ndarray, row: int) -> None:
    draws = law.sample(5000, np.random.default_rng(10 + row))[row]
    assert np.isin(draws, points).all()
    expected = 5000 * np.exp(law[row].log_prob(points))[0]
    observed = (draws[:, None] == points).sum(0)
    assert (observed[expected == 0] == 0).all()
    often = expected >= 5
    rest = max(5000 - expected[often].sum(), 1e-9)
    statistic = ((observed - expected)[often] ** 2 / expected[often]).sum()
    statistic += (observed[~often].sum() - rest) ** 2 / max(rest, 1.0)
    assert stats.chi2.sf(statistic, max(often.sum(), 1)) > 1e-3


def test_shapes_line_up_with_rows(law: Law) -> None:
    assert law.cdf(1.0).shape == law.log_prob(np.ones(3)).shape == law.quantile(0.5).shape == (3,)
    assert law.sf([[0.0, 1.0]]).shape == law.quantile([[0.1, 0.9]]).shape == (3, 2)
    with pytest.raises(InputError, match="a law of 3 rows takes"):
        law.cdf(np.zeros(4))


def test_rows_are_picked(law: Law) -> None:
    part = law[np.array([2, 0])]
    assert_array_equal(part.mean(), law.mean()[[2, 0]])
    assert_array_equal(part.log_prob([[1.0, 3.0]]), law.log_prob([[1.0, 3.0]])[[2, 0]])
    assert len(law[1]) == 1


def test_categorical_outside_its_codes() -> None:
    assert_array_equal(CATEGORICAL.log_prob([[-1.0, 0.5, 3.0]]), -np.inf)
    assert_array_equal(CATEGORICAL.cdf([[-0.1, 5.0, np.inf]]), [[0, 1, 1]] * 3)
    assert_allclose(CATEGORICAL.sf([[-0.1, 2.0, np.inf]]), [[1, 0, 0]] * 3)
    assert np.isnan(CATEGORICAL.cdf(np.nan)).all()
    assert np.isnan(CATEGORICAL.log_prob(np.nan)).all()


def test_categorical_keeps_the_digits_of_log_probabilities() -> None:
    law = CategoricalLaw([[1.0, 0.0]], (0, 1), log_probabilities=[[0.0, -1e4]])
    assert law.log_prob(1.0) == -1e4
    assert law[0].log_prob(1.0) == -1e4


def test_categorical_draws_no_impossible_class() -> None:
    law = CategoricalLaw(np.tile([0.0, 0.3, 0.0, 0.7, 0.0], (4, 1)), range(5))
    assert_array_equal(np.unique(law.sample(2000, np.random.default_rng(0))), [1, 3])
    assert_array_equal(law.quantile([[1.0]]), 3)


def test_categorical_shape_is_checked() -> None:
    with pytest.raises(InputError, match=r"2 classes must have shape \(n, 2\), got \(1, 3\)"):
        CategoricalLaw([[0.2, 0.3, 0.5]], ("no", "yes"))


def test_poisson_agrees_with_scipy() -> None:
    reference = stats.poisson(POISSON.rate[:, None])
    y = np.array([[0.0, 1.0, 2.0, 17.0, 900.0, 1500.0]])
    assert_allclose(POISSON.cdf(y), reference.cdf(y), rtol=1e-12)
    assert_allclose(POISSON.sf(y), reference.sf(y), rtol=1e-9)
    assert_allclose(POISSON.log_prob(y), reference.logpmf(y), rtol=1e-12)
    p = np.array([[0.0, 1e-9, 0.5, 1 - 1e-9, 1.0]])
    assert_array_equal(POISSON.quantile(p)[1:], np.maximum(reference.ppf(p), 0)[1:])
    assert_array_equal(POISSON.quantile(0.7)[0], 0)


def test_poisson_between_and_below_counts() -> None:
    assert_allclose(PoissonLaw([2.0]).log_prob(1.5), 1.5 * np.log(2) - 2 - np.log(1.32934039), 1e-7)
    assert_array_equal(POISSON.log_prob(-1.0), -np.inf)
    assert_array_equal(POISSON.cdf(-0.5), 0)
    assert_array_equal(POISSON.sf(-0.5), 1)
    assert np.isnan(POISSON.cdf(np.nan)).all()


def test_poisson_survives_extreme_rates() -> None:
    law = PoissonLaw([0.0, 1e-300, 1e15, 1e30])
    draws = law.sample(3, np.random.default_rng(0))
    assert np.isfinite(draws).all()
    assert_array_equal(draws[:2], 0)
    y = law.quantile([[0.1, 0.9]])[2]
    assert_allclose(y, 1e15 + np.sqrt(1e15) * stats.norm.ppf([0.1, 0.9]), atol=10)


def test_poisson_rate_is_checked() -> None:
    with pytest.raises(InputError, match="rate must not be negative"):
        PoissonLaw([1.0, -2.0])


def test_mixture_of_counts_and_numbers_has_no_lattice() -> None:
    law = MixtureLaw([PoissonLaw([3.0]), GaussianLaw([2.5], [1.0])])
    assert law.lattice is None
    y = law.quantile([[0.05, 0.2, 0.6, 0.9]])
    p = np.array([[0.05, 0.2, 0.6, 0.9]])
    assert_array_equal(law.quantile([[0.0, 0.5, 1.0]])[:, ::2], [[-np.inf, np.inf]])
    assert (law.cdf(y) >= p - 1e-12).all()
    assert (law.cdf(y - 1e-9) <= p + 1e-8).all()
