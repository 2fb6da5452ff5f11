"""Parquet files in parts: fitted, predicted and scored as if they were read at once."""

from __future__ import annotations

import io
import json

import numpy as np
import polars as pl
import pytest

import hybridflow as package
from hybridflow import HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.cli import loading
from hybridflow.flows import SplineCoupling

SMALL = SplineCoupling(layers=2, bins=4, hidden_units=16, hidden_layers=1)


def rows(n: int = 250) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, n))
    kind = np.where(a + rng.normal(size=n) > 0, "high", "low")
    return pl.DataFrame({"a": a, "b": b, "y": a - b, "kind": kind})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder with rows.parquet, and models of a number, a class, and two numbers."""
    folder = tmp_path_factory.mktemp("parts")
    table = rows()
    table.write_parquet(folder / "rows.parquet", row_group_size=60)
    settings = {"training": TrainingConfig(steps=15), "members": 1, "random_state": 0}
    X = table.select("a", "b")
    HybridRegressor(SMALL, **settings).fit(X, table["y"]).save(folder / "y.hflow")
    HybridClassifier(SMALL, **settings).fit(X, table["kind"]).save(folder / "kind.hflow")
    both = table.select("y", down=-pl.col("b"))
    HybridRegressor(SMALL, **settings).fit(X, both).save(folder / "both.hflow")
    return folder


def read(path, format: str) -> pl.DataFrame:
    data = path.read_bytes()
    if format == "json":
        return pl.DataFrame(json.loads(data))
    readers = {"csv": pl.read_csv, "parquet": pl.read_parquet, "ndjson": pl.read_ndjson}
    return readers[format](io.BytesIO(data))


@pytest.mark.parametrize("format", ["csv", "parquet", "json", "ndjson"])
@pytest.mark.parametrize("verb", ["predict", "score"])
def test_parts_are_written_one_below_the_other(
    hybridflow, folder, tmp_path, monkeypatch, verb, format
):
    found = []
    for part in (1000, 40):
        monkeypatch.setattr(loading, "PART", part)
        output = tmp_path / f"{part}.{format}"
        outcome = hybridflow(verb, folder / "y.hflow", folder / "rows.parquet", "-o", output)
        assert outcome.code == 0, outcome.said
        assert outcome.said.count("columns ignored") == 1
        found.append(read(output, format))
    whole, parts = found
    assert parts.columns == whole.columns
    assert parts.height == 250
    np.testing.assert_allclose(parts.to_numpy(), whole.to_numpy(), rtol=1e-9)


@pytest.mark.parametrize("model", ["y.hflow", "kind.hflow"])
def test_averages_are_those_of_all_parts(hybridflow, folder, monkeypatch, model):
    outcomes = []
    for part in (1000, 40):
        monkeypatch.setattr(loading, "PART", part)
        outcomes.append(hybridflow("score", folder / model, folder / "rows.parquet", "--summary"))
    whole, parts = (dict(outcome.table.iter_rows()) for outcome in outcomes)
    assert whole["rows"] == 250
    assert parts == pytest.approx(whole, rel=1e-9)
    assert outcomes[1].said.count("note: target") == 1


def test_a_target_with_a_gap_in_any_part_is_left_out(hybridflow, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "PART", 40)
    gap = (
        rows()
        .with_row_index()
        .with_columns(y=pl.when(pl.col("index") == 200).then(None).otherwise(pl.col("y")))
    )
    gap.write_parquet(tmp_path / "gap.parquet")
    outcome = hybridflow("score", folder / "y.hflow", tmp_path / "gap.parquet")
    assert "1 rows have no 'y'" in outcome.said
    assert "log_joint" not in outcome.table.columns


@pytest.mark.parametrize("output", ["-", "out.parquet", "out.csv"])
def test_a_bad_cell_in_a_later_part_is_told_and_leaves_no_file(
    hybridflow, folder, tmp_path, monkeypatch, output
):
    monkeypatch.setattr(loading, "PART", 40)
    monkeypatch.chdir(tmp_path)
    bad = rows().with_columns(
        a=pl.when(pl.col("y") == pl.col("y").last()).then(np.inf).otherwise("a")
    )
    bad.write_parquet("bad.parquet")
    outcome = hybridflow("predict", folder / "y.hflow", "bad.parquet", "-o", output)
    assert outcome.code == 1
    assert "bad.parquet: " in outcome.said
    assert "rows count from row 240 of the file" in outcome.said
    assert not (tmp_path / output).exists()


def test_several_outputs_have_columns_each(hybridflow, folder):
    outcome = hybridflow(
        "predict", folder / "both.hflow", folder / "rows.parquet", "--quantiles", "0.5"
    )
    assert outcome.code == 0, outcome.said
    model = package.load(folder / "both.hflow")
    law = model.predict_distribution(rows().select("a", "b"))
    columns = ["prediction", "std", "quantile_0.5"]
    assert outcome.table.columns == [f"{each}_{name}" for each in columns for name in ("y", "down")]
    np.testing.assert_allclose(outcome.table["prediction_down"], law.mean()[:, 1])
    np.testing.assert_allclose(outcome.table["quantile_0.5_y"], law.quantile(0.5)[:, 0])


def test_several_labels_have_columns_each(hybridflow, folder, tmp_path):
    table = rows()
    labels = table.select(up=(pl.col("a") > 0).cast(pl.Int64), left=(pl.col("b") > 0).cast(int))
    model = HybridClassifier(
        SMALL, head="multi-label", training=TrainingConfig(steps=15), members=1, random_state=0
    ).fit(table.select("a", "b"), labels)
    model.save(tmp_path / "labels.hflow")
    found = hybridflow("predict", tmp_path / "labels.hflow", folder / "rows.parquet").table
    assert found.columns == [
        "prediction_up",
        "prediction_left",
        "probability_up",
        "probability_left",
    ]
    np.testing.assert_array_equal(found.to_numpy()[:, :2], model.predict(table.select("a", "b")))


def test_a_larger_file_is_fitted_in_parts(hybridflow, tmp_path, fast):
    table = rows(3000)
    table.write_parquet(tmp_path / "long.parquet", row_group_size=500)
    model = tmp_path / "m.hflow"
    outcome = hybridflow(
        "fit", tmp_path / "long.parquet", "--target", "kind", "--drop", "y", "--buffer", 1000,
        "--members", 2, "--jobs", 2, "-o", model, *fast,
    )  # fmt: skip
    assert outcome.code == 0, outcome.said
    assert "3,000 rows, 2 features" in outcome.said
    assert "read in parts, 1,000 rows at a time" in outcome.said
    fitted = package.load(model)
    assert fitted.classes_.tolist() == ["high", "low"]
    assert len(fitted.models_) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--buffer", "10"], "buffer must be"), (["--jobs", "0"], "n_jobs must be")],
    ids=["buffer", "jobs"],
)
def test_what_cannot_be_is_said(hybridflow, folder, tmp_path, options, message):
    outcome = hybridflow("fit", folder / "rows.parquet", *options, "-o", tmp_path / "m.hflow")
    assert outcome.code == 1
    assert message in outcome.said
