"""Tracking: what arrives in a real database, and that it never hurts a fit."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from sklearn.base import clone

from hybridflow import FlowDensity, HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.errors import ConfigError, InputError, TrackingWarning
from hybridflow.flows.affine import RealNVP
from hybridflow.mlflow import TrackingCallback, autolog, contents, courier, load_model, tracking

FLOW = RealNVP(layers=2, hidden_units=8)
QUICK = TrainingConfig(steps=10, evaluations=2)
X = np.random.default_rng(0).normal(size=(300, 2))
Y = X[:, 0]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait as long as it takes: this machine may be busy, and nothing here is dead."""
    monkeypatch.setattr(courier, "LONGEST_WAIT", 120.0)


@pytest.fixture(autouse=True)
def _no_autolog_stays() -> Iterator[None]:
    yield
    autolog(disable=True)


def runs(address: str) -> list[Any]:
    client = mlflow.MlflowClient(address)
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def latest(address: str) -> Any:
    return max(runs(address), key=lambda run: run.info.start_time)


def regression(*callbacks: TrackingCallback, **params: Any) -> HybridRegressor:
    params = {"members": 2, "training": QUICK, "random_state": 0, **params}
    return HybridRegressor(FLOW, callbacks=callbacks, **params)


@pytest.mark.usefixtures("patient")
def test_what_arrives_of_a_fit(tracking: str, tmp_path: Path) -> None:
    model = regression(TrackingCallback()).fit(X, Y)
    run = latest(tracking)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.runName"] == "HybridRegressor"
    params = run.data.params
    assert params["flow.layers"] == "2"
    assert params["training.steps"] == "10"
    assert params["head.name"] == "mixture"
    assert params["likelihood_weight"] == "0.3"
    assert "callbacks" not in params
    client = mlflow.MlflowClient()
    for member in range(2):
        for name in ("loss", "task", "density", "learning_rate"):
            curve = client.get_metric_history(run.info.run_id, f"member_{member}/{name}")
            assert [point.step for point in curve] == [
                record.step for record in model.histories_[member]
            ]
    folder = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    kept = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert kept == {
        "audit.json",
        "audit.txt",
        "data/columns.txt",
        "data/schema.json",
        "figures/learning_curves.png",
        "histories.json",
        "settings.json",
    }
    assert (folder / "data/columns.txt").read_text() == model.schema_.summary()
    (output,) = run.outputs.model_outputs
    again = load_model(f"models:/{output.model_id}")
    assert again.predict(X).tolist() == model.predict(X).tolist()


@pytest.mark.usefixtures("patient")
def test_an_active_run_is_used_and_stays_open(tracking: str) -> None:
    with mlflow.start_run(run_name="mine") as mine:
        regression(TrackingCallback(log_model=False)).fit(X, Y)
        mlflow.log_metric("own", 1.0)
        assert mlflow.MlflowClient().get_run(mine.info.run_id).info.status == "RUNNING"
    data = mlflow.MlflowClient().get_run(mine.info.run_id).data
    assert data.params["flow.layers"] == "2"
    assert data.metrics["own"] == 1.0


@pytest.mark.usefixtures("patient")
def test_autolog_reports_every_fit_until_it_is_switched_off(tracking: str) -> None:
    before = len(runs(tracking))
    autolog(log_model=False)
    autolog(log_model=False)  # once more changes nothing
    FlowDensity(FLOW, training=QUICK, random_state=0).fit(X)
    assert len(runs(tracking)) == before + 1
    assert latest(tracking).data.tags["mlflow.runName"] == "FlowDensity"
    autolog(disable=True)
    FlowDensity(FLOW, training=QUICK, random_state=0).fit(X)
    assert len(runs(tracking)) == before + 1


@pytest.mark.usefixtures("patient")
def test_a_fit_that_fails_is_a_failed_run(tracking: str) -> None:
    with pytest.raises(InputError):
        regression(TrackingCallback()).fit(np.full((300, 2), np.inf), Y)
    run = latest(tracking)
    assert run.info.status == "FAILED"
    assert "InputError" in run.data.tags["error"]
    with pytest.raises(ConfigError):
        regression(TrackingCallback(), base="no-such-base").fit(X, Y)
    assert latest(tracking).info.status == "FAILED"


@pytest.mark.usefixtures("patient")
def test_values_beyond_the_limits_are_cut(tracking: str) -> None:
    labels = np.where(Y > 0, "a" * 700, "b" * 700)
    weights = {"a" * 700: 1.0, "b" * 700: 2.0}
    callback = TrackingCallback(log_model=False)
    HybridClassifier(
        FLOW, members=1, training=QUICK, class_weight=weights, callbacks=(callback,)
    ).fit(X, labels)
    run = latest(tracking)
    assert run.info.status == "FINISHED"
    assert all(len(value) <= contents.LONGEST_VALUE for value in run.data.params.values())
    folder = mlflow.MlflowClient().download_artifacts(run.info.run_id, "settings.json")
    assert "a" * 700 in Path(folder).read_text()


