"""Small models, a tracking database, and MLflow's real servers on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false"

import mlflow

from hybridflow import FlowDensity, HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.estimators.base import FlowEstimator
from hybridflow.flows.affine import RealNVP

QUICK = TrainingConfig(steps=30)
FLOW = RealNVP(layers=2, hidden_units=8)


def people(rows: int = 400) -> tuple[pd.DataFrame, pd.Series[str]]:
    """Return a table of every kind of column, and a label that follows from it."""
    rng = np.random.default_rng(0)
    city = rng.choice(np.array(["Bern", "Genf", None], dtype=object), rows, p=[0.5, 0.4, 0.1])
    income = np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(8, 0.3, rows))
    X = pd.DataFrame(
        {
            "height": rng.normal(170, 8, rows),
            "age": rng.integers(18, 80, rows),
            "city": city,
            "married": rng.random(rows) < 0.5,
            "income": income,
            "planet": "Earth",
        }
    )
    tall = X["height"] + 4 * (X["city"] == "Bern") + rng.normal(0, 4, rows) > 171
    return X, pd.Series(np.where(tall, "tall", "small"), name="size")


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    return people()[0]


@pytest.fixture(scope="session")
def classifier() -> HybridClassifier:
    X, y = people()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant column
        return HybridClassifier(FLOW, members=2, training=QUICK, random_state=0).fit(X, y)


@pytest.fixture(scope="session")
def matrix() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(400, 3))


@pytest.fixture(scope="session")
def regressor(matrix: np.ndarray) -> HybridRegressor:
    y = matrix[:, 0] + 0.1 * np.random.default_rng(2).normal(size=len(matrix))
    model = HybridRegressor(FLOW, members=1, training=QUICK, random_state=0)
    return model.fit(matrix, y)


@pytest.fixture(scope="session")
def density(matrix: np.ndarray) -> FlowDensity:
    return FlowDensity(FLOW, members=1, training=QUICK, random_state=0).fit(matrix)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a tracking database; a fresh one takes seconds, so all tests share it."""
    folder = tmp_path_factory.mktemp("tracking")
    address = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow.MlflowClient(address)
    client.create_experiment("tests", artifact_location=(folder / "artifacts").as_uri())
    return address


@pytest.fixture
def tracking(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have MLflow track into the database, in the experiment ``tests``."""
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(database)
    mlflow.set_experiment("tests")
    yield database
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(None)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int, path: str, log: Path) -> Iterator[str]:
    """Run a server in a process group of its own until the block ends."""
    bin = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([bin, os.environ["PATH"]])}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not answers(address + path):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


Save = Callable[[FlowEstimator], Path]


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """Save a model in MLflow's format, and return the folder."""
    from hybridflow.mlflow import save_model

    def save(model: FlowEstimator) -> Path:
        folder = tmp_path_factory.mktemp("model") / "model"
        save_model(model, folder)
        return folder

    return save


@contextmanager
def serving(folder: Path, log: Path) -> Iterator[str]:
    """Run ``mlflow models serve`` for a saved model until the block ends."""
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder)]
    command += ["--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    with _running(command, port, "/ping", log) as address:
        yield address


@pytest.fixture(scope="session")
def of_frame(
    classifier: HybridClassifier, saved: Save, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a server of the model of a frame."""
    with serving(saved(classifier), tmp_path_factory.mktemp("server") / "log") as address:
        yield address


@pytest.fixture(scope="session")
def of_matrix(
    regressor: HybridRegressor, saved: Save, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a server of the model of a matrix."""
    with serving(saved(regressor), tmp_path_factory.mktemp("server") / "log") as address:
        yield address


@pytest.fixture(scope="session")
def running() -> Callable[..., object]:
    """Run a server until a block ends."""
    return _running


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Return a port that nobody listens at."""
    return _free_port
