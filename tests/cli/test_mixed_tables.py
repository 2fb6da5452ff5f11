"""Tables as they come, from the shell: text, true and false, empty cells."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import hybridflow as package

N = 200


def passengers() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    number = pl.int_range(N)
    table = pl.DataFrame(
        {
            "age": np.round(rng.uniform(1, 80, N), 1),
            "rooms": rng.integers(0, 4, N),
            "deck": rng.choice(["A", "B", "12"], N),
            "alone": rng.random(N) < 0.5,
            "fare": rng.lognormal(size=N),
        }
    )
    return table.with_columns(
        age=pl.when(number % 5 > 0).then("age"),
        rooms=pl.when(number % 7 > 0).then("rooms"),
        deck=pl.when(number % 3 > 0).then("deck"),
        lived=pl.when(pl.col("alone") | (pl.col("fare") > 1))
        .then(pl.lit("yes"))
        .otherwise(pl.lit("no")),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed") / "passengers.csv"
    passengers().write_csv(path)
    return path


@pytest.fixture
def model(data: Path, hybridflow, fast) -> Path:
    path = data.with_suffix(".hflow")
    if not path.exists():
        fit = ["fit", data, "--target", "lived", "--column", "fare=positive", *fast, "-o", path]
        assert hybridflow(*fit).code == 0
    return path


def test_fit_says_what_each_column_is(hybridflow, data, fast, tmp_path):
    outcome = hybridflow("fit", data, "--target", "lived", *fast, "-o", tmp_path / "m.hflow")
    assert outcome.code == 0
    inspected = hybridflow("inspect", tmp_path / "m.hflow").out.decode()
    for said in (outcome.said, inspected):
        lines = {
            line.split()[0]: " ".join(line.split()) for line in said.splitlines() if line.strip()
        }
        assert lines["age"] == "age Float64 density; 20 % missing, with a flag"
        assert lines["rooms"].endswith("from 0 on; 14.5 % missing, with a flag")
        assert lines["deck"] == (
            "deck String mass: 3 levels (12, A, B); 33.5 % missing, a level of its own"
        )
        assert lines["alone"] == "alone Boolean mass: 2 levels (False, True)"
        assert lines["fare"] == "fare Float64 density"
    assert "5: 2 continuous, 1 tied, 2 categorical" in inspected


def test_every_verb(hybridflow, data, model):
    predicted = hybridflow("predict", model, data, "--density")
    assert predicted.code == 0
    assert set(predicted.table["prediction"]) <= {"yes", "no"}
    assert predicted.table["log_density"].is_finite().all()
    scored = hybridflow("score", model, data).table
    np.testing.assert_array_equal(scored["log_density"], predicted.table["log_density"])
    assert scored["log_joint"].is_finite().all()
    assert hybridflow("verify", model).code == 0
    loaded, X = package.load(model), passengers().drop("lived")
    np.testing.assert_allclose(loaded.score_samples(X), scored["log_density"], rtol=1e-12)


@pytest.mark.parametrize("format", ["csv", "parquet", "ndjson"])
def test_samples_are_written_as_the_table_was(hybridflow, data, model, format):
    outcome = hybridflow("sample", model, "-n", 300, "--format", format)
    assert outcome.code == 0
    readers = {"csv": pl.read_csv, "parquet": pl.read_parquet, "ndjson": pl.read_ndjson}
    drawn = readers[format](io.BytesIO(outcome.out))
    assert drawn.schema == passengers().schema
    assert set(drawn["deck"]) == {"A", "B", "12", None}
    assert set(drawn["alone"]) == {True, False}
    assert 0 < drawn["age"].null_count() < 150
    assert 0 < drawn["rooms"].null_count() < 150
    assert (drawn["fare"] > 0).all()


def test_samples_can_be_scored_again(hybridflow, model, tmp_path):
    assert hybridflow("sample", model, "-n", 50, "-o", tmp_path / "new.csv").code == 0
    scored = hybridflow("score", model, tmp_path / "new.csv")
    assert scored.code == 0
    assert scored.table["log_joint"].is_finite().all()
    assert "warning" not in scored.said


def test_text_that_happens_to_be_numbers(hybridflow, model, tmp_path):
    table = passengers().with_columns(deck=pl.lit("12"))
    table.write_csv(tmp_path / "t.csv")  # in which polars reads the column as whole numbers
    outcome = hybridflow("score", model, tmp_path / "t.csv")
    assert outcome.code == 0
    assert "levels that were not seen" not in outcome.said
    found = package.load(model).score_samples(table.drop("lived"))
    np.testing.assert_allclose(outcome.table["log_density"], found, rtol=1e-12)


def test_what_is_new_is_said_and_scored(hybridflow, model, tmp_path):
    number = pl.int_range(N)
    table = passengers().with_columns(
        deck=pl.when(number == 3).then(pl.lit("Q")).otherwise("deck"),
        fare=pl.when(number != 4).then("fare"),
    )
    table.write_csv(tmp_path / "t.csv")
    outcome = hybridflow("predict", model, tmp_path / "t.csv")
    assert outcome.code == 0
    assert "column 'deck': 'Q', first at row 3" in outcome.said
    assert "no missing cell in training: fare" in outcome.said
    assert outcome.table.height == N


def test_strict_models_refuse_it(hybridflow, data, fast, tmp_path):
    refused = hybridflow("fit", data, "--missing", "error", *fast, "-o", tmp_path / "m.hflow")
    assert refused.code == 1
    assert "NaN: column 'age' (40, first at row 0), column 'rooms' (29, first at row 0)" in (
        refused.said
    )
    model = tmp_path / "strict.hflow"
    full = passengers().with_columns(
        pl.col("age", "rooms").fill_null(0), pl.col("deck").fill_null("A")
    )
    full.write_csv(tmp_path / "full.csv")
    fit = ["fit", tmp_path / "full.csv", "--target", "lived", "-o", model, *fast]
    assert hybridflow(*fit, "--missing", "error", "--unknown", "error").code == 0
    assert "column 'age' (40, first at row 0)" in hybridflow("predict", model, data).said
    full.with_columns(deck=pl.lit("Q")).write_csv(tmp_path / "new.csv")
    outcome = hybridflow("predict", model, tmp_path / "new.csv")
    assert outcome.code == 1
    assert (
        "column 'deck': 'Q', first at row 0; correct them, or use unknown='other'" in outcome.said
    )


def test_numbers_declared_to_be_levels(hybridflow, data, fast, tmp_path):
    model = tmp_path / "m.hflow"
    fit = ["fit", data, "--columns", "rooms,fare", "--column", "rooms=categorical", "-o", model]
    assert hybridflow(*fit, *fast).code == 0
    assert "mass: 4 levels (0, 1, 2, 3)" in hybridflow("inspect", model).out.decode()
    drawn = hybridflow("sample", model, "-n", 200).table
    assert drawn.schema == {"rooms": pl.Int64, "fare": pl.Float64}
    assert set(drawn["rooms"]) == {0, 1, 2, 3, None}
