"""The table over the weight of the likelihood, and its picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, ShuffleSplit

from hybridflow.errors import ConfigError, InputError
from hybridflow.metrics import expected_calibration_error, quantile_calibration_error
from hybridflow.plots import TradeOffDisplay, trade_off

COLUMNS = (
    "likelihood_weight",
    "split",
    "error",
    "negative_log_likelihood",
    "calibration",
    "log_density",
)


@pytest.mark.parametrize("container", [pd.DataFrame, pl.from_pandas], ids=["pandas", "polars"])
def test_rows_of_a_classifier_are_those_of_a_fit_by_hand(classifier, container):
    X, y = classifier.X, classifier.y
    model = clone(classifier.model).set_params(members=1)
    split = ShuffleSplit(1, test_size=0.3, random_state=0)
    table = trade_off(model, container(X), y, [0.5], cv=split)
    assert tuple(table) == COLUMNS
    train, test = next(split.split(X))
    again = clone(model).set_params(likelihood_weight=0.5).fit(X.iloc[train], y[train])
    probabilities = again.predict_proba(X.iloc[test])
    expected = [
        0.5,
        0,
        1 - again.score(X.iloc[test], y[test]),
        log_loss(y[test], probabilities, labels=again.classes_),
        expected_calibration_error(y[test], probabilities, labels=again.classes_),
        again.score_samples(X.iloc[test]).mean(),
    ]
    np.testing.assert_allclose([table[name][0] for name in COLUMNS], expected, rtol=1e-9)
    assert model.likelihood_weight == 0.3
    assert not hasattr(model, "models_")


def test_rows_of_a_regressor_are_those_of_a_fit_by_hand(regressor):
    X, y = regressor.X[:100, :3], regressor.y[:100]
    table = trade_off(regressor.model, X, y, [0.0, 1.0], cv=KFold(2))
    assert table["likelihood_weight"].tolist() == [0, 0, 1, 1]
    assert table["split"].tolist() == [0, 1, 0, 1]
    train, test = list(KFold(2).split(X))[1]
    again = clone(regressor.model).set_params(likelihood_weight=1.0).fit(X[train], y[train])
    law = again.predict_distribution(X[test])
    expected = [
        np.sqrt(np.mean((law.mean() - y[test]) ** 2)),
        -law.log_prob(y[test]).mean(),
        quantile_calibration_error(y[test], law, random_state=0),
        again.score_samples(X[test]).mean(),
    ]
    np.testing.assert_allclose([table[name][3] for name in COLUMNS[2:]], expected, rtol=1e-9)


def test_display_of_an_estimator_names_its_error(regressor):
    display = TradeOffDisplay.from_estimator(
        regressor.model, regressor.X[:80, :2], regressor.y[:80], [0.1], cv=KFold(2)
    )
    assert display.axes_[0, 0].get_ylabel() == "root mean squared error"
    assert display.weights.tolist() == [0.1]


def table(weights: list[float], splits: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = len(weights) * splits
    return {
        "likelihood_weight": np.repeat(weights, splits),
        "split": np.tile(np.arange(splits), len(weights)),
        **{name: rng.random(rows) for name in COLUMNS[2:]},
    }


@pytest.mark.parametrize("container", [dict, pd.DataFrame, pl.DataFrame])
def test_mean_and_splits_whatever_the_order_of_the_rows(container):
    rows = table([1.0, 0.0, 0.1], 4)
    shuffled = np.random.default_rng(1).permutation(12)
    display = TradeOffDisplay.from_predictions(
        container({name: values[shuffled] for name, values in rows.items()})
    )
    assert display.weights.tolist() == [0.0, 0.1, 1.0]
    for name in COLUMNS[2:]:
        expected = rows[name].reshape(3, 4)[[1, 2, 0]]
        np.testing.assert_array_equal(display.splits[name], expected)
        np.testing.assert_allclose(display.mean[name], expected.mean(axis=1))


@pytest.mark.parametrize(
    ("weights", "scale"),
    [([0.0, 0.1, 1.0], "symlog"), ([0.1, 1.0], "log"), ([0.0], "linear")],
    ids=["with-0", "positive", "only-0"],
)
def test_weights_stand_in_steps_of_factors(weights, scale):
    display = TradeOffDisplay.from_predictions(table(weights, 2))
    assert display.ax_.get_xscale() == scale
    labels = [text.get_text() for text in display.axes_[1, 0].get_xticklabels()]
    assert labels == [f"{weight:g}" for weight in weights]


def test_an_estimator_without_the_weight_is_refused():
    with pytest.raises(ConfigError, match="LogisticRegression has no likelihood_weight"):
        trade_off(LogisticRegression(), [[0.0], [1.0]], [0, 1])


def test_no_weight_is_refused(classifier):
    with pytest.raises(ConfigError, match="at least one value"):
        trade_off(classifier.model, classifier.X, classifier.y, [])


@pytest.mark.parametrize("spoil", ["column", "split"])
def test_a_table_of_another_kind_is_refused(spoil):
    rows = table([0.0, 1.0], 2)
    if spoil == "column":
        del rows["calibration"]
    else:
        rows = {name: values[:3] for name, values in rows.items()}
    message = {"column": "no column 'calibration'", "split": "same number of splits"}[spoil]
    with pytest.raises(InputError, match=message):
        TradeOffDisplay.from_predictions(rows)
