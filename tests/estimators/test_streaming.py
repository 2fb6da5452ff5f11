"""Fitting Parquet files in parts: the same answers, flat memory, every row seen once."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import textwrap

import numpy as np
import polars as pl
import pytest
import torch

from hybridflow import (
    FlowDensity,
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
    ParquetTable,
    TrainingConfig,
)
from hybridflow.callbacks import Callback
from hybridflow.errors import ConfigError, InputError
from hybridflow.estimators.streaming import Windows
from hybridflow.flows import SplineCoupling

QUICK = TrainingConfig(steps=40)
SMALL = SplineCoupling(layers=2, bins=4, hidden_units=16, hidden_layers=1)
ROWS = 5000


def frame(n: int = ROWS, seed: int = 0) -> pl.DataFrame:
    """Return a table with numbers, steps, text, gaps, a weight, and two targets."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    word = rng.choice(["u", "v", "7"], n)
    price = 2 * a + (word == "u") + 0.1 * rng.normal(size=n)
    kind = np.where(a > 0, "p", "q").astype(object)
    kind[rng.random(n) < 0.2] = None
    return pl.DataFrame(
        {
            "id": np.arange(n),
            "a": a,
            "steps": np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 9, n)),
            "word": word,
            "weight": rng.integers(0, 3, n).astype(float),
            "price": price,
            "kind": kind.tolist(),
        }
    ).with_columns(pl.col("steps").fill_nan(None))


@pytest.fixture
def path(tmp_path):
    frame().sort("word").write_parquet(tmp_path / "table.parquet", row_group_size=700)
    return tmp_path / "table.parquet"


FEATURES = ["a", "steps", "word"]


def model(kind, members=1, **settings):
    return kind(SMALL, training=QUICK, members=members, random_state=0, **settings)


@pytest.mark.parametrize(
    ("kind", "y"),
    [(HybridRegressor, "price"), (HybridClassifier, "kind"), (FlowDensity, None)],
    ids=["regression", "classification", "density"],
)
def test_a_file_that_fits_in_the_buffer_gives_the_model_of_the_frame(path, kind, y):
    whole = pl.read_parquet(path)
    target = () if y is None else (y,)
    series = () if y is None else (whole[y],)
    streamed = model(kind).fit(
        ParquetTable(path, columns=FEATURES), *target, sample_weight="weight"
    )
    plain = model(kind).fit(
        whole.select(FEATURES), *series, sample_weight=whole["weight"].to_numpy()
    )
    for one, two in zip(streamed.models_, plain.models_, strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, two.state_dict()[name]), name


@pytest.mark.parametrize(
    ("kind", "y"),
    [
        (HybridRegressor, "price"),
        (HybridRegressor, ["price", "steps"]),
        (HybridClassifier, "kind"),
        (FlowDensity, None),
        (FlowOutlierDetector, None),
    ],
    ids=["regression", "two-outputs", "classification", "density", "outliers"],
)
def test_a_larger_file_is_fitted_in_parts(path, kind, y):
    columns = ["a", "word"] if isinstance(y, list) else FEATURES
    table = ParquetTable(path, columns=columns, buffer=1500)
    target = () if y is None else (y,)
    fitted = model(kind).fit(table, *target, sample_weight="weight")
    assert fitted.feature_names_in_.tolist() == columns
    rows = pl.read_parquet(path).select(columns)
    assert np.isfinite(fitted.score_samples(rows)).all()
    values = [record.value for record in fitted.histories_[0]]
    assert min(values) < values[0]


def test_what_is_learned_in_parts_is_what_is_learned_at_once(path):
    training = TrainingConfig(steps=250)
    settings = {"flow": SMALL, "training": training, "members": 1, "random_state": 0}
    whole = pl.read_parquet(path)
    streamed = HybridRegressor(**settings).fit(
        ParquetTable(path, columns=FEATURES, buffer=1500), "price"
    )
    plain = HybridRegressor(**settings).fit(whole.select(FEATURES), whole["price"])
    new = frame(seed=1)
    likelihood = [
        m.score_joint(new.select(FEATURES), new["price"].to_numpy()).mean()
        for m in (streamed, plain)
    ]
    assert likelihood[0] > likelihood[1] - 0.3


@pytest.mark.filterwarnings("ignore::hybridflow.errors.IdentifierWarning")
def test_an_epoch_holds_every_row_once_but_those_held_out(path, monkeypatch):
    seen = []
    draw = Windows.draw
    monkeypatch.setattr(Windows, "draw", lambda self: seen.append(self) or draw(self))
    model(HybridRegressor).fit(ParquetTable(path, columns=["id", "a"], buffer=1500), "price")
    used = seen[0]
    windows = Windows(used.stream, used.unseen, lambda rows: rows, 200, torch.Generator())
    ids = windows.draw().x[:, 0].tolist()
    while windows.order or windows.left:
        ids += windows.draw().x[:, 0].tolist()
    held = pl.read_parquet(path)["id"].to_numpy()[windows.unseen]
    assert len(held) > 100
    assert sorted(ids) == sorted(set(range(ROWS)) - set(held.tolist()))
    assert len(ids) == windows.total


