"""Weibull and log-normal laws against scipy and high precision."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from hybridflow.errors import InputError
from hybridflow.laws import FailureTimeLaw, LogNormalLaw, WeibullLaw

WEIBULL = WeibullLaw([1.0, 30.0, 1e-3], [0.7, 2.0, 15.0])
LOG_NORMAL = LogNormalLaw([0.0, 3.0, -7.0], [1.2, 0.5, 0.02])
LAWS: dict[str, FailureTimeLaw] = {"weibull": WEIBULL, "log-normal": LOG_NORMAL}
REFERENCES = {
    "weibull": stats.weibull_min(np.array([[0.7], [2.0], [15.0]]), scale=[[1.0], [30.0], [1e-3]]),
    "log-normal": stats.lognorm(
        np.array([[1.2], [0.5], [0.02]]), scale=np.exp([[0.0], [3.0], [-7.0]])
    ),
}


@pytest.fixture(params=LAWS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_agrees_with_scipy(name: str) -> None:
    law, reference = LAWS[name], REFERENCES[name]
    y = law.quantile(np.linspace(0.001, 0.999, 41)[None])
    assert_allclose(law.log_prob(y), reference.logpdf(y), rtol=1e-9, atol=1e-9)
    assert_allclose(law.cdf(y), reference.cdf(y), rtol=1e-10)
    assert_allclose(law.sf(y), reference.sf(y), rtol=1e-10)
    assert_allclose(law.mean(), reference.mean()[:, 0], rtol=1e-12)
    assert_allclose(law.std(), reference.std()[:, 0], rtol=1e-9)
    p = np.array([[1e-12, 0.01, 0.5, 0.99, 1 - 1e-9]])
    assert_allclose(law.quantile(p), reference.ppf(p), rtol=1e-10)


def test_survival_keeps_its_digits_far_out(name: str) -> None:
    y = LAWS[name].quantile(0.5)[:, None] * np.array([[4.0, 10.0]])
    assert_allclose(LAWS[name].sf(y), REFERENCES[name].sf(y), rtol=1e-8)


def test_nothing_happens_before_time_0(name: str) -> None:
    law = LAWS[name]
    assert_array_equal(law.cdf([[-1.0, 0.0]]), 0.0)
    assert_array_equal(law.sf([[-1.0, 0.0]]), 1.0)
    assert_array_equal(law.log_prob([[-1.0, 0.0, np.inf]]), -np.inf)
    assert_array_equal(law.quantile([[0.0, 1.0]]), [[0.0, np.inf]] * 3)
    assert np.isnan(law.log_prob(np.nan)).all()


@pytest.mark.parametrize("width", [1e-12, 1e-6, 0.1, 2.0], ids=lambda w: f"width-{w}")
@pytest.mark.parametrize("place", [0.01, 1.0, 6.0], ids=lambda w: f"place-{w}")
def test_mass_of_an_interval_in_high_precision(place: float, width: float) -> None:
    low = place * 2.0
    high = low + low * width
    with mpmath.workdps(60):
        a, b = mpmath.mpf(low), mpmath.mpf(high)
        hazard = [(t / 3) ** mpmath.mpf("1.5") for t in (a, b)]
        weibull = mpmath.log(mpmath.exp(-hazard[0]) - mpmath.exp(-hazard[1]))
        z = [(mpmath.log(t) - mpmath.mpf("0.4")) / mpmath.mpf("0.3") for t in (a, b)]
        log_normal = mpmath.log(mpmath.ncdf(z[1]) - mpmath.ncdf(z[0]))
    found = WeibullLaw([3.0], [1.5]).log_mass(low, high)[0]
    # What remains is the rounding of the interval's own ends.
    rtol = 1e-12 + 1e-15 / width
    assert_allclose(found, float(weibull), rtol=rtol)
    found = LogNormalLaw([0.4], [0.3]).log_mass(low, high)[0]
    assert_allclose(found, float(log_normal), rtol=1e-11 + 1e-15 / width)


def test_open_intervals(name: str) -> None:
    law, y = LAWS[name], LAWS[name].quantile(0.3)
    assert_allclose(law.log_mass(y, np.inf), np.log(0.7), rtol=1e-10)
    assert_allclose(law.log_mass(0.0, y), np.log(0.3), rtol=1e-10)
    assert_allclose(law.log_mass([[-5.0]], y[:, None]), np.log(0.3), rtol=1e-10)
    assert_array_equal(law.log_mass(-2.0, -1.0), -np.inf)
    assert_allclose(law.log_mass(0.0, np.inf), 0.0, atol=1e-12)


def test_samples_follow_the_cdf(name: str) -> None:
    draws = LAWS[name].sample(4000, np.random.default_rng(3))
    for row in range(3):
        assert stats.kstest(LAWS[name].cdf(draws)[row], "uniform").pvalue > 1e-3


def test_rows_are_picked(name: str) -> None:
    law = LAWS[name]
    assert_allclose(law[np.array([2, 0])].mean(), law.mean()[[2, 0]], rtol=1e-14)


def test_parameters_are_positive() -> None:
    with pytest.raises(InputError, match="shape must be positive, got -1"):
        WeibullLaw([1.0], [-1.0])
    with pytest.raises(InputError, match="scale must be positive"):
        LogNormalLaw([1.0], [0.0])
