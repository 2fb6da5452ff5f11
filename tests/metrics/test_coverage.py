"""The beta-binomial band against a simulation of split-conformal prediction."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hybridflow.errors import ConfigError
from hybridflow.metrics import coverage_band


@pytest.mark.parametrize(
    ("calibration", "rows", "coverage"), [(19, 50, 0.9), (200, 300, 0.8)], ids=["few", "many"]
)
def test_band_holds_what_it_says_of_conformal_prediction(calibration, rows, coverage):
    rng = np.random.default_rng(0)
    rank = int(np.ceil((calibration + 1) * coverage - 1e-9))
    repeats = 4000
    threshold = np.sort(rng.random((repeats, calibration)), axis=1)[:, rank - 1]
    share = (rng.random((repeats, rows)) <= threshold[:, None]).mean(axis=1)
    lower, upper = coverage_band(rows, coverage, n_calibration=calibration)
    # Discrete: at least what is asked for inside, at most half of the rest beyond each side.
    assert ((lower <= share) & (share <= upper)).mean() >= 0.95 - 4 * np.sqrt(0.05 * 0.95 / repeats)
    for outside in (share < lower, share > upper):
        assert outside.mean() <= 0.025 + 4 * np.sqrt(0.025 / repeats)


def test_band_without_calibration_rows_is_binomial():
    lower, upper = coverage_band([10, 1000], 0.9)
    np.testing.assert_allclose(lower, stats.binom([10, 1000], 0.9).ppf(0.025) / [10, 1000])
    np.testing.assert_allclose(upper, stats.binom([10, 1000], 0.9).ppf(0.975) / [10, 1000])


def test_band_narrows_to_the_binomial_one():
    wide, narrow = (
        np.subtract(*coverage_band(500, 0.9, n_calibration=n)[::-1]) for n in (100, 10**6)
    )
    assert narrow == np.subtract(*coverage_band(500, 0.9)[::-1])
    assert wide > narrow


def test_rank_is_not_lifted_by_rounding():
    """(9 + 1) 0.9 = 9 is the ninth of nine; one row fewer and the set is everything."""
    lower, upper = coverage_band(20, 0.9, n_calibration=9)
    law = stats.betabinom(20, 9, 1)
    assert (lower, upper) == (law.ppf(0.025) / 20, law.ppf(0.975) / 20)
    assert coverage_band(20, 0.9, n_calibration=8) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((10, 1.0), {}, "coverage"),
        ((10, 0.9), {"confidence": 0.0}, "confidence"),
        ((0, 0.9), {}, "at least 1"),
        ((10, 0.9), {"n_calibration": 0}, "at least 1"),
    ],
    ids=["coverage", "confidence", "no-rows", "no-calibration"],
)
def test_what_cannot_be_used_is_named(arguments, settings, message):
    with pytest.raises(ConfigError, match=message):
        coverage_band(*arguments, **settings)
