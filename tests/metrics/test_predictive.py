"""Laws beside y: closed forms, quadrature and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from hybridflow.errors import InputError
from hybridflow.laws import Discretized, GaussianLaw, MixtureLaw, PoissonLaw
from hybridflow.metrics import negative_log_likelihood, pit_values, quantile_calibration_error


def test_negative_log_likelihood_is_that_of_scipy():
    rng = np.random.default_rng(0)
    mean, std, y = rng.normal(size=50), rng.uniform(0.5, 2, 50), rng.normal(size=50)
    expected = -stats.norm(mean, std).logpdf(y).mean()
    assert negative_log_likelihood(y, GaussianLaw(mean, std)) == pytest.approx(expected, rel=1e-12)


def test_negative_log_likelihood_of_counts_is_of_masses():
    y = np.array([0.0, 3.0])
    expected = -stats.poisson([2.0, 5.0]).logpmf(y).mean()
    assert negative_log_likelihood(y, PoissonLaw([2.0, 5.0])) == pytest.approx(expected, rel=1e-12)


def test_pit_of_a_continuous_law_is_its_cdf():
    y = np.linspace(-2, 2, 9)
    law = GaussianLaw(np.zeros(9), np.ones(9))
    np.testing.assert_allclose(pit_values(y, law), stats.norm.cdf(y), rtol=1e-12)


@pytest.mark.parametrize("rate", [0.3, 4.0], ids=["mostly-zeros", "spread"])
def test_pit_of_counts_lies_in_the_step_of_the_cdf(rate):
    y = np.arange(8.0)
    u = pit_values(y, PoissonLaw(np.full(8, rate)), random_state=0)
    assert (stats.poisson(rate).cdf(y - 1) <= u).all()
    assert (u <= stats.poisson(rate).cdf(y)).all()


@pytest.mark.parametrize(
    "law",
    [
        PoissonLaw(np.full(4000, 2.0)),
        Discretized(GaussianLaw(np.full(4000, 1.0), np.full(4000, 1.5)), step=0.5),
        MixtureLaw([PoissonLaw(np.full(4000, 1.0)), PoissonLaw(np.full(4000, 6.0))]),
        GaussianLaw(np.zeros(4000), np.ones(4000)),
    ],
    ids=["poisson", "discretized", "mixture-of-counts", "gaussian"],
)
def test_pit_of_draws_is_uniform(law):
    y = law.sample(1, np.random.default_rng(1))[:, 0]
    assert stats.kstest(pit_values(y, law, random_state=2), "uniform").pvalue > 1e-3


def test_pit_repeats_with_its_seed():
    law = PoissonLaw(np.full(5, 2.0))
    first, again, other = (pit_values([0, 1, 2, 3, 4], law, random_state=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


@pytest.mark.parametrize(
    ("pit", "expected"),
    [([0.5], 0.25), ([0.0], 0.5), ([1.0], 0.5), ([0.25, 0.75], 0.125), ([0.5, 0.5], 0.25)],
    ids=["middle", "all-above", "all-below", "even-pair", "tied-pair"],
)
def test_quantile_calibration_error_by_hand(pit, expected):
    y = stats.norm.ppf(np.clip(pit, 1e-300, 1 - 1e-16))
    law = GaussianLaw(np.zeros(len(pit)), np.ones(len(pit)))
    assert quantile_calibration_error(y, law) == pytest.approx(expected, abs=1e-12)


def test_quantile_calibration_error_is_the_integral():
    y = np.random.default_rng(0).normal(0.3, 1.4, 40)
    law = GaussianLaw(np.zeros(40), np.ones(40))
    u = np.sort(stats.norm.cdf(y))
    integral, _ = integrate.quad(
        lambda p: abs((u <= p).mean() - p), 0, 1, points=u.tolist(), limit=200
    )
    assert quantile_calibration_error(y, law) == pytest.approx(integral, abs=1e-8)


def test_right_laws_have_the_error_that_the_doc_says():
    """sqrt(2 / pi) pi / 8 / sqrt(n), the mean area under a Brownian bridge."""
    rng = np.random.default_rng(0)
    n = 400
    law = GaussianLaw(np.zeros(n), np.ones(n))
    errors = [quantile_calibration_error(rng.normal(size=n), law) for _ in range(400)]
    standard_error = np.std(errors) / np.sqrt(len(errors))
    expected = np.sqrt(2 / np.pi) * np.pi / 8 / np.sqrt(n)
    assert abs(np.mean(errors) - expected) < 4 * standard_error + 0.02 * expected


@pytest.mark.parametrize("measure", [negative_log_likelihood, pit_values])
@pytest.mark.parametrize(
    ("y", "message"), [([0.0], "1 rows"), ([0.0, np.nan], "row 1")], ids=["length", "nan"]
)
def test_y_must_fit_the_law(measure, y, message):
    with pytest.raises(InputError, match=message):
        measure(y, GaussianLaw([0.0, 0.0], [1.0, 1.0]))
