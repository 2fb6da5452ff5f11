"""tune: budgets, the first trial, resuming, early stopping, failures, and the result."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from sklearn.datasets import load_iris
from sklearn.model_selection import ShuffleSplit

from hybridflow import FlowDensity, FlowOutlierDetector, HybridClassifier, TrainingConfig, tune
from hybridflow.config import Choice
from hybridflow.errors import ConfigError, InputError, TuningError
from hybridflow.training import Record
from hybridflow.tuning import Progress, Score
from hybridflow.tuning import trial as trial_module
from hybridflow.tuning.liveness import ERROR
from hybridflow.tuning.pruning import CURVE, WorseInAll

RATE = "training__learning_rate"


def states(study):
    return [trial.state.name for trial in study.trials]


def test_the_best_settings_are_refitted_to_all_rows(table, quick, small):
    X, y = table
    found = tune(quick(members=2), X, y, trials=4, space=small, storage=InMemoryStorage())
    assert states(found.study) == ["COMPLETE"] * 4
    assert found.best_trial.value == min(trial.value for trial in found.study.trials)
    settings = found.settings()
    assert found.estimator.flow.hidden_units == settings["flow__hidden_units"]
    assert found.estimator.training.learning_rate == settings[RATE]
    assert found.estimator.training.steps == 40  # which was not searched
    assert len(found.estimator.models_) == 2
    assert found.estimator.predict(X).shape == y.shape


def test_the_first_trial_is_the_estimator_as_it_came(table, quick, small):
    X, y = table
    model = quick(likelihood_weight=0.7, random_state=5)
    found = tune(model, X, y, trials=1, space=small, storage=InMemoryStorage(), refit=False)
    first = found.study.trials[0]
    assert first.params["likelihood_weight"] == 0.7
    assert first.params[RATE] == 3e-3
    rng = np.random.RandomState(0)
    held = np.sort(rng.permutation(260)[:52])
    train = np.setdiff1d(np.arange(260), held)
    same = quick(likelihood_weight=0.7, random_state=5, members=1).fit(X[train], y[train])
    expected = same.score_samples(X[held]) - same.score_joint(X[held], y[held])
    assert first.value == pytest.approx(expected.mean(), abs=1e-12)
    assert not hasattr(found.estimator, "models_")


def test_a_search_repeats_with_its_seed(table, quick, small):
    runs = [
        tune(
            quick(),
            *table,
            trials=4,
            space=small,
            seed=seed,
            storage=InMemoryStorage(),
            refit=False,
        )
        for seed in (3, 3, 4)
    ]
    values = [[trial.value for trial in run.study.trials] for run in runs]
    assert values[0] == values[1] != values[2]


def test_the_same_call_goes_on_and_another_has_its_own_study(table, quick, small, journal):
    options = {"space": small, "storage": journal, "refit": False}
    first = tune(quick(), *table, trials=2, **options)
    before = [trial.value for trial in first.study.trials]
    again = tune(quick(), *table, trials=3, **options)
    assert again.study.study_name == first.study.study_name
    assert [trial.number for trial in again.study.trials] == [0, 1, 2]
    assert [trial.value for trial in again.study.trials[:2]] == before
    points = [tuple(trial.params.values()) for trial in again.study.trials]
    assert len(set(points)) == 3  # no random number is drawn twice
    nothing = tune(quick(), *table, trials=3, **options)
    assert len(nothing.study.trials) == 3
    other = tune(quick(), *table, trials=1, score="likelihood", **options)
    assert other.study.study_name != first.study.study_name
    assert len(other.study.trials) == 1


@pytest.mark.parametrize("changed", ["space", "score", "rows", "estimator"])
def test_a_study_of_something_else_is_refused(table, quick, small, journal, changed):
    X, y = table
    options = {"storage": journal, "refit": False, "study": "mine", "trials": 1}
    tune(quick(), X, y, space=small, **options)
    model, score = quick(), None
    if changed == "space":
        small = {**small, "flow__layers": 3}
    elif changed == "score":
        score = "likelihood"
    elif changed == "rows":
        X = X + 1.0
    else:
        model = quick(likelihood_weight=0.2)
    with pytest.raises(ConfigError, match=rf"searches something else: {changed}"):
        tune(model, X, y, space=small, score=score, **options)


def test_a_study_of_somebody_else_is_refused(table, quick, small):
    storage = InMemoryStorage()
    optuna.create_study(storage=storage, study_name="mine").add_trial(
        optuna.trial.create_trial(value=1.0)
    )
    with pytest.raises(ConfigError, match="not begun by hybridflow"):
        tune(quick(), *table, space=small, storage=storage, study="mine")


@pytest.mark.parametrize("score", ["task", ("task", "likelihood")], ids=["one", "several"])
def test_a_trial_that_learns_nothing_is_stopped_early(table, quick, small, scripted, score):
    rates = [3e-3, 2.9e-3, 2.8e-3, 2.7e-3, 2.6e-3, 1e-9, 2.5e-3]
    found = tune(
        quick(),
        *table,
        trials=len(rates),
        space={**small, RATE: Choice(tuple(rates))},
        score=score,
        sampler=scripted({RATE: rates}),
        storage=InMemoryStorage(),
        refit=False,
    )
    assert states(found.study)[:5] == ["COMPLETE"] * 5
    bad = found.study.trials[5]
    assert bad.state == TrialState.PRUNED
    assert len(bad.user_attrs[CURVE]) == 2  # of ten: the warm-up is a quarter
    assert ERROR not in bad.user_attrs
    assert len(found.study.trials[0].user_attrs[CURVE]) == 10


@pytest.mark.parametrize(
    ("best", "stopped"),
    [((2.0, 2.0), True), ((2.0, 0.5), False), ((0.5, 2.0), False), ((0.9, 0.9), False)],
    ids=["worse in both", "worse in one", "worse in the other", "better in both"],
)
def test_only_a_trial_that_is_worse_by_all_scores_is_stopped(best, stopped):
    study = optuna.create_study(directions=["minimize"] * 2)
    rule = WorseInAll(study, (Score(task=1), Score(likelihood=1)), 1, 8)

    def record(step, task, density):
        return Record(step=step, value=0.0, task=task, density=density, learning_rate=1e-3)

    assert not rule(2, record(2, *best))  # nothing to compare with
    for shift in (-0.2, -0.1, 0.0, 0.1, 0.2):
        # What came after the evaluation that is compared does not count.
        curve = [[1, 9.0, 9.0], [2, 1.0 + shift, 1.0 + shift], [3, 0.0, 0.0]]
        study.add_trial(optuna.trial.create_trial(values=[0, 0], user_attrs={CURVE: curve}))
    fresh = WorseInAll(study, (Score(task=1), Score(likelihood=1)), 1, 8)
    assert not fresh(1, record(1, *best))  # the warm-up
    assert fresh(2, record(2, *best)) is stopped


def test_several_scores_are_searched_and_the_middle_of_the_front_is_taken(table, quick, small):
    found = tune(
        quick(), *table, trials=13, space=small, score=("task", "likelihood"),
        storage=InMemoryStorage(), refit=False,
    )  # fmt: skip
    assert found.scores == ("task", "likelihood")
    front = found.study.best_trials
    assert found.best_trial.number in {trial.number for trial in front}
    table_ = found.table()
    complete = [i for i, state in enumerate(table_["state"]) if state == "complete"]
    for i in complete:
        assert table_["score: task"][i] == pytest.approx(table_["task"][i])
        assert table_["score: likelihood"][i] == pytest.approx(table_["density"][i] / 2)
    other = found.fit(front[0].number)
    assert other.flow.hidden_units == found.settings(front[0].number)["flow__hidden_units"]


def test_a_stated_sum_is_minimised(table, quick, small):
    found = tune(
        quick(), *table, trials=2, space=small, score="task + 0.3 likelihood",
        storage=InMemoryStorage(), refit=False,
    )  # fmt: skip
    for trial in found.study.trials:
        attrs = trial.user_attrs
        assert trial.value == pytest.approx(attrs["task"] + 0.3 * attrs["density"] / 2)


def test_bad_trials_end_as_such_and_the_search_goes_on(table, registry, scripted):
    moods = ["fine", "raises", "refuses", "fine"]
    density = FlowDensity("moody", training=TrainingConfig(steps=20), registry=registry)
    said = []
    found = tune(
        density, table[0], trials=4, sampler=scripted({"flow__mood": moods}),
        storage=InMemoryStorage(), callbacks=[Progress(said.append)],
    )  # fmt: skip
    assert states(found.study) == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE"]
    errors = found.table()["error"]
    assert errors[1].startswith("ZeroDivisionError: in a bad mood (")
    assert errors[2] == "ConfigError: not this table"
    assert found.estimator.flow.mood == "fine"
    assert said[1].startswith("trial 1: failed: ZeroDivisionError")
    assert said[2].startswith("trial 2: ConfigError: not this table")


def test_a_score_that_is_not_finite_prunes(table, quick, small, monkeypatch):
    values = iter([1.0, np.nan, np.inf, 2.0])
    monkeypatch.setattr(trial_module, "negative_log_task", lambda *rows: next(values))
    found = tune(quick(), *table, trials=4, space=small, storage=InMemoryStorage(), refit=False)
    assert states(found.study) == ["COMPLETE", "PRUNED", "PRUNED", "COMPLETE"]
    assert "not finite" in found.table()["error"][1]


def test_training_that_diverges_prunes(table, quick, small, scripted):
    rates = [3e-3, 1e30]
    found = tune(
        quick(), *table, trials=2, space={**small, RATE: Choice(tuple(rates))},
        sampler=scripted({RATE: rates}), storage=InMemoryStorage(), refit=False,
    )  # fmt: skip
    assert states(found.study) == ["COMPLETE", "PRUNED"]
    assert found.best_trial.number == 0


def test_a_search_in_which_nothing_works_is_given_up(table, registry):
    density = FlowDensity("moody", training=TrainingConfig(steps=20), registry=registry)
    storage = InMemoryStorage()
    with pytest.raises(TuningError, match=r"no trial gave a score.*in a bad mood"):
        tune(density, table[0], trials=50, space={"flow__mood": "raises"}, storage=storage)
    (summary,) = storage.get_all_studies()
    assert len(storage.get_all_trials(summary._study_id)) == 3


def test_data_that_cannot_be_used_end_the_search_at_once(table, quick, small):
    X, y = table
    with pytest.raises(InputError, match="infinity"):
        tune(quick(), np.where(X > 2, np.inf, X), y, space=small, storage=InMemoryStorage())
    with pytest.raises(InputError, match="Poisson needs y >= 0"):
        tune(quick(head="poisson"), X, y, storage=InMemoryStorage())


def test_time_that_is_over_ends_the_search_with_what_there_is(table, quick, small):
    found = tune(
        quick(), *table, trials=None, time_limit=0.01, space=small, storage=InMemoryStorage(),
        refit=False,
    )  # fmt: skip
    assert states(found.study) == ["COMPLETE"]  # one result is awaited


def test_a_trial_that_runs_when_time_is_over_is_stopped(table, quick, small, monkeypatch):
    monkeypatch.setattr(trial_module, "deadline", lambda seconds: lambda: True)
    found = tune(quick(), *table, trials=2, space=small, storage=InMemoryStorage(), refit=False)
    assert states(found.study) == ["COMPLETE", "PRUNED"]  # the first: one result is awaited
    assert found.study.trials[1].user_attrs[ERROR] == "stopped: the time for the search was over"


def test_callbacks_see_each_trial_when_it_has_ended(table, quick, small):
    seen = []
    tune(
        quick(), *table, trials=3, space=small, storage=InMemoryStorage(), refit=False,
        callbacks=[lambda study, trial: seen.append((trial.number, trial.state))],
    )  # fmt: skip
    assert seen == [(i, TrialState.COMPLETE) for i in range(3)]


def test_positions_of_the_user_mean_the_same_rows_in_every_trial(table, quick, small):
    X, y = table
    held = np.arange(0, 260, 4)
    inner = np.arange(1, 260, 4)
    found = tune(
        quick(validation=inner, random_state=0), X, y, trials=1, space=small, holdout=held,
        storage=InMemoryStorage(), refit=False,
    )  # fmt: skip
    train = np.setdiff1d(np.arange(260), held)
    same = quick(validation=np.isin(train, inner), random_state=0, members=1)
    same.fit(X[train], y[train])
    expected = same.score_samples(X[held]) - same.score_joint(X[held], y[held])
    assert found.study.trials[0].value == pytest.approx(expected.mean(), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "score"),
    [
        (lambda: FlowDensity("realnvp", training=TrainingConfig(steps=10)), "likelihood"),
        (lambda: FlowOutlierDetector(training=TrainingConfig(steps=10)), "likelihood"),
        (
            lambda: HybridClassifier("realnvp", training=TrainingConfig(steps=10), quality="fast"),
            "task",
        ),
    ],
    ids=["density", "outliers", "classifier"],
)
def test_every_estimator_can_be_tuned(make, score):
    X, y = load_iris(return_X_y=True)
    found = tune(
        make(), X, y, np.linspace(0.5, 1, 150), trials=2, storage=InMemoryStorage(),
        holdout=ShuffleSplit(1, test_size=0.3, random_state=0),
        space={"training__batch_size": 512},
    )  # fmt: skip
    assert found.scores == (score,)
    assert hasattr(found.estimator, "models_")


@pytest.mark.parametrize("score", ["task", ("task", "likelihood")], ids=["one", "several"])
def test_pictures(table, quick, small, score):
    found = tune(
        quick(), *table, trials=4, space=small, score=score, storage=InMemoryStorage(), refit=False
    )
    several = not isinstance(score, str)
    last = len(found.scores) - 1
    axes = [found.plot_history(last), found.plot_importances(last)]
    assert len(found.plot_slices(last)) == len(found.study.trials[0].params)
    axes.append(found.plot_front() if several else found.plot_curves())
    assert all(ax.has_data() for ax in axes)
    with pytest.raises(InputError):
        found.plot_curves() if several else found.plot_front()
    with pytest.raises(InputError, match="counted from 0"):
        found.plot_history(2)
    plt.close("all")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials must be a whole number of at least 1"),
        ({"trials": None}, "would not end"),
        ({"time_limit": -1}, "time_limit must be a positive number"),
        ({"workers": 0}, "workers must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"score": "accuracy"}, "expected task, likelihood"),
        ({"score": ("task", "likelihood"), "pruner": optuna.pruners.MedianPruner()}, "one value"),
        ({"workers": 2}, "several processes need a storage in a file"),
        ({"holdout": 2.0}, "holdout: a share lies between 0 and 1"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused(table, quick, options, message):
    with pytest.raises(ConfigError, match=message):
        tune(quick(), *table, **{"storage": InMemoryStorage(), **options})


def test_a_foreign_estimator_is_refused(table):
    with pytest.raises(ConfigError, match="expected one of hybridflow"):
        tune("maf", *table)


def test_a_trial_without_a_score_has_no_settings_to_take(table, quick, small):
    found = tune(quick(), *table, trials=1, space=small, storage=InMemoryStorage(), refit=False)
    with pytest.raises(InputError, match="no complete trial"):
        found.settings(7)
