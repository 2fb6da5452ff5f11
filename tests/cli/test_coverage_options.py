"""``hybridflow predict --interval`` and ``--set``."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import hybridflow as package
from hybridflow.flows import RealNVP


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Folder with a table of rows enough to hold some out, and its models."""
    folder = tmp_path_factory.mktemp("coverage")
    rng = np.random.default_rng(0)
    X = pl.DataFrame(rng.normal(size=(300, 2)), schema=["a", "b"])
    y = (X["a"] + 0.3 * rng.normal(size=300)).rename("y")
    flow = RealNVP(layers=2, hidden_units=8, hidden_layers=1)
    settings = {"training": package.TrainingConfig(steps=20), "members": 1, "random_state": 0}
    kind = np.where(y.to_numpy() > 0, "yes", "no")
    package.HybridRegressor(flow, **settings).fit(X, y).save(folder / "number.hflow")
    package.HybridClassifier(flow, **settings).fit(X, kind).save(folder / "kind.hflow")
    both = np.column_stack([y, -y])
    package.HybridRegressor(flow, head="gaussian", **settings).fit(
        X, pl.DataFrame(both, schema=["up", "down"])
    ).save(folder / "both.hflow")
    package.HybridRegressor(flow, **settings).fit(X[:50], y[:50]).save(folder / "few.hflow")
    X.write_csv(folder / "rows.csv")
    return folder


def test_an_interval_is_two_columns(hybridflow, many):
    outcome = hybridflow("predict", many / "number.hflow", many / "rows.csv", "--interval", "0.8")
    assert outcome.code == 0
    ends = package.load(many / "number.hflow").predict_interval(pl.read_csv(many / "rows.csv"), 0.8)
    np.testing.assert_allclose(outcome.table.select("lower", "upper").to_numpy(), ends, rtol=1e-9)


def test_a_set_is_a_column_per_class(hybridflow, many):
    outcome = hybridflow("predict", many / "kind.hflow", many / "rows.csv", "--set", "0.8")
    assert outcome.code == 0
    found = package.load(many / "kind.hflow").predict_set(pl.read_csv(many / "rows.csv"), 0.8)
    columns = outcome.table.select("in_set_no", "in_set_yes")
    np.testing.assert_array_equal(columns.to_numpy(), found)


def test_several_outputs_have_an_interval_each(many):
    from hybridflow.cli.predict import intervals

    model, X = package.load(many / "both.hflow"), pl.read_csv(many / "rows.csv")
    found = intervals(model, X, 0.8)
    assert list(found) == ["lower_up", "upper_up", "lower_down", "upper_down"]
    np.testing.assert_array_equal(found["upper_down"], model.predict_interval(X, 0.8)[:, 1, 1])


@pytest.mark.parametrize(
    ("model", "option"), [("kind.hflow", "--interval"), ("number.hflow", "--set")]
)
def test_an_option_of_another_task_is_refused(hybridflow, many, model, option):
    outcome = hybridflow("predict", many / model, many / "rows.csv", option, "0.9")
    assert (outcome.code, outcome.out) == (1, b"")
    assert f"{option}: this model predicts no" in outcome.said


@pytest.mark.parametrize("coverage", ["0", "1", "90", "nan", "most"])
@pytest.mark.parametrize("option", ["--interval", "--set"])
def test_a_coverage_that_cannot_be_is_wrong_usage(hybridflow, option, coverage):
    outcome = hybridflow("predict", "m", "a.csv", option, coverage)
    assert (outcome.code, outcome.out) == (2, b"")


def test_too_few_held_out_rows_are_said(hybridflow, many):
    outcome = hybridflow("predict", many / "few.hflow", many / "rows.csv", "--interval", "0.9")
    assert outcome.code == 0
    assert "the intervals are infinite" in outcome.said
    assert outcome.table["upper"].is_infinite().all()
