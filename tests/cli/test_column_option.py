"""``--column NAME=KIND``: what columns hold, from the shell and from a config file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest


@pytest.fixture
def trips(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    hour = np.mod(rng.vonmises(0, 2, 250) * 12 / np.pi, 24)
    data = {"hour": hour, "fare": rng.lognormal(size=250), "a=b": rng.beta(2, 3, 250)}
    pl.DataFrame(data).write_csv(tmp_path / "trips.csv")
    return tmp_path / "trips.csv"


def test_fit_inspect_and_sample(hybridflow, trips, fast) -> None:
    model = trips.with_suffix(".hflow")
    kinds = ["--column=hour=circle:24", "--column=fare=positive", "--column=a=b=interval:0:1"]
    assert hybridflow("fit", trips, *kinds, *fast, "-o", model).code == 0
    page = hybridflow("inspect", model).out.decode()
    for support in ("a circle of 24", "above 0", "from 0 to 1"):
        assert support in page
    drawn = hybridflow("sample", model, "-n", 500).table
    assert drawn["hour"].is_between(0, 24, closed="left").all()
    assert (drawn["fare"] > 0).all()
    assert drawn["a=b"].is_between(0, 1).all()


def test_a_config_file_has_a_table_of_them(hybridflow, trips, fast) -> None:
    config, model = trips.with_suffix(".toml"), trips.with_suffix(".hflow")
    config.write_text('[column]\nhour = "circle:12"\nfare = "positive"\n')
    outcome = hybridflow(
        "fit", trips, "--config", config, "--column", "hour=circle:24", *fast, "-o", model
    )
    assert outcome.code == 0
    assert f'--column wins over {config}, line 2: column.hour = "circle:12"' in outcome.said
    page = hybridflow("inspect", model).out.decode()
    assert "a circle of 24" in page
    assert "above 0" in page


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("hour", "expected NAME=KIND, for instance hour=circle:24"),
        ("hour=circel:24", "got 'circel:24'; did you mean 'circle'?"),
        ("hour=circle", "expected real, positive, interval:LOW:HIGH, circle:PERIOD or categorical"),
        ("hour=circle:x", "got 'circle:x'"),
        ("hour=circle:-1", "input should be greater than 0"),
        ("fare=interval:2:1", "low must be below high"),
        ("fear=positive", "'fear' is no column of X, which has hour, fare, a=b; did you mean"),
        ("hour=interval:0:1", "outside its support, from 0 to 1"),
    ],
    ids=["no-kind", "typo", "no-period", "text", "negative", "order", "name", "values"],
)
def test_what_it_cannot_be(hybridflow, trips, fast, column, said) -> None:
    model = trips.with_suffix(".hflow")
    outcome = hybridflow("fit", trips, "--column", column, *fast, "-o", model)
    assert outcome.code == 1
    assert said in outcome.said
    assert not model.exists()


def test_one_column_has_one_kind(hybridflow, trips) -> None:
    twice = ("--column", "fare=positive", "--column", "fare=real")
    outcome = hybridflow("fit", trips, *twice, "-o", trips.with_suffix(".hflow"))
    assert outcome.code == 1
    assert "'fare' was positive before" in outcome.said
