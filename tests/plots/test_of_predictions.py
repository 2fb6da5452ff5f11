"""The numbers that displays of predictions show, against values known otherwise."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats

from hybridflow.errors import ConfigError, InputError
from hybridflow.laws import GaussianLaw, PoissonLaw
from hybridflow.metrics import area_under_risk_coverage, coverage_band, expected_calibration_error
from hybridflow.plots import (
    CoverageDisplay,
    DensityHistogramDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
)


def test_reliability_of_labels_is_drawn_as_it_is_held():
    rng = np.random.default_rng(0)
    p = rng.random(300)
    y = rng.random(300) < p
    display = ReliabilityDisplay.from_predictions(y, p, n_bins=6)
    assert display.error == expected_calibration_error(y, p, n_bins=6)
    assert display.counts.sum() == 300
    drawn = display.ax_.lines[-1].get_xydata()
    np.testing.assert_array_equal(drawn, np.column_stack([display.stated, display.observed]))
    bars = [bar.get_height() for bar in display.axes_[1].patches]
    np.testing.assert_array_equal(bars, display.counts)


def test_reliability_of_one_label_is_of_its_probability():
    p = np.array([0.1, 0.2, 0.7, 0.9])
    table = np.column_stack([1 - p, p])
    display = ReliabilityDisplay.from_predictions(
        ["no", "no", "yes", "no"], table, label="yes", n_bins=2
    )
    np.testing.assert_allclose(display.stated, [0.15, 0.8])
    np.testing.assert_allclose(display.observed, [0.0, 0.5])
    assert "yes" in display.axes_[1].get_xlabel()


def test_reliability_names_the_labels_that_it_knows():
    with pytest.raises(InputError, match=r"label='maybe' is none of the labels \['no', 'yes'\]"):
        ReliabilityDisplay.from_predictions(["no", "yes"], [0.1, 0.9], label="maybe")


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
def test_band_of_reliability_holds_a_model_that_is_right(strategy):
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(60):
        p = rng.beta(0.6, 0.6, 400)
        display = ReliabilityDisplay.from_predictions(
            rng.random(400) < p, p, label=True, n_bins=5, strategy=strategy
        )
        inside += list((display.lower <= display.observed) & (display.observed <= display.upper))
        plt.close(display.figure_)
    # Rows of a bin with unlike probabilities spread less than the binomial: never below 95 %.
    assert np.mean(inside) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / len(inside))


def test_reliability_of_a_law_counts_rows_below_quantiles():
    rng = np.random.default_rng(0)
    law = GaussianLaw(rng.normal(size=200), rng.uniform(0.5, 2, 200))
    y = rng.normal(size=200)
    display = ReliabilityDisplay.from_predictions(y, law, n_bins=5)
    np.testing.assert_allclose(display.stated, [0.2, 0.4, 0.6, 0.8])
    shares = [(y <= law.quantile(level)).mean() for level in display.stated]
    np.testing.assert_allclose(display.observed, shares)
    assert display.expected == (
        stats.binom(200, 0.2).ppf(0.025),
        stats.binom(200, 0.2).ppf(0.975),
    )


def test_reliability_of_counts_is_flat_when_right():
    law = PoissonLaw(np.full(3000, 1.5))
    y = law.sample(1, np.random.default_rng(0))[:, 0]
    display = ReliabilityDisplay.from_predictions(y, law, random_state=0)
    assert stats.chisquare(display.counts).pvalue > 1e-3


def test_risk_coverage_holds_what_the_metric_says():
    rng = np.random.default_rng(0)
    losses, good = rng.random(80), rng.random(80)
    scores = {"good": losses + 0.1 * good, "noise": good}
    display = RiskCoverageDisplay.from_predictions(losses, scores)
    for name, score in scores.items():
        assert display.area[name] == area_under_risk_coverage(losses, score)
        assert (display.best <= display.risk[name] + 1e-12).all()
        assert display.risk[name][-1] == pytest.approx(losses.mean())
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert f"good (area {display.area['good']:.3g})" in labels


def test_density_histogram_counts_every_row_once():
    rng = np.random.default_rng(0)
    scores = {
        "train": rng.normal(size=500),
        "far": np.array([-1e6, -np.inf, 0.0, 1e6]),
        "near": rng.normal(-1, 1, 300),
    }
    display = DensityHistogramDisplay.from_predictions(scores, threshold=-1.0)
    for name, values in scores.items():
        assert display.shares[name].sum() + sum(display.beyond[name]) == pytest.approx(1)
        assert display.below[name] == (values < -1).mean()
    assert display.beyond["far"] == (0.5, 0.25)
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert (
        labels[1]
        == "far (50 % below the threshold, 50 % off the left edge, 25 % off the right edge)"
    )


def test_density_histogram_of_scores_that_are_all_the_same():
    display = DensityHistogramDisplay.from_predictions({"train": [2.0, 2.0]})
    assert display.shares["train"].sum() == 1
    assert display.below == {}


@pytest.mark.parametrize(
    ("scores", "settings", "error", "message"),
    [
        ({}, {}, InputError, "at least one table"),
        ({"a": []}, {}, InputError, r"scores\['a'\]"),
        ({"a": [0.0, np.nan]}, {}, InputError, "without NaN"),
        ({"a": [-np.inf]}, {}, InputError, "no finite score"),
        ({"a": [0.0]}, {"n_bins": 0}, ConfigError, "n_bins"),
    ],
    ids=["no-table", "empty", "nan", "all-infinite", "no-bins"],
)
def test_density_histogram_names_what_it_cannot_use(scores, settings, error, message):
    with pytest.raises(error, match=message):
        DensityHistogramDisplay.from_predictions(scores, **settings)


def test_tables_of_a_density_histogram_have_names():
    with pytest.raises(InputError, match='"train": X_train'):
        DensityHistogramDisplay.from_estimator(None, [[1.0, 2.0]])


def test_coverage_by_group():
    covered = np.array([1, 1, 0, 1, 1, 1, 0, 0], dtype=bool)
    groups = np.array(["b", "b", "b", "a", "a", "a", "a", "a"])
    display = CoverageDisplay.from_predictions(covered, groups, coverage=0.8, n_calibration=50)
    assert display.groups == ("a", "b", "all rows")
    np.testing.assert_allclose(display.share, [3 / 5, 2 / 3, 5 / 8])
    assert display.rows.tolist() == [5, 3, 8]
    band = coverage_band([5, 3, 8], 0.8, n_calibration=50)
    np.testing.assert_array_equal([display.lower, display.upper], band)
    labels = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert labels == ["a (5)", "b (3)", "all rows (8)"]


def test_coverage_marks_a_group_that_is_not_covered():
    groups = np.repeat(["good", "bad"], 200)
    covered = np.concatenate([np.arange(200) % 10 > 0, np.arange(200) % 2 > 0])
    display = CoverageDisplay.from_predictions(covered, groups, coverage=0.9)
    outside = (display.share < display.lower) | (display.share > display.upper)
    assert dict(zip(display.groups, outside.tolist(), strict=True)) == {
        "bad": True,
        "good": False,
        "all rows": True,
    }
    marked = {line.get_label(): line.get_xdata().tolist() for line in display.ax_.lines[1:]}
    assert marked == {"within": [0.9], "outside": [0.5, 0.7]}


@pytest.mark.parametrize(
    ("covered", "groups", "message"),
    [
        ([], None, "one entry per row"),
        ([0.5, 1.0], None, "True and False"),
        ([True, False], ["a"], r"groups has shape \(1,\)"),
    ],
    ids=["empty", "not-boolean", "length"],
)
def test_coverage_names_what_it_cannot_use(covered, groups, message):
    with pytest.raises(InputError, match=message):
        CoverageDisplay.from_predictions(covered, groups)
