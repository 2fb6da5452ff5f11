"""Scores: read, written, and computed as scikit-learn and scipy would."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.datasets import load_iris
from sklearn.metrics import log_loss

from hybridflow import HybridClassifier, TrainingConfig
from hybridflow.errors import ConfigError, InputError
from hybridflow.tuning import Score
from hybridflow.tuning.rows import split_rows
from hybridflow.tuning.score import negative_log_density, negative_log_task, read_scores


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("task", Score(task=1)),
        ("likelihood", Score(likelihood=1)),
        ("task + 0.3 likelihood", Score(task=1, likelihood=0.3)),
        ("task+0.3*likelihood", Score(task=1, likelihood=0.3)),
        ("2 likelihood + 1e-2 task", Score(task=0.01, likelihood=2)),
    ],
)
def test_a_score_is_read_as_it_is_written(text, score):
    assert Score.read(text) == score
    assert Score.read(str(score)) == score


@pytest.mark.parametrize("text", ["", "tasks", "task + task", "task - likelihood", "1.2.3 task"])
def test_what_is_no_score_is_refused(text):
    with pytest.raises(ConfigError, match="score"):
        Score.read(text)


@pytest.mark.parametrize(
    "weights",
    [{}, {"task": -1.0}, {"likelihood": np.inf}, {"task": np.nan}],
    ids=["none", "negative", "infinite", "nan"],
)
def test_weights_that_cannot_be_are_refused(weights):
    with pytest.raises(ConfigError, match="weights are finite"):
        Score(**weights)


def test_a_density_has_no_task():
    assert read_scores(None, hybrid=False) == (Score(likelihood=1),)
    with pytest.raises(ConfigError, match="a density has no task"):
        read_scores("task", hybrid=False)


def test_the_same_score_twice_is_refused():
    with pytest.raises(ConfigError, match="several that differ"):
        read_scores(("task", "1 task"), hybrid=True)


def test_the_task_of_labels_is_their_log_loss():
    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    model = HybridClassifier("realnvp", training=TrainingConfig(steps=20), random_state=0)
    model.fit(X, names)
    weight = np.linspace(0.5, 2, len(y))
    expected = log_loss(names, model.predict_proba(X), sample_weight=weight)
    assert negative_log_task(model, X, names, weight) == pytest.approx(expected)


def test_the_task_of_numbers_is_that_of_their_law(table, quick):
    X, y = table
    model = quick(quality="fast", random_state=0).fit(X, y)
    law = model.predict_distribution(X)
    expected = -stats.norm(law.mean(), law.std()).logpdf(y).mean()
    assert negative_log_task(model, X, y, np.ones(len(y))) == pytest.approx(expected)
    weight = np.arange(1.0, 1 + len(y))
    density = -np.average(model.score_samples(X), weights=weight)
    assert negative_log_density(model, X, weight) == pytest.approx(density)


def test_held_out_rows_are_of_every_class_and_labelled_ones_are_known():
    X, y = load_iris(return_X_y=True)
    partly = y.astype(float)
    partly[::3] = np.nan
    split = split_rows(HybridClassifier(), X, partly, None, 0.2, 0)
    assert set(split.held) | set(split.train) == set(range(150))
    assert not set(split.held) & set(split.train)
    assert np.array_equal(split.labelled, split.held[~np.isnan(partly[split.held])])
    assert len(set(partly[split.labelled])) == 3


def test_frames_and_arrays_are_split_alike(table, quick):
    X, y = table
    frame, series = pl.DataFrame(X, schema=["a", "b"]), pl.Series("y", y)
    array, frames = (split_rows(quick(), *data, None, 0.2, 0) for data in ((X, y), (frame, series)))
    assert np.array_equal(array.held, frames.held)
    assert frames.table(frames.held).equals(frame[frames.held.tolist()])
    assert np.array_equal(np.asarray(frames.target(frames.held)), y[array.held])


@pytest.mark.parametrize("what", ["cell", "target", "weight", "name", "split"])
def test_the_digest_changes_with_all_that_trials_depend_on(table, quick, what):
    X, y = table
    frame = pl.DataFrame(X, schema=["a", "b"])
    weight, seed = np.ones(len(y)), 0
    before = split_rows(quick(), frame, y, weight, 0.2, seed).digest()
    assert split_rows(quick(), frame.clone(), y.copy(), weight.copy(), 0.2, 0).digest() == before
    if what == "cell":
        frame = frame.with_columns(
            a=pl.col("a") + pl.when(pl.arange(0, 260) == 7).then(1e-9).otherwise(0)
        )
    elif what == "target":
        y = np.where(np.arange(260) == 3, y + 1e-9, y)
    elif what == "weight":
        weight = np.where(np.arange(260) == 3, 2.0, weight)
    elif what == "name":
        frame = frame.rename({"a": "z"})
    else:
        seed = 1
    assert split_rows(quick(), frame, y, weight, 0.2, seed).digest() != before


def test_holding_out_nothing_is_refused(table, quick):
    with pytest.raises(ConfigError, match="holds out none"):
        split_rows(quick(), *table, None, 0.0, 0)
    y = np.full(260, np.nan)
    y[:5] = 1.0, 2.0, 3.0, 4.0, 5.0
    with pytest.raises(InputError, match="no held-out row has a label"):
        split_rows(quick(), table[0], y, None, np.arange(100, 150), 0)
