"""Every verb: what it writes to which stream, and its exit code."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import polars as pl
import pytest

import hybridflow as package

VERBS = ("fit", "predict", "score", "sample", "inspect", "verify", "plugins")


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_names_every_option(hybridflow, verb):
    outcome = hybridflow(*verb.split(), "--help")
    assert outcome.code == 0
    assert outcome.said == ""
    assert b"Usage:" in outcome.out
    if verb not in ("", "plugins"):
        assert b"Example" in outcome.out


def test_every_option_of_every_verb_is_documented():
    from hybridflow.cli.app import command

    undocumented = [
        f"{name} {parameter.name}"
        for name, verb in command().commands.items()
        for parameter in verb.params
        if not getattr(parameter, "help", None)
    ]
    assert undocumented == []


def test_version_is_the_packages(hybridflow):
    outcome = hybridflow("--version")
    assert outcome.out.decode() == f"hybridflow {package.__version__}\n"


def test_no_arguments_print_the_help_and_are_wrong_usage(hybridflow):
    outcome = hybridflow()
    assert outcome.code == 2
    assert "Usage:" in outcome.said + outcome.out.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ["fitt"],
        ["fit"],
        ["fit", "a.csv"],
        ["fit", "a.csv", "-o", "m", "--members", "x"],
        ["fit", "a.csv", "-o", "m", "--task", "clustering"],
        ["predict", "m"],
        ["predict", "m", "a.csv", "--quantiles", "0.5,1.5"],
        ["predict", "m", "a.csv", "--quantiles", "half"],
        ["sample", "m", "-n", "-1"],
        ["score", "m", "a.csv", "--nope"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(hybridflow, arguments):
    outcome = hybridflow(*arguments)
    assert outcome.code == 2
    assert outcome.out == b""
    assert "Error" in outcome.said


def test_fit_says_what_it_chose_and_saved(hybridflow, tables, tmp_path, fast):
    model = tmp_path / "m.hflow"
    outcome = hybridflow(
        "fit", tables / "classes.csv", "--target", "kind", "-o", model, "--flow", "nice", *fast[:4]
    )
    assert outcome.code == 0
    assert outcome.out == b""
    assert "150 rows, 3 features" in outcome.said
    assert "task: classification ('kind' holds text" in outcome.said
    assert "best at step" in outcome.said
    assert f"saved: {model}" in outcome.said
    assert "kind, 2 classes: high, low" in outcome.said
    assert package.load(model).get_params()["flow"].layers == 2


def test_fit_says_what_is_done_about_each_column(hybridflow, tables, tmp_path, fast):
    table = pl.read_csv(tables / "numbers.csv").with_columns(
        same=pl.lit(7), step=pl.int_range(pl.len()) % 4
    )
    table.write_csv(tmp_path / "t.csv")
    outcome = hybridflow("fit", tmp_path / "t.csv", "-o", tmp_path / "m.hflow", *fast)
    assert outcome.code == 0
    said = re.sub(" +", " ", outcome.said)
    assert "same Int64 left out: always 7" in said
    assert "step Int64 mass: whole multiples of 1 from 0 on" in said
    assert re.search(
        "warning: constant columns.* carry no information and are left out: 'same'", said
    )


def test_quiet_says_nothing(hybridflow, tables, tmp_path, fast):
    outcome = hybridflow("fit", tables / "numbers.csv", "-o", tmp_path / "m.hflow", "-q", *fast)
    assert (outcome.code, outcome.out, outcome.said) == (0, b"", "")


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"], "classification"),
        ([True, False], "classification"),
        ([3, 5], "classification"),
        ([0.5, 1.5], "regression"),
        (list(range(30)), "regression"),
    ],
    ids=["text", "true-false", "few-integers", "fractions", "many-integers"],
)
def test_task_follows_from_the_target(values, task):
    from hybridflow.cli.columns import guess_task

    chosen, _ = guess_task(pl.Series("y", values * 30))
    assert chosen == task


def test_same_seed_same_file(hybridflow, tables, tmp_path, fast):
    for name in ("first", "second"):
        fit = ["fit", tables / "numbers.csv", "--target", "y", "--seed", "3", *fast]
        assert hybridflow(*fit, "-o", tmp_path / name).code == 0
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_rows_without_target_train_the_density_alone(hybridflow, tables, tmp_path, fast):
    table = pl.read_csv(tables / "classes.csv")
    labelled = pl.int_range(pl.len()) % 3 > 0
    table.with_columns(kind=pl.when(labelled).then("kind")).write_csv(tmp_path / "t.csv")
    model = tmp_path / "m.hflow"
    fit = ["fit", tmp_path / "t.csv", "--target", "kind", "-o", model, *fast]
    assert hybridflow(*fit).code == 0
    assert package.load(model).n_labeled_ == 100
    assert package.load(model).classes_.tolist() == ["high", "low"]


def test_whole_number_classes_stay_whole_beside_empty_cells(hybridflow, tables, tmp_path, fast):
    table = pl.read_csv(tables / "numbers.csv").drop("y")
    kind = pl.when(pl.int_range(pl.len()) % 3 > 0).then(pl.int_range(pl.len()) % 2)
    table.with_columns(kind=kind).write_csv(tmp_path / "t.csv")
    model = tmp_path / "m.hflow"
    assert hybridflow("fit", tmp_path / "t.csv", "--target", "kind", "-o", model, *fast).code == 0
    outcome = hybridflow("predict", model, tmp_path / "t.csv")
    assert outcome.table.columns == ["prediction", "probability_0", "probability_1"]


def test_weights_columns_and_drop(hybridflow, tables, tmp_path, fast):
    fit = ["fit", tables / "numbers.csv", "--target", "y", *fast]
    weighted = hybridflow(
        *fit, "--set", "likelihood_weight=0", "--columns", "a,c", "-o", tmp_path / "a"
    )
    assert weighted.code == 0
    assert package.load(tmp_path / "a").feature_names_in_.tolist() == ["a", "c"]
    assert hybridflow(*fit, "--drop", "b", "-o", tmp_path / "b").code == 0
    assert package.load(tmp_path / "b").feature_names_in_.tolist() == ["a", "c"]
    negative = hybridflow(*fit, "--weight", "c", "-o", tmp_path / "c")
    assert negative.code == 1
    assert "sample_weight" in negative.said


def test_predict_gives_a_probability_per_class(hybridflow, tables):
    outcome = hybridflow("predict", tables / "classifier.hflow", tables / "classes.csv")
    assert outcome.code == 0
    assert "columns ignored: kind" in outcome.said
    table = outcome.table
    assert table.columns == ["prediction", "probability_high", "probability_low"]
    assert np.allclose(table["probability_high"] + table["probability_low"], 1)
    model = package.load(tables / "classifier.hflow")
    X = pl.read_csv(tables / "classes.csv").drop("kind")
    assert table["prediction"].to_list() == model.predict(X).tolist()


def test_predict_gives_spread_and_quantiles(hybridflow, tables):
    arguments = ["predict", tables / "regressor.hflow", tables / "numbers.csv"]
    outcome = hybridflow(*arguments, "--density")
    names = ["prediction", "std", "quantile_0.05", "quantile_0.5", "quantile_0.95", "log_density"]
    assert outcome.table.columns == names
    model = package.load(tables / "regressor.hflow")
    X = pl.read_csv(tables / "numbers.csv").drop("y")
    assert np.array_equal(outcome.table["prediction"], model.predict(X))
    assert np.array_equal(outcome.table["log_density"], model.score_samples(X))
    assert hybridflow(*arguments, "--quantiles", "0.25").table.columns[2:] == ["quantile_0.25"]
    assert hybridflow(*arguments, "--quantiles", "").table.columns == ["prediction", "std"]


def test_columns_are_matched_by_name(hybridflow, tables, tmp_path):
    table = pl.read_csv(tables / "numbers.csv")
    table.select("c", "y", "b", "a").write_csv(tmp_path / "t.csv")
    first = hybridflow("predict", tables / "regressor.hflow", tables / "numbers.csv")
    second = hybridflow("predict", tables / "regressor.hflow", tmp_path / "t.csv")
    assert first.out == second.out


def test_score_adds_the_joint_and_averages(hybridflow, tables):
    arguments = ["score", tables / "regressor.hflow", tables / "numbers.csv"]
    assert hybridflow(*arguments, "--target", "").table.columns == ["log_density", "novelty"]
    joint = hybridflow(*arguments, "--target", "y").table
    assert joint.columns == ["log_density", "novelty", "log_joint"]
    summary = dict(hybridflow(*arguments, "--target", "y", "--summary").table.iter_rows())
    assert summary["rows"] == 150
    assert np.isclose(summary["log_density_mean"], joint["log_density"].mean())
    assert np.isclose(summary["nll"], (joint["log_density"] - joint["log_joint"]).mean())
    table = pl.read_csv(tables / "numbers.csv")
    error = package.load(tables / "regressor.hflow").predict(table.drop("y")) - table["y"]
    assert np.isclose(summary["rmse"], np.sqrt((error**2).mean()))
    assert np.isclose(summary["mae"], error.abs().mean())


def test_score_finds_the_target_of_the_fit(hybridflow, tables, tmp_path):
    arguments = ["score", tables / "classifier.hflow"]
    found = hybridflow(*arguments, tables / "classes.csv")
    assert "note: target: 'kind'" in found.said
    assert found.out == hybridflow(*arguments, tables / "classes.csv", "--target", "kind").out
    table = pl.read_csv(tables / "classes.csv")
    for name, changed, note in (
        ("gaps", table.with_columns(kind=pl.when(pl.int_range(pl.len()) > 1).then("kind")), "2 "),
        ("without", table.drop("kind"), ""),
        ("renamed", table.rename({"kind": "sort"}), "note: .*columns ignored: sort"),
    ):
        changed.write_csv(tmp_path / f"{name}.csv")
        outcome = hybridflow(*arguments, tmp_path / f"{name}.csv")
        assert outcome.table.columns == ["log_density", "novelty"]
        assert re.search(note, outcome.said)
    outcome = hybridflow(*arguments, tmp_path / "renamed.csv", "--target", "sort")
    assert outcome.out == found.out
    outcome = hybridflow(*arguments, tables / "classes.csv", "--target", "a")
    assert outcome.code == 1
    assert "--target: 'a' is a feature of the model" in outcome.said


def test_score_of_classes_and_outliers(hybridflow, tables):
    arguments = ["score", tables / "classifier.hflow", tables / "classes.csv"]
    summary = dict(hybridflow(*arguments, "--target", "kind", "--summary").table.iter_rows())
    assert 0 < summary["accuracy"] <= 1
    outliers = hybridflow("score", tables / "outliers.hflow", tables / "numbers.csv").table
    assert outliers.columns == ["log_density", "novelty", "prediction"]
    assert set(outliers["prediction"]) == {-1, 1}
    predicted = hybridflow("predict", tables / "outliers.hflow", tables / "numbers.csv").table
    assert ((predicted["decision"] < 0) == (predicted["prediction"] == -1)).all()


def test_a_density_predicts_nothing(hybridflow, tables):
    outcome = hybridflow("predict", tables / "density.hflow", tables / "numbers.csv")
    assert outcome.code == 1
    assert "use hybridflow score" in outcome.said
    outcome = hybridflow("score", tables / "density.hflow", tables / "numbers.csv", "--target", "y")
    assert outcome.code == 1
    assert "has no target" in outcome.said


def test_sample_draws_rows_with_their_target(hybridflow, tables):
    drawn = hybridflow("sample", tables / "regressor.hflow", "-n", "7")
    assert drawn.code == 0
    assert drawn.table.columns == ["a", "b", "c", "y"]
    assert drawn.table.height == 7
    assert drawn.out == hybridflow("sample", tables / "regressor.hflow", "-n", "7").out
    other = hybridflow("sample", tables / "regressor.hflow", "-n", "7", "--seed", "1")
    assert drawn.out != other.out
    assert hybridflow("sample", tables / "density.hflow", "-n", "2").table.columns == [
        "a",
        "b",
        "c",
    ]
    none = hybridflow("sample", tables / "density.hflow", "-n", "0")
    assert (none.code, none.out) == (0, b"a,b,c\n")


def test_sample_given_a_target(hybridflow, tables):
    drawn = hybridflow("sample", tables / "classifier.hflow", "-n", "5", "--given", "low")
    assert drawn.table.columns == ["a", "b", "c", "kind"]
    assert set(drawn.table["kind"]) == {"low"}
    drawn = hybridflow("sample", tables / "regressor.hflow", "-n", "2", "--given", "0.5")
    assert set(drawn.table["y"]) == {0.5}
    for model, given in (("classifier", "lo"), ("regressor", "much"), ("density", "1")):
        outcome = hybridflow("sample", tables / f"{model}.hflow", "--given", given)
        assert outcome.code == 1
        assert "--given" in outcome.said


def test_sampled_steps_are_written_short(hybridflow, tables, tmp_path, fast):
    step = (pl.int_range(pl.len()) % 13) * 0.1
    table = pl.read_csv(tables / "numbers.csv").select("a", step=step.round(1))
    table.write_csv(tmp_path / "t.csv")
    assert hybridflow("fit", tmp_path / "t.csv", "-o", tmp_path / "m.hflow", *fast).code == 0
    drawn = hybridflow("sample", tmp_path / "m.hflow").out.decode().split()[1:]
    assert all(len(line.split(",")[1]) <= 4 for line in drawn)


def test_a_model_fitted_on_an_array_takes_columns_by_position(hybridflow, tables, tmp_path):
    table = pl.read_csv(tables / "numbers.csv")
    training = package.TrainingConfig(steps=5)
    model = package.FlowDensity("nice", training=training, random_state=0)
    model.fit(table.drop("y").to_numpy()).save(tmp_path / "m.hflow")
    table.drop("y").rename({"a": "first"}).write_csv(tmp_path / "t.csv")
    scores = hybridflow("score", tmp_path / "m.hflow", tmp_path / "t.csv").table
    assert np.array_equal(scores["log_density"], model.score_samples(table.drop("y").to_numpy()))
    outcome = hybridflow("score", tmp_path / "m.hflow", tables / "numbers.csv")
    assert outcome.code == 1
    assert "the table has 4 columns, but the model was fitted on 3" in outcome.said
    assert hybridflow("sample", tmp_path / "m.hflow", "-n", "1").table.columns == ["x0", "x1", "x2"]


def test_a_target_without_a_name_is_called_y(hybridflow, tables, tmp_path):
    table = pl.read_csv(tables / "numbers.csv").rename({"a": "y", "y": "a"})
    training = package.TrainingConfig(steps=5)
    model = package.HybridRegressor("nice", training=training, random_state=0)
    model.fit(table[["b", "c"]], table["a"].to_numpy()).save(tmp_path / "m.hflow")
    assert hybridflow("sample", tmp_path / "m.hflow").table.columns == ["b", "c", "y"]
    model.fit(table[["y", "c"]], table["a"].to_numpy()).save(tmp_path / "m.hflow")
    assert hybridflow("sample", tmp_path / "m.hflow").table.columns == ["y", "c", "target_y"]
    table.write_csv(tmp_path / "t.csv")  # its column y is a feature
    scores = hybridflow("score", tmp_path / "m.hflow", tmp_path / "t.csv").table
    assert scores.columns == ["log_density", "novelty"]
    model.fit(table[["b", "c"]].to_numpy(), table["a"].to_numpy()).save(tmp_path / "m.hflow")
    for columns, expected in (
        ("bc", ["log_density", "novelty"]),
        ("bca", ["log_density", "novelty", "log_joint"]),
        ("ca", ["log_density", "novelty"]),
    ):
        named = table[list(columns)].rename({"a": "y"} if "a" in columns else {})
        named.write_csv(tmp_path / "t.csv")
        scores = hybridflow("score", tmp_path / "m.hflow", tmp_path / "t.csv").table
        assert scores.columns == expected


def test_a_model_fitted_on_pandas_needs_no_pandas(hybridflow, tables, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(tables / "numbers.csv")
    model = package.HybridRegressor("nice", training=package.TrainingConfig(steps=5))
    model.fit(table[["a", "b", "c"]], table["y"]).save(tmp_path / "m.hflow")
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert hybridflow("sample", tmp_path / "m.hflow", "-n", "3").table.shape == (3, 4)
    outcome = hybridflow("predict", tmp_path / "m.hflow", tables / "numbers.csv")
    assert outcome.code == 0, outcome.said


def test_inspect_describes_the_model(hybridflow, tables):
    outcome = hybridflow("inspect", tables / "classifier.hflow")
    text = outcome.out.decode()
    assert outcome.code == 0
    for expected in ("HybridClassifier", "spline-coupling", "layers=2", "2 classes", "sha256"):
        assert expected in text
    document = json.loads(hybridflow("inspect", tables / "classifier.hflow", "--json").out)
    assert document["components"]["flow"]["name"] == "spline-coupling"


def test_verify_accepts_and_refuses(hybridflow, tables, tmp_path):
    outcome = hybridflow("verify", tables / "classifier.hflow")
    assert outcome.code == 0
    assert "intact" in outcome.out.decode()
    assert "training rows: the model is what it claims to be" in outcome.out.decode()
    assert "round trip, worst row" in outcome.out.decode()
    data = bytearray((tables / "classifier.hflow").read_bytes())
    data[-5] ^= 1
    (tmp_path / "changed.hflow").write_bytes(data)
    outcome = hybridflow("verify", tmp_path / "changed.hflow")
    assert (outcome.code, outcome.out) == (3, b"")
    assert "error: " in outcome.said
    assert hybridflow("predict", tmp_path / "changed.hflow", tables / "classes.csv").code == 1


def test_plugins_are_wired(hybridflow):
    outcome = hybridflow("plugins", "list")
    assert outcome.code == 0
    assert b"spline-coupling" in outcome.out
    assert b"layers" in hybridflow("plugins", "show", "spline-coupling").out
    unknown = hybridflow("plugins", "show", "spline-couplin")
    assert unknown.code == 1
    assert "did you mean 'spline-coupling'?" in unknown.said
