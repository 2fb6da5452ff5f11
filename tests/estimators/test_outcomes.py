"""Reading y of a regression or of several labels, and the estimators on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import r2_score

from hybridflow import HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.errors import ConfigError, ConstantTargetWarning, InputError
from hybridflow.estimators.indicators import is_table, read_indicators
from hybridflow.estimators.outcomes import (
    Outcomes,
    batch_of_outcomes,
    outcome_target,
    read_one,
    read_outcomes,
)

BRIEF = TrainingConfig(steps=150)
NAN, INF = np.nan, np.inf


def read(y: Any, n: int = 3) -> Outcomes:
    return read_outcomes(y, n, "Model")


# -- several outputs -----------------------------------------------------------

TABLES = {
    "array": np.array([[1.0, 2.0], [3.0, NAN], [5.0, 6.0]]),
    "list": [[1, 2], [3, None], [5, 6]],
    "pandas": pd.DataFrame({"y0": [1, 3, 5], "y1": [2.0, None, 6.0]}),
    "polars": pl.DataFrame({"y0": [1, 3, 5], "y1": [2.0, None, 6.0]}),
    "nullable": pd.DataFrame({"y0": [1, 3, 5], "y1": [2, pd.NA, 6]}).astype("Int64"),
}


@pytest.mark.parametrize("name", TABLES)
def test_columns_are_outputs(name: str) -> None:
    found = read(TABLES[name])
    assert_array_equal(found.values, [[1, 2], [3, NAN], [5, 6]])
    assert found.names == ("y0", "y1")
    assert found.labelled.all()
    batch = batch_of_outcomes(found)
    assert batch.observed.tolist() == [[True, True], [True, False], [True, True]]
    assert batch.lower is None


def test_one_column_is_one_output() -> None:
    assert read(pd.Series([1, 2, 3], name="price")).names == ("price",)
    assert read([1, 2, 3]).values.shape == (3, 1)


def test_each_output_has_its_location_scale_and_step() -> None:
    found = read(np.array([[1.5, 2.0], [3.0, 4.0], [NAN, 12.0]]))
    target = outcome_target(found, np.ones(3))
    assert_allclose(target.location, [2.25, 6.0])
    assert target.steps == (0.0, 2.0)
    assert target.output(1).step == 2.0
    assert target.from_json(target.model_dump(mode="json")) == target


def test_constant_and_missing_outputs_are_named() -> None:
    with pytest.warns(ConstantTargetWarning, match="output 'y1': y is constant"):
        outcome_target(read(np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]])), np.ones(3))
    weight = np.array([1.0, 0.0, 1.0])
    with pytest.raises(InputError, match="no labelled row of output 'y1' has a positive"):
        outcome_target(read(np.array([[1.0, NAN], [3.0, 2.0], [5.0, NAN]])), weight)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[1.0, INF], [2.0, 3.0], [1.0, 1.0]], "output 'y1': Input y contains infinity"),
        ([["a", "b"], ["c", "d"], ["e", "f"]], "output 'y0': y must hold numbers"),
        ([[1.0, NAN], [2.0, NAN], [3.0, NAN]], "output 'y1': .* no labelled row"),
        ([[1.0, 2.0], [2.0, 3.0]], "X has 3 rows, y has 2"),
        (pd.DataFrame([[1, 2]] * 3, columns=["a", "a"]), "different names"),
        (np.ones((3, 2, 2)), "1d array"),
    ],
    ids=["infinite", "text", "nothing", "short", "twice", "cube"],
)
def test_impossible_outputs(y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(y)


# -- censoring -----------------------------------------------------------------

EVENTS = {
    "structured": np.array([(True, 2.0), (False, 5.0), (True, 1.0)], [("e", "?"), ("t", "f8")]),
    "other-order": np.array([(2.0, True), (5.0, False), (1.0, True)], [("t", "f8"), ("e", "?")]),
    "pandas": pd.DataFrame({"t": [2.0, 5.0, 1.0], "e": [True, False, True]}),
    "polars": pl.DataFrame({"e": [True, False, True], "t": [2, 5, 1]}),
    "nullable": pd.DataFrame({"e": pd.array([True, False, True], dtype="boolean"), "t": [2, 5, 1]}),
}


@pytest.mark.parametrize("name", EVENTS)
def test_events_and_times(name: str) -> None:
    found = read(EVENTS[name])
    assert found.names == ("t",)
    assert_array_equal(found.values[:, 0], [2, 5, 1])
    assert_array_equal(found.lower, found.values)
    assert_array_equal(found.upper[:, 0], [2, INF, 1])
    assert batch_of_outcomes(found).censored[:, 0].tolist() == [False, True, False]


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_bounds(frame: Any) -> None:
    low = [2.0, 5.0, -INF, 0.0, 1.0, NAN, -INF]
    high = [2.0, INF, 3.0, 4.0, 3.0, NAN, INF]
    found = read(frame({"upper": high, "lower": low}), 7)
    assert_array_equal(found.values[:, 0], [2, 5, 3, 2, 2, NAN, NAN])
    assert_array_equal(found.labelled, [True] * 5 + [False] * 2)
    batch = batch_of_outcomes(found)
    assert batch.censored[:, 0].tolist() == [False, True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([1.0, 3.0, 1.0], [1.0, 2.0, 1.0], "lower=3 and upper=2 at row 1"),
        ([1.0, NAN, 1.0], [1.0, 2.0, 1.0], "at row 1: give both bounds"),
        ([1.0, INF, 1.0], [1.0, INF, 1.0], "at row 1; lower must not be above"),
        ([-INF] * 3, [INF] * 3, "no labelled row"),
    ],
    ids=["order", "half", "infinite", "nothing"],
)
def test_impossible_bounds(low: list[float], high: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(pd.DataFrame({"lower": low, "upper": high}))


def test_structured_arrays_of_other_kinds() -> None:
    y = np.zeros(3, [("a", "f8"), ("b", "f8"), ("c", "?")])
    with pytest.raises(InputError, match="two fields, a boolean event and a numeric time"):
        read(y)


def test_one_row() -> None:
    single = outcome_target(read([1.0, 2.0, 4.5]), np.ones(3))
    double = outcome_target(read(TABLES["array"]), np.ones(3))
    assert_array_equal(read_one(3, single), [3.0])
    assert_array_equal(read_one([1, 2], double), [1.0, 2.0])
    for target, wrong in ((single, "3"), (single, [1, 2]), (double, 1.0), (double, [1.0, INF])):
        with pytest.raises(InputError, match="finite number"):
            read_one(wrong, target)


# -- several labels ------------------------------------------------------------


def test_what_a_table_is() -> None:
    assert is_table(np.zeros((3, 2)))
    assert is_table(pl.DataFrame({"a": [1], "b": [2]}))
    for y in ([1, 2], np.zeros((3, 1)), [[1], [2]], None, "ab", ["ab", "cd"], []):
        assert not is_table(y)


@pytest.mark.parametrize("kind", [int, float, bool])
def test_indicators(kind: type) -> None:
    y = np.array([[0, 1], [1, 1], [0, 0]]).astype(kind)
    for table in (y, pd.DataFrame(y, columns=["y0", "y1"]), y.tolist()):
        assert_array_equal(read_indicators(table, 3, None, "Model").values, y)


def test_indicators_of_other_kinds() -> None:
    with pytest.raises(InputError, match=r"holds 2 at row 1 of 'y0'.*HybridRegressor"):
        read_indicators([[0, 1], [2, 1]], 2, None, "Model")
    with pytest.raises(ConfigError, match="class_weight is for one label per row"):
        read_indicators([[0, 1], [1, 1]], 2, "balanced", "Model")


# -- estimators ----------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 2))


@pytest.mark.parametrize("members", [1, 2])
def test_regression_of_several_outputs(table: np.ndarray, members: int, tmp_path: Path) -> None:
    y = np.stack([2 * table[:, 0] + 5, np.round(4 * table[:, 1])], 1)
    partly = y.copy()
    partly[::3, 0] = NAN
    partly[:5] = NAN
    model = HybridRegressor("realnvp", members=members, training=BRIEF, random_state=0)
    model.fit(table, pd.DataFrame(partly, columns=["a", "b"]))
    assert model.n_labeled_ == 295
    predicted = model.predict(table)
    assert min(r2_score(y, predicted, multioutput="raw_values")) > 0.9
    law = model.predict_distribution(table)
    assert law.quantile([[0.1, 0.9]]).shape == (300, 2, 2)
    assert law.marginal(1).lattice == (0.0, 1.0)
    joint = model.score_joint(table, y)
    assert_allclose(joint, model.score_samples(table) + law.log_prob(y))
    rows, drawn = model.sample(4, random_state=0)
    assert rows.shape == drawn.shape == (4, 2)
    rows, drawn = model.sample(5, y=[5.0, 0.0], random_state=0)
    assert_array_equal(drawn, [[5.0, 0.0]] * 5)
    assert rows.mean(0) == pytest.approx([0.0, 0.0], abs=0.7)
    path = tmp_path / "model.hflow"
    model.save(path)
    assert_array_equal(HybridRegressor.load(path).predict(table), predicted)
    with pytest.raises(InputError, match="every row needs a number"):
        model.score_joint(table, partly)


def test_survival(table: np.ndarray, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    time = np.exp(1 + table[:, 0]) * rng.weibull(2.0, 300)
    end = rng.exponential(8.0, 300)
    y = np.empty(300, [("e", "?"), ("t", "f8")])
    y["e"], y["t"] = time <= end, np.minimum(time, end)
    model = HybridRegressor(
        "realnvp", head="weibull", members=1, training=BRIEF, random_state=0
    ).fit(table, y)
    law = model.predict_distribution(table)
    # Who ignores censoring believes in shorter lives.
    assert np.median(np.log(law.quantile(0.5) / np.exp(1 + table[:, 0]) / 0.8326)) == pytest.approx(
        0, abs=0.15
    )
    assert (np.diff(law.sf([[1.0, 2.0, 5.0]])) < 0).all()
    events = y["e"]
    expected = np.where(events, law.log_prob(y["t"]), np.log(law.sf(y["t"])))
    assert_allclose(model.score_joint(table, y) - model.score_samples(table), expected, rtol=1e-9)
    bounds = pd.DataFrame({"lower": y["t"], "upper": np.where(events, y["t"], INF)})
    again = HybridRegressor("realnvp", head="weibull", members=1, training=BRIEF, random_state=0)
    assert_array_equal(again.fit(table, bounds).predict(table), model.predict(table))
    path = tmp_path / "model.hflow"
    model.save(path)
    assert_array_equal(HybridRegressor.load(path).predict(table), model.predict(table))


def test_heads_that_know_no_censoring_refuse_it(table: np.ndarray) -> None:
    bounds = pd.DataFrame({"lower": table[:, 0], "upper": table[:, 0] + 2})
    with pytest.raises(InputError, match="300 censored values, first at row 0"):
        HybridRegressor("realnvp", training=BRIEF).fit(table, bounds)


def test_classification_with_several_labels(table: np.ndarray, tmp_path: Path) -> None:
    y = (table > [0.0, 0.5]).astype(int)
    partly = y.astype(float)
    partly[::4, 1] = NAN
    model = HybridClassifier(
        "realnvp", head="multi-label", members=1, training=BRIEF, random_state=0
    )
    model.fit(table, partly)
    assert model.classes_.tolist() == [0, 1]
    assert model.predict(table).dtype.kind == "i"
    assert model.score(table, y) > 0.9
    probabilities = model.predict_proba(table)
    assert probabilities.shape == (300, 2)
    assert_allclose(np.exp(model.predict_log_proba(table)), probabilities)
    each = np.where(y, probabilities, 1 - probabilities)
    joint = model.score_samples(table) + np.log(each).sum(1)
    assert_allclose(model.score_joint(table, y), joint)
    rows, drawn = model.sample(6, y=[1, 0], random_state=0)
    assert_array_equal(drawn, [[1, 0]] * 6)
    assert (model.predict(rows) == drawn).mean() > 0.8
    assert model.sample(3, random_state=0)[1].shape == (3, 2)
    path = tmp_path / "model.hflow"
    model.save(path)
    assert_array_equal(HybridClassifier.load(path).predict(table), model.predict(table))


def test_heads_of_one_label_refuse_several(table: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="head 'categorical' knows one: use head='multi-label'"):
        HybridClassifier("realnvp", training=BRIEF).fit(table, (table > 0).astype(int))