def test_a_rare_class_is_found_wherever_it_is(tmp_path):
    rows = frame().with_columns(
        kind=pl.when(pl.col("id") == 4821).then(pl.lit("rare")).otherwise(pl.lit("usual"))
    )
    rows.write_parquet(tmp_path / "rare.parquet", row_group_size=700)
    table = ParquetTable(tmp_path / "rare.parquet", columns=FEATURES, buffer=1000)
    with pytest.warns(UserWarning, match="too few rows"):
        fitted = model(HybridClassifier, class_weight="balanced").fit(table, "kind")
    assert fitted.classes_.tolist() == ["rare", "usual"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("a", math.inf, "infinity: column 'a'"),
        ("price", math.inf, "y "),
        ("weight", -1.0, "got -1"),
    ],
    ids=["feature", "target", "weight"],
)
def test_a_cell_that_cannot_be_used_is_found_where_it_is(tmp_path, column, value, message):
    rows = frame(4000).with_columns(
        pl.when(pl.col("id") == 3210).then(value).otherwise(pl.col(column)).alias(column)
    )
    rows.write_parquet(tmp_path / "bad.parquet")
    table = ParquetTable(tmp_path / "bad.parquet", columns=FEATURES, buffer=1000)
    regressor = HybridRegressor(
        SMALL, training=TrainingConfig(steps=200), members=1, random_state=0
    )
    with pytest.raises(InputError, match=message) as caught:  # an epoch reads every row
        regressor.fit(table, "price", sample_weight="weight")
    place = re.search(r"bad\.parquet: rows \d+ to \d+, counted from (\d+): ", str(caught.value))
    row = re.search(r"row (\d+)", str(caught.value)[place.end() :])
    assert int(place[1]) + int(row[1]) == 3210


@pytest.mark.parametrize("after", ["other-rows", "fewer-columns", "no-file"])
def test_a_file_that_changes_while_it_is_read_is_refused(path, after):
    class Change(Callback):
        def on_step_end(self, state):
            if state.step == 1 and after == "no-file":
                path.unlink()
            elif state.step == 1:
                other = frame(ROWS, seed=1)
                (other if after == "other-rows" else other.select("a")).write_parquet(path)

    table = ParquetTable(path, columns=FEATURES, buffer=1000)
    density = FlowDensity(
        SMALL,
        training=TrainingConfig(steps=200),
        members=1,
        random_state=0,
        callbacks=(Change(),),
    )
    expected = FileNotFoundError if after == "no-file" else InputError
    with pytest.raises(expected, match=r"table\.parquet"):
        density.fit(table)
    assert not hasattr(density, "models_")


def test_a_file_is_found_from_another_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(path.parent)
    table = ParquetTable(path.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert table.path == path.name
    assert table.read(0, 3).height == 3


def test_a_file_of_few_distinct_rows_is_no_small_table(tmp_path):
    few = pl.DataFrame({"a": np.arange(3000) % 7, "b": np.arange(3000) % 2 * 1.5})
    few.write_parquet(tmp_path / "few.parquet")
    density = model(FlowDensity).fit(ParquetTable(tmp_path / "few.parquet", buffer=1000))
    chances = np.exp(density.score_samples(few[:14]))
    assert chances.sum() == pytest.approx(1, abs=0.3)


def test_members_in_other_processes_read_the_file_themselves(path):
    table = ParquetTable(path, columns=FEATURES, buffer=1500)
    one = model(HybridRegressor, members=2).fit(table, "price")
    two = model(HybridRegressor, members=2, n_jobs=2).fit(table, "price")
    assert one.histories_ == two.histories_


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("nothing",), {}, "no column 'nothing'"),
        ((np.zeros(ROWS),), {}, "expected the name of one of its columns"),
        (("price",), {"validation": [1, 2]}, "takes a share or a splitter, no positions"),
        (("price",), {"calibration": np.arange(9)}, "takes a share or a splitter, no positions"),
    ],
    ids=["no-column", "values", "validation", "calibration"],
)
def test_what_a_file_cannot_be_fitted_with_is_refused(path, arguments, settings, message):
    with pytest.raises((ConfigError, InputError), match=message):
        model(HybridRegressor, **settings).fit(
            ParquetTable(path, columns=FEATURES, buffer=1500), *arguments
        )


@pytest.mark.parametrize("buffer", [0, 999, 2.5, True])
def test_a_buffer_is_a_number_of_rows(path, buffer):
    with pytest.raises(ConfigError, match="buffer must be a whole number"):
        ParquetTable(path, buffer=buffer)


def test_what_is_no_parquet_file_is_refused(tmp_path):
    (tmp_path / "text.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a Parquet table"):
        ParquetTable(tmp_path / "text.parquet")
    with pytest.raises(FileNotFoundError):
        ParquetTable(tmp_path / "nowhere.parquet")


PEAK = """
    import resource, sys
    from hybridflow import HybridRegressor, ParquetTable, TrainingConfig

    table = ParquetTable(sys.argv[1], buffer=20_000)
    training = TrainingConfig(steps=150, evaluations=2)
    model = HybridRegressor(training=training, members=1, random_state=0)
    model.fit(table, "y")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(path) -> float:
    """Return the most memory, in MiB, that fitting a file took in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PEAK), str(path)],
        capture_output=True,
        text=True,
        check=True,
        env={"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": sys.path[0]},
    )
    return int(done.stdout) / 1024


@pytest.mark.slow
def test_memory_is_flat_in_the_size_of_the_file(tmp_path):
    rng = np.random.default_rng(0)
    for name, parts in (("small", 1), ("large", 10)):
        rows = [
            pl.DataFrame(rng.normal(size=(100_000, 8)), schema=[*"abcdefg", "y"])
            for _ in range(parts)
        ]
        pl.concat(rows).write_parquet(tmp_path / f"{name}.parquet", row_group_size=50_000)
    small, large = peak(tmp_path / "small.parquet"), peak(tmp_path / "large.parquet")
    # The larger file alone would be 61 MiB in memory, and as much again for each copy.
    assert large < small + 40