def test_a_long_value_ends_in_dots() -> None:
    (param,) = contents.params_of({"text": "x" * 900})
    assert param.value == "x" * 497 + "..."
    assert contents.key_of("a:b/c*d?" + "e" * 300) == "a:b/c_d_" + "e" * 242


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda callback: pickle.loads(pickle.dumps(callback))],
    ids=["deepcopy", "pickle"],
)
def test_a_callback_can_be_copied(copied: Callable[[Any], Any]) -> None:
    callback = TrackingCallback("sqlite:///x.db", "houses")
    assert vars(copied(callback)) == vars(callback)
    assert vars(clone(regression(callback)).callbacks[0]) == vars(callback)


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of a server that takes every connection and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(0.1)
        open_, stop = [], threading.Event()

        def accept() -> None:
            while not stop.is_set():
                try:
                    open_.append(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stop.set()
        thread.join()
        for connection in open_:
            connection.close()


@pytest.fixture
def refused() -> str:
    """Address at which nobody listens."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


class Fails(BaseHTTPRequestHandler):
    """Answers every request with the status of the server."""

    def do_GET(self) -> None:
        self.send_error(self.server.status)  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def failing(status: int) -> Iterator[str]:
    """Run a server that answers with one status until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Fails) as server:
        server.status = status  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def broken() -> Iterator[str]:
    """Address of a server that answers 500, which MLflow's client tries for minutes."""
    with failing(500) as address:
        yield address


@pytest.mark.parametrize("server", ["silent", "refused", "broken"])
def test_a_dead_server_costs_one_wait_and_no_fit(
    server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = request.getfixturevalue(server)
    waits: list[float] = []
    wait = courier.Parcel.wait

    def counted(self: courier.Parcel, seconds: float) -> bool:
        waits.append(seconds)
        return wait(self, min(seconds, 0.5))  # the test need not take so long

    monkeypatch.setattr(courier.Parcel, "wait", counted)
    plain = regression().fit(X, Y)
    callback = TrackingCallback(address, "tests")
    with pytest.warns(TrackingWarning, match=address) as caught:
        model = regression(callback).fit(X, Y)
    assert len(caught) == 1
    assert model.predict(X).tolist() == plain.predict(X).tolist()
    assert 0 < sum(waits) <= courier.LONGEST_WAIT == 5.0
    waits.clear()
    with pytest.warns(TrackingWarning):  # late already: the next one does not wait at all
        regression(callback).fit(X, Y)
    assert sum(waits) == 0


@pytest.mark.usefixtures("patient")
def test_a_server_that_refuses_the_user_is_a_warning() -> None:
    with failing(401) as address, pytest.warns(TrackingWarning, match="401"):
        regression(TrackingCallback(address, "tests")).fit(X, Y)


SCRIPT = """
import sys
import numpy as np
from hybridflow import FlowDensity, TrainingConfig
from hybridflow.mlflow import TrackingCallback, courier
courier.LONGEST_WAIT = 0.1
callback = TrackingCallback(sys.argv[1] or None, "scripts")
X = np.random.default_rng(0).normal(size=(300, 2))
FlowDensity("nice", training=TrainingConfig(steps=5), callbacks=(callback,)).fit(X)
"""


def run_script(folder: Path, address: str) -> str:
    """Run a script that ends as soon as its model is fitted; return what it says."""
    environment = {key: value for key, value in os.environ.items() if "TRACKING" not in key}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, address],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,  # a dead server can hold MLflow's own client for four minutes
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_by_default_runs_are_in_a_database_in_the_working_folder(
    database: str, tmp_path: Path
) -> None:
    shutil.copy(database.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    run_script(tmp_path, "")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("scripts")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert len(run.outputs.model_outputs) == 1


def test_a_program_ends_though_its_server_is_dead(silent: str, tmp_path: Path) -> None:
    assert "TrackingWarning" in run_script(tmp_path, silent)


def test_a_fit_that_fails_with_a_dead_server_fails_as_it_would(
    refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "LONGEST_WAIT", 0.1)
    with pytest.warns(TrackingWarning), pytest.raises(InputError, match="infinity"):
        regression(TrackingCallback(refused)).fit(np.full((300, 2), np.inf), Y)


def test_an_address_that_is_none_is_a_warning() -> None:
    with pytest.warns(TrackingWarning, match="nowhere"):
        regression(TrackingCallback("nowhere://at.all")).fit(X, Y)


@pytest.mark.usefixtures("patient")
def test_a_place_that_cannot_be_written_is_a_warning(tracking: str, tmp_path: Path) -> None:
    client = mlflow.MlflowClient(tracking)
    (tmp_path / "file").touch()
    name = f"full-{tmp_path.name}"
    client.create_experiment(name, artifact_location=(tmp_path / "file/artifacts").as_uri())
    with pytest.warns(TrackingWarning, match="file"):
        model = regression(TrackingCallback(tracking, name)).fit(X, Y)
    assert np.isfinite(model.predict(X)).all()


def test_messages_are_sent_in_order_and_dropped_after_a_failure() -> None:
    sender, seen = courier.Courier("test:"), []
    parcel = courier.Parcel(sender)
    parcel.send(lambda: seen.append(1))
    parcel.send(lambda: 1 / 0)
    parcel.send(lambda: seen.append(2))
    assert parcel.wait(30)
    assert isinstance(parcel.failure, ZeroDivisionError)
    other = courier.Parcel(sender)
    other.send(lambda: seen.append(3))
    assert other.wait(30)
    assert seen == [1, 3]


def test_a_full_queue_drops_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_MOST_WAITING", 1)
    sender, gate = courier.Courier("test:"), threading.Event()
    parcel = courier.Parcel(sender)
    for _ in range(5):
        parcel.send(gate.wait)
    assert parcel.failure is not None
    gate.set()
    assert parcel.wait(30)


def test_warnings_name_what_was_lost() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tracking.warn("gone")
    assert str(caught[0].message) == "tracking: gone. The fit itself is done"
