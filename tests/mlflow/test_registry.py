"""Registered models, aliases and searches, against a real tracking server on this machine."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
import pytest

from hybridflow import FlowDensity, HybridRegressor, TrainingConfig, tune
from hybridflow.errors import HybridFlowWarning
from hybridflow.mlflow import (
    StudyCallback,
    TrackingCallback,
    autolog,
    courier,
    load_model,
    log_model,
)


@pytest.fixture(scope="module")
def server(
    database: str,
    running: Callable[..., Any],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Address of ``mlflow server`` with a database and a folder of its own."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    shutil.copy(database.removeprefix("sqlite:///"), folder / "mlflow.db")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with running(command, port, "/health", folder / "log") as address:
        mlflow.MlflowClient(address).create_experiment("served")
        yield address


@pytest.fixture
def connected(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(courier, "LONGEST_WAIT", 120.0)
    mlflow.set_tracking_uri(server)
    mlflow.set_experiment("served")
    yield server
    mlflow.set_tracking_uri(None)


@pytest.mark.usefixtures("connected")
def test_a_registered_model_is_found_by_its_alias(density: FlowDensity, matrix: np.ndarray) -> None:
    with mlflow.start_run():
        info = log_model(density, registered_model_name="usual-rows")
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("usual-rows", "champion", info.registered_model_version)
    expected = density.score_samples(matrix).tolist()
    for uri in (info.model_uri, "models:/usual-rows@champion", "models:/usual-rows/1"):
        assert load_model(uri).score_samples(matrix).tolist() == expected
    served = mlflow.pyfunc.load_model("models:/usual-rows@champion").predict(matrix)
    assert served["log_density"].tolist() == pytest.approx(expected, rel=1e-12)


def test_a_tracked_fit_becomes_the_next_version(connected: str, matrix: np.ndarray) -> None:
    callback = TrackingCallback(registered_model_name="numbers")
    model = HybridRegressor(
        "nice", members=1, training=TrainingConfig(steps=5), callbacks=(callback,)
    )
    client = mlflow.MlflowClient()
    for version in ("1", "2"):
        model.fit(matrix, matrix[:, 0])
        client.set_registered_model_alias("numbers", "champion", version)
        again = load_model("models:/numbers@champion")
        assert again.predict(matrix).tolist() == model.predict(matrix).tolist()
        run = client.get_run(client.get_model_version("numbers", version).run_id)
        assert run.info.status == "FINISHED"


def test_trials_are_runs_inside_of_that_of_the_study(connected: str) -> None:
    callback = StudyCallback(experiment="served")

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -1, 1)
        trial.report(x, 0)
        trial.report(x / 2, 1)
        if trial.number == 1:
            raise optuna.TrialPruned
        if trial.number == 2:
            raise ZeroDivisionError
        return x * x

    study = optuna.create_study(study_name="squares")
    study.optimize(objective, n_trials=4, callbacks=[callback], catch=(ZeroDivisionError,))
    again = StudyCallback(connected, "served")  # as another worker would
    again(study, study.trials[0])
    assert callback.wait(120)
    assert again.wait(120)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("served")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`hybridflow.study` = 'squares'")
    (parent,) = found
    assert parent.info.status == "FINISHED"
    inside = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    trials = client.search_runs([experiment.experiment_id], inside)
    states = sorted((run.data.tags["optuna.number"], run.info.status) for run in trials)
    assert states == [
        ("0", "FINISHED"),
        ("0", "FINISHED"),
        ("1", "FINISHED"),
        ("2", "FAILED"),
        ("3", "FINISHED"),
    ]
    (last,) = [run for run in trials if run.data.tags["optuna.number"] == "3"]
    assert last.data.metrics["value"] == pytest.approx(study.trials[3].value)
    assert float(last.data.params["x"]) == pytest.approx(study.trials[3].params["x"])
    curve = client.get_metric_history(last.info.run_id, "intermediate")
    assert [point.step for point in curve] == [0, 1]


def test_a_search_is_a_run_with_its_trials_inside_whatever_logs_by_itself(connected: str) -> None:
    X = np.random.default_rng(0).normal(size=(200, 2))
    model = HybridRegressor("nice", training=TrainingConfig(steps=5), random_state=0)
    callback = StudyCallback()
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("served")
    assert experiment is not None
    before = {run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    autolog(log_model=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HybridFlowWarning)  # few rows
            found = tune(model, X, X[:, 0], trials=2, storage="study.journal", callbacks=[callback])
    finally:
        autolog(disable=True)
    assert callback.wait(120)
    runs = client.search_runs([experiment.experiment_id])
    new = [run for run in runs if run.info.run_id not in before]
    (study,) = [run for run in new if "hybridflow.study" in run.data.tags]
    trials = [run for run in new if "mlflow.parentRunId" in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {study.info.run_id}
    values = sorted(run.data.metrics["value"] for run in trials)
    assert values == pytest.approx(sorted(trial.value for trial in found.study.trials))
    (refit,) = [run for run in new if run not in [study, *trials]]
    assert refit.data.tags["mlflow.runName"] == "HybridRegressor"
