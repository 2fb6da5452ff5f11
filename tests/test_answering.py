"""The flat table of answers: what estimators answer one by one, in one pass."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from hybridflow import (
    FlowDensity,
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
    Positive,
    TrainingConfig,
)
from hybridflow.answering import OUTPUTS, Answerer, AnswerParams
from hybridflow.errors import ConfigError, InputError
from hybridflow.estimators.base import FlowEstimator
from hybridflow.flows.affine import RealNVP

QUICK = TrainingConfig(steps=30)
FLOW = RealNVP(layers=2, hidden_units=8)
X = np.random.default_rng(0).normal(size=(300, 3))
NUMBER = X[:, 0] + 0.3 * np.random.default_rng(1).normal(size=300)
LABEL = np.where(NUMBER > 0, "high", "low")
PAIR = pd.DataFrame({"first": NUMBER, "second": X[:, 1] * 2})
SEVERAL = pd.DataFrame({"warm": (NUMBER > 0).astype(int), "wet": (X[:, 1] > 0).astype(int)})
FAR = np.vstack([X[:20], [[9.0, -9.0, 9.0]]])


def frame() -> pd.DataFrame:
    """Return rows with ties, text, and cells that are missing."""
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    table["b"] = table["b"].round()
    table.loc[::7, "c"] = np.nan
    table["kind"] = np.where(X[:, 2] > 0, "up", "down")
    return table


def with_calibration_rows() -> FlowEstimator:
    return HybridClassifier(FLOW, members=2, training=QUICK, calibration=0.2, random_state=0).fit(
        X, LABEL
    )


MODELS: dict[str, Callable[[], FlowEstimator]] = {
    "classes": lambda: HybridClassifier(FLOW, members=2, training=QUICK, random_state=0).fit(
        X, LABEL
    ),
    "classes-calibrated-on-unseen-rows": with_calibration_rows,
    "whole-number-classes": lambda: HybridClassifier(FLOW, training=QUICK, random_state=0).fit(
        X, (NUMBER > 0).astype(int)
    ),
    "several-labels": lambda: HybridClassifier(
        FLOW, head="multi-label", members=1, training=QUICK, random_state=0
    ).fit(X, SEVERAL),
    "number": lambda: HybridRegressor(FLOW, members=2, training=QUICK, random_state=0).fit(
        X, NUMBER
    ),
    "two-numbers": lambda: HybridRegressor(
        FLOW, head="gaussian", members=1, training=QUICK, random_state=0
    ).fit(X, PAIR),
    "density": lambda: FlowDensity(FLOW, members=2, training=QUICK, random_state=0).fit(X),
    "outliers": lambda: FlowOutlierDetector(training=QUICK, random_state=0).fit(X),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> FlowEstimator:
    return MODELS[request.param]()


@pytest.fixture(scope="module")
def mixed() -> HybridClassifier:
    """A model of ties, levels and missing cells, in two members."""
    return HybridClassifier(FLOW, members=2, training=QUICK, random_state=0).fit(frame(), LABEL)


def numbers(table: dict[str, list[object]], *names: str) -> np.ndarray:
    return np.array([table[name] for name in names], dtype=float).T


def test_the_table_is_what_the_methods_answer(model: FlowEstimator) -> None:
    asked = AnswerParams(coverage=0.8, rejection=0.1)
    table = Answerer(model).answer(FAR, asked)
    detector = isinstance(model, FlowOutlierDetector)
    density = model.log_density(FAR) if detector else model.score_samples(FAR)
    close = pytest.approx
    assert table["log_density"] == close(density.tolist(), rel=1e-12)
    assert table["novelty"] == close(model.novelty_pvalue(FAR).tolist(), rel=1e-12)
    if "abstained" in table:
        assert table["abstained"] == model.abstain(FAR, 0.1).tolist()
    predictions = [name for name in table if name.startswith("prediction")]
    if predictions:
        expected = np.asarray(model.predict(FAR)).reshape(len(FAR), -1)
        gone = table.get("abstained", [False] * len(FAR))
        for name, column in zip(predictions, expected.T.tolist(), strict=True):
            column = [None if out else cell for cell, out in zip(column, gone, strict=True)]
            assert table[name] == (close(column, rel=1e-12) if column[0] is float else column)
    if isinstance(model, HybridClassifier):
        chances = numbers(table, *(name for name in table if name.startswith("probability_")))
        assert chances == close(model.predict_proba(FAR), rel=1e-12)
    if isinstance(model, HybridRegressor):
        ends = [name for name in table if name.startswith(("lower", "upper"))]
        expected = model.predict_interval(FAR, 0.8).reshape(len(FAR), -1)
        assert numbers(table, *ends) == close(expected, rel=1e-12)
    sets = [name for name in table if name.startswith("in_set_")]
    if sets:
        assert numbers(table, *sets).astype(bool).tolist() == model.predict_set(FAR, 0.8).tolist()


def test_the_columns_are_those_that_are_announced(model: FlowEstimator) -> None:
    answerer = Answerer(model)
    table = answerer.answer(X[:4])
    assert list(table) == [column.name for column in answerer.columns]
    kinds = {"boolean": bool, "long": int, "double": float, "string": str}
    for column in answerer.columns:
        cells = [cell for cell in table[column.name] if cell is not None]
        assert all(type(cell) is kinds[column.type] for cell in cells), column
    json.loads(json.dumps(table, allow_nan=False))


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_alone_is_the_one_in_the_whole_table(model: FlowEstimator, output: str) -> None:
    answerer = Answerer(model)
    if output not in answerer.outputs:
        with pytest.raises(ConfigError, match=f"'{output}' is nothing that this model answers"):
            answerer.answer(X[:4], AnswerParams(output=output))
        return
    whole, alone = answerer.answer(X[:4]), answerer.answer(X[:4], AnswerParams(output=output))
    names = [column.name for column in answerer.columns if column.output == output]
    assert alone == {name: whole[name] for name in names}


def test_names_of_the_columns() -> None:
    def names(which: str) -> list[str]:
        return [column.name for column in Answerer(MODELS[which]()).columns]

    rest = ["log_density", "novelty", "abstained"]
    labels = ["probability_high", "probability_low", "in_set_high", "in_set_low"]
    assert names("classes") == ["prediction", *labels, *rest]
    assert names("number") == ["prediction", "lower", "upper", *rest]
    ends = ["lower_first", "upper_first", "lower_second", "upper_second"]
    assert names("two-numbers") == ["prediction_first", "prediction_second", *ends, *rest]
    several = ["prediction_warm", "prediction_wet", "probability_warm", "probability_wet"]
    assert names("several-labels") == [*several, *rest]
    assert names("density") == ["log_density", "novelty"]
    assert names("outliers") == ["prediction", "log_density", "novelty"]


def test_ties_levels_and_missing_cells(mixed: HybridClassifier) -> None:
    table, answers = frame(), Answerer(mixed).answer(frame())
    assert answers["log_density"] == pytest.approx(mixed.score_samples(table).tolist(), rel=1e-12)
    assert answers["novelty"] == pytest.approx(mixed.novelty_pvalue(table).tolist(), rel=1e-12)
    chances = numbers(answers, "probability_high", "probability_low")
    assert chances == pytest.approx(mixed.predict_proba(table), rel=1e-12)
    assert answers["abstained"] == mixed.abstain(table).tolist()


def test_a_row_alone_is_the_row_in_a_batch(mixed: HybridClassifier) -> None:
    answerer, table = Answerer(mixed), frame()
    whole = answerer.answer(table[:5])
    for i in range(5):
        for name, (cell,) in answerer.answer(table[i : i + 1]).items():
            same = (
                pytest.approx(whole[name][i], rel=1e-9) if type(cell) is float else whole[name][i]
            )
            assert cell == same


def test_the_strange_row_is_declined_and_has_no_prediction() -> None:
    answerer = Answerer(MODELS["classes"]())
    table = answerer.answer(FAR)
    assert table["abstained"][-1] is True
    assert table["prediction"][-1] is None
    sure = answerer.answer(FAR, AnswerParams(rejection=0.0))
    assert sure["abstained"] == [False] * len(FAR)
    assert None not in sure["prediction"]


def test_what_is_not_finite_is_null() -> None:
    positive = np.exp(X)
    model = FlowDensity(FLOW, columns={0: Positive()}, training=QUICK, random_state=0).fit(positive)
    outside = Answerer(model).answer([[-1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    assert outside["log_density"][0] is None
    assert outside["log_density"][1] is not None
    assert outside["novelty"][0] == min(outside["novelty"])
    few = HybridRegressor(FLOW, training=QUICK, random_state=0).fit(X, NUMBER)
    assert Answerer(few).answer(X[:1], AnswerParams(coverage=0.9999))["lower"] == [None]


def test_large_tables_are_answered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    answerer = Answerer(MODELS["number"]())
    whole = answerer.answer(X)
    monkeypatch.setattr("hybridflow.answering._PART", 64)
    parts = answerer.answer(X)
    assert parts["abstained"] == whole["abstained"]
    assert parts["upper"] == pytest.approx(whole["upper"], rel=1e-9)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"coverage": 0.0}, "coverage"),
        ({"coverage": 1.0}, "coverage"),
        ({"coverage": "high"}, "coverage"),
        ({"rejection": -0.1}, "rejection"),
        ({"rejection": 1.0}, "rejection"),
        ({"rejection": float("nan")}, "rejection"),
        ({"output": 3}, "output"),
        ({"outputs": "all"}, "outputs"),
    ],
    ids=str,
)
def test_params_that_cannot_be(params: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AnswerParams(**params)


def test_an_output_that_is_misspelt() -> None:
    with pytest.raises(ConfigError, match="did you mean 'novelty'"):
        Answerer(MODELS["density"]()).answer(X, AnswerParams(output="novlty"))


def test_rows_that_cannot_be_read() -> None:
    with pytest.raises(InputError):
        Answerer(MODELS["density"]()).answer([[1.0, np.inf, 0.0]])
    with pytest.raises(NotFittedError):
        Answerer(FlowDensity())


def test_too_few_held_out_rows_decline_nothing_and_warn_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small table
        model = HybridClassifier(FLOW, training=QUICK, random_state=0).fit(X[:60], LABEL[:60])
    table = Answerer(model).answer(X[:10], AnswerParams(rejection=0.001, coverage=0.999))
    assert table["abstained"] == [False] * 10
    assert table["in_set_high"] == [True] * 10
