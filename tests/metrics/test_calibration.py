"""Calibration by hand-computed bins, closed forms and models that are right by construction."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from hybridflow.errors import ConfigError, InputError
from hybridflow.metrics import calibration_bins, expected_calibration_error, top_label


def test_bins_of_equally_many_rows_by_hand():
    bins = calibration_bins(
        [0, 0, 1, 1, 0, 1], [0.1, 0.2, 0.3, 0.7, 0.8, 0.9], n_bins=3, strategy="quantile"
    )
    assert bins.counts.tolist() == [2, 2, 2]
    np.testing.assert_allclose(bins.stated, [0.15, 0.5, 0.85])
    np.testing.assert_allclose(bins.observed, [0.0, 1.0, 0.5])
    assert bins.error == pytest.approx((0.15 + 0.5 + 0.35) / 3)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_bins_agree_with_scikit_learn(strategy):
    rng = np.random.default_rng(0)
    probability = rng.beta(0.5, 0.8, 500)
    outcome = rng.random(500) < probability**1.3
    bins = calibration_bins(outcome, probability, n_bins=7, strategy=strategy)
    observed, stated = calibration_curve(outcome, probability, n_bins=7, strategy=strategy)
    filled = bins.counts > 0
    np.testing.assert_allclose(bins.stated[filled], stated)
    np.testing.assert_allclose(bins.observed[filled], observed)


def test_empty_bins_have_no_share_and_no_weight():
    bins = calibration_bins([1, 0], [0.95, 0.05], n_bins=10, strategy="uniform")
    assert bins.counts.tolist() == [1, *[0] * 8, 1]
    assert np.isnan(bins.observed[1:-1]).all()
    assert bins.error == pytest.approx(0.05)


def test_probabilities_that_repeat_share_a_bin():
    bins = calibration_bins([1, 0, 1, 1], [0.5] * 4, n_bins=15)
    assert bins.counts.tolist() == [4]
    assert bins.error == 0.25


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_error_of_a_constant_confidence_is_its_gap_to_the_accuracy(strategy):
    y = np.array([0, 0, 0, 1])
    assert expected_calibration_error(y, [[0.9, 0.1]] * 4, strategy=strategy) == pytest.approx(0.15)


def test_vector_of_probabilities_is_that_of_the_second_label():
    y = np.array(["no", "yes", "yes", "no"])
    p = np.array([0.2, 0.7, 0.4, 0.6])
    table = np.column_stack([1 - p, p])
    assert expected_calibration_error(y, p) == expected_calibration_error(y, table)
    right, confidence = top_label(y, p)
    assert right.tolist() == [True, True, False, False]
    np.testing.assert_allclose(confidence, [0.8, 0.7, 0.6, 0.6])


def test_calibrated_model_has_the_error_that_its_doc_says():
    """0.8 sqrt(b c (1 - c) / n) on average at one confidence c, and it falls with n."""
    rng = np.random.default_rng(0)
    c, n, b = 0.8, 2000, 10
    confidence = rng.uniform(c - 1e-6, c + 1e-6, (300, n))
    outcome = rng.random((300, n)) < confidence
    errors = [
        calibration_bins(o, p, n_bins=b).error for o, p in zip(outcome, confidence, strict=True)
    ]
    expected = np.sqrt(2 / np.pi) * np.sqrt(b * c * (1 - c) / n)
    standard_error = np.std(errors) / np.sqrt(len(errors))
    assert abs(np.mean(errors) - expected) < 4 * standard_error + 0.01 * expected


def test_labels_of_columns_are_needed_where_one_is_absent():
    probabilities = [[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]]
    with pytest.raises(InputError, match="pass labels="):
        expected_calibration_error(["a", "c"], probabilities)
    error = expected_calibration_error(["a", "c"], probabilities, labels=["a", "b", "c"], n_bins=1)
    assert error == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("y", "probability", "settings", "error", "message"),
    [
        ([0, 1], [0.5, 1.5], {}, InputError, "got 1.5 at row 1"),
        ([0, 1], [0.5, np.nan], {}, InputError, "NaN, first at row 1"),
        ([0, 1, 1], [0.5, 0.5], {}, InputError, "3 rows"),
        ([0, 2], [0.5, 0.5], {}, InputError, "True and False"),
        ([], [], {}, InputError, "entry per row"),
        ([0, 1], [0.5, 0.5], {"n_bins": 0}, ConfigError, "n_bins"),
        ([0, 1], [0.5, 0.5], {"n_bins": True}, ConfigError, "n_bins"),
        ([0, 1], [0.5, 0.5], {"strategy": "kmeans"}, ConfigError, "'quantile' or 'uniform'"),
    ],
    ids=["above-1", "nan", "length", "not-binary", "empty", "no-bins", "bool-bins", "strategy"],
)
def test_what_cannot_be_used_is_named(y, probability, settings, error, message):
    with pytest.raises(error, match=message):
        calibration_bins(y, probability, **settings)


def test_unknown_label_is_named():
    with pytest.raises(InputError, match="'z' at row 1"):
        top_label(["a", "z"], [[0.5, 0.5]] * 2, labels=["a", "b"])
