"""``hybridflow tune``: what it writes, what is not searched, and what is refused."""

from __future__ import annotations

import tomllib

import optuna
import polars as pl
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

import hybridflow as package
from hybridflow.cli.searching import search_of, toml
from hybridflow.config import Choice, Float, Int
from hybridflow.errors import ConfigError


def study(path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def test_a_search_from_table_to_model(hybridflow, tables, fast, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = hybridflow(
        "tune", tables / "classes.csv", "--target", "kind", "--trials", 3, *fast,
        "--search", "head.hidden_units=8:16", "-o", "best.hflow", "--table", "trials.csv",
        "--plots", "pictures",
    )  # fmt: skip
    assert outcome.code == 0, outcome.said
    assert "task: classification ('kind' holds text; --task changes it)" in outcome.said
    assert "trial 0: " in outcome.said
    assert "best: trial " in outcome.said

    found = tomllib.loads(outcome.out.decode())
    assert found["target"] == "kind"
    assert found["flow"]["layers"] == 2  # as --set says
    assert 8 <= found["head"]["hidden_units"] <= 16 or found["head"]["basis"] == "identity"
    (tmp_path / "best.toml").write_bytes(outcome.out)
    assert hybridflow(
        "fit", tables / "classes.csv", "--config", "best.toml", "-o", "again.hflow"
    ).code == 0  # fmt: skip
    best, again = package.load("best.hflow"), package.load("again.hflow")
    X = pl.read_csv(tables / "classes.csv").drop("kind")
    assert (best.predict_proba(X) == again.predict_proba(X)).all()

    trials = pl.read_csv("trials.csv")
    assert trials["trial"].to_list() == [0, 1, 2]
    assert "flow__layers" not in trials.columns
    assert {"history.png", "importances.png", "curves.png"} == {
        path.name for path in (tmp_path / "pictures").iterdir()
    }
    assert len(study("hybridflow-tuning.journal").trials) == 3


def test_a_density_and_several_scores(hybridflow, tables, fast, tmp_path):
    journal = tmp_path / "study.journal"
    options = ["--drop", "y", "--trials", 1, *fast, "--storage", journal, "-q"]
    density = hybridflow("tune", tables / "numbers.csv", *options)
    assert density.code == 0, density.said
    assert tomllib.loads(density.out.decode())["task"] == "density"
    assert density.said == ""
    journal.unlink()
    options = ["--target", "y", "--trials", 1, *fast, "--storage", journal]
    both = hybridflow("tune", tables / "numbers.csv", *options, "--score", "task,likelihood")
    assert both.code == 0, both.said
    assert len(study(journal).directions) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--search", "flow.layers"], "--search flow.layers: expected KEY=LOW:HIGH"),
        (["--search", "flow.layer=2:3"], "did you mean 'flow__layers'"),
        (["--search", "flow.layers=a:3"], "are no numbers"),
        (["--score", "accuracy"], "expected task, likelihood"),
        (["--trials", "0"], "trials must be a whole number"),
        (["--workers", "0"], "workers must be a whole number"),
        (["--storage", "nodb://x"], "is no URL of a database"),
        (["--task", "density"], "takes no target"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_one_line(hybridflow, tables, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    outcome = hybridflow("tune", tables / "numbers.csv", "--target", "y", *options)
    assert outcome.code == 1
    assert message in outcome.said
    assert "Traceback" not in outcome.said


def test_a_model_that_exists_is_kept(hybridflow, tables, tmp_path):
    model = tmp_path / "model.hflow"
    model.write_text("mine")
    outcome = hybridflow("tune", tables / "numbers.csv", "--target", "y", "-o", model)
    assert outcome.code == 1
    assert "--force replaces it" in outcome.said
    assert model.read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "name", "search"),
    [
        ("flow.layers=2:8", "flow__layers", Int(2, 8)),
        ("flow.hidden-units=8:64:log", "flow__hidden_units", Int(8, 64, log=True)),
        ("flow.bound=3.0:8", "flow__bound", Float(3.0, 8)),
        ("flow.spline-coupling.bins=4:6", "flow__spline-coupling__bins", Int(4, 6)),
        ("likelihood-weight=1e-2:1:log", "likelihood_weight", Float(0.01, 1, log=True)),
        ("flow=maf, realnvp", "flow", Choice(("maf", "realnvp"))),
        ("quality=fast", "quality", Choice(("fast",))),
        ("training.noise=0.1,0.2", "training__noise", Choice((0.1, 0.2))),
    ],
)
def test_a_range_is_read(text, name, search):
    assert search_of(text) == (name, search)


def test_a_range_without_a_name_is_refused():
    with pytest.raises(ConfigError, match="expected KEY=LOW:HIGH"):
        search_of("=2:8")


def test_settings_are_written_as_toml():
    document = {
        "target": 'a "quoted" \\ name\x7f',
        "drop": ["b", "ü"],
        "seed": 3,
        "flow": {"name": "maf", "layers": 2},
        "column": {"hour of day": "circle:24"},
        "training": {"learning_rate": 1e-05, "steps": 10},
    }
    assert tomllib.loads(toml(document)) == document
