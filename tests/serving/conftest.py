"""Small models, and ``hybridflow serve`` as a real process on this machine."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hybridflow import HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.estimators.base import FlowEstimator
from hybridflow.flows.affine import RealNVP

QUICK = TrainingConfig(steps=30)
FLOW = RealNVP(layers=2, hidden_units=8)


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    """Rows of every kind of column."""
    rng, rows = np.random.default_rng(0), 400
    return pd.DataFrame(
        {
            "height": rng.normal(170, 8, rows),
            "age": rng.integers(18, 80, rows),
            "city": rng.choice(np.array(["Bern", "Genf", None], dtype=object), rows),
            "married": rng.random(rows) < 0.5,
            "income": np.where(rng.random(rows) < 0.1, np.nan, rng.lognormal(8, 0.3, rows)),
            "planet": "Earth",
        }
    )


@pytest.fixture(scope="session")
def classifier(table: pd.DataFrame) -> HybridClassifier:
    label = np.where(table["height"] + 4 * (table["city"] == "Bern") > 171, "tall", "small")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant column
        model = HybridClassifier(FLOW, members=2, training=QUICK, random_state=0)
        return model.fit(table, label)


@pytest.fixture(scope="session")
def matrix() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(300, 3))


@pytest.fixture(scope="session")
def regressor(matrix: np.ndarray) -> HybridRegressor:
    model = HybridRegressor(FLOW, members=1, training=QUICK, random_state=0)
    return model.fit(matrix, matrix[:, 0])


@dataclass(frozen=True)
class Server:
    """A process that serves, and what it says."""

    process: subprocess.Popen[bytes]
    port: int
    said: list[str]

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, content (JSON read strictly) and headers of a reply."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            content: Any = reply.read()
            if reply.headers.get_content_type() == "application/json":
                content = json.loads(content, parse_constant=_refuse)
            return reply.status, content, {k.lower(): v for k, v in reply.getheaders()}
        finally:
            connection.close()

    def post(self, body: Any, kind: str | None = "application/json") -> tuple[int, Any]:
        """Return status and content of the reply to rows."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, content, _ = self.ask(
            "POST", "/invocations", raw, {} if kind is None else {"Content-Type": kind}
        )
        return status, content


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} in a reply")


@contextmanager
def _serving(
    model: FlowEstimator, folder: Path, *options: str, program: Sequence[str] = ("-m", "hybridflow")
) -> Iterator[Server]:
    path = folder / "model.hflow"
    model.save(path)
    command = [sys.executable, *program, "serve", str(path), "--port", "0", *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=dict(os.environ)
    )
    said: list[str] = []
    assert process.stderr is not None
    lines = process.stderr
    reader = threading.Thread(target=lambda: said.extend(line.decode() for line in lines))
    reader.start()
    try:
        deadline = time.monotonic() + 120
        while not any("serving" in line for line in said):
            assert process.poll() is None, said
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (line,) = [line for line in said if "serving" in line]
        server = Server(process, int(line.partition("127.0.0.1:")[2].partition(",")[0]), said)
        while True:
            try:
                server.ask("GET", "/ping")
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        yield server
    finally:
        process.kill()
        process.wait()
        reader.join()
        lines.close()


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """Serve a model until a block ends."""
    return _serving


@pytest.fixture(scope="session")
def server(
    classifier: HybridClassifier, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of the model of a frame, with small limits."""
    options = ["--max-body", "1", "--max-rows", "500", "--timeout", "1"]
    with _serving(classifier, tmp_path_factory.mktemp("server"), *options) as server:
        yield server


@pytest.fixture(scope="session")
def of_matrix(
    regressor: HybridRegressor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server of the model of a matrix, which ignores extra columns."""
    folder = tmp_path_factory.mktemp("server")
    with _serving(regressor, folder, "--extra", "ignore") as server:
        yield server


ROW = {"height": 170.0, "age": 40, "city": "Bern", "married": True, "income": 3000.0}


@pytest.fixture
def row() -> dict[str, Any]:
    """A row that can be answered."""
    return dict(ROW)
