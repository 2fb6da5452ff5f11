"""Requests per second of a served model, beside MLflow's scoring server.

    OMP_NUM_THREADS=1 python tests/benchmarks/serving.py [--seconds 5] [--rounds 5] [--soak 600]

Three servers on this machine: `hybridflow serve`, `mlflow models serve` with the same
model, and `mlflow models serve` with a logistic regression of scikit-learn, which is what
MLflow costs by itself. The model is a classifier with affine couplings (`realnvp`) on ten
columns, of one member and of three, in its default configuration otherwise, and answers
with the whole table: prediction, probabilities, sets, log-density, novelty, abstention.
Each request is one row. The servers take turns, several rounds, and the table shows
medians over rounds; clients are threads of this process with a connection each. The mixed
load is eight clients of whose requests every other cannot be answered. The soak is eight
clients at the first server for as long as is asked, and what its memory does.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}
GOAL = 0.8
SECONDS, ROUNDS, SOAK = 5.0, 5, 600.0  # of the full form
ONE = ("1 client, /s", "p50, ms", "p99, ms", "share")
EIGHT = ("8 clients, /s", "share", "p50, ms", "p99, ms")
HEADER = ("served", *ONE, *EIGHT)


@dataclass
class Load:
    """What came of a load."""

    seconds: float
    milliseconds: list[float]
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return len(self.milliseconds) / self.seconds

    def quantile(self, level: float) -> float:
        return float(np.quantile(self.milliseconds, level))


Body = tuple[bytes, dict[str, str], int]
"""What is sent, its headers, and the status that is right."""


def load(port: int, bodies: Sequence[Body], clients: int, seconds: float) -> Load:
    """Send requests in turn from several clients until the time is up."""
    end = time.perf_counter() + seconds
    found = [Load(seconds, []) for _ in range(clients)]

    def client(mine: Load) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        i = 0
        while time.perf_counter() < end:
            body, headers, expected = bodies[i % len(bodies)]
            i += 1
            start = time.perf_counter()
            try:
                connection.request("POST", "/invocations", body, headers)
                reply = connection.getresponse()
                reply.read()
                status = reply.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = 0
            mine.milliseconds.append(1e3 * (time.perf_counter() - start))
            if status != expected:
                mine.statuses[status] = mine.statuses.get(status, 0) + 1
        connection.close()

    threads = [threading.Thread(target=client, args=(mine,)) for mine in found]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = Load(time.perf_counter() - start, [ms for mine in found for ms in mine.milliseconds])
    for mine in found:
        for status, count in mine.statuses.items():
            whole.statuses[status] = whole.statuses.get(status, 0) + count
    return whole


def table() -> tuple[pd.DataFrame, np.ndarray]:
    """Return 3,000 rows of ten correlated columns, and a label."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 10)) @ rng.normal(size=(10, 10))
    y = np.where(X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=3000) > 0, "yes", "no")
    return pd.DataFrame(X, columns=[f"c{i}" for i in range(10)]), y


def free_port() -> int:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(command: Callable[[int], list[str]]) -> Iterator[tuple[int, int]]:
    """Run a server; yield its port and process."""
    port = free_port()
    bin = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": os.pathsep.join([bin, os.environ["PATH"]])}
    process = subprocess.Popen(
        command(port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        while True:
            assert process.poll() is None, "a server ended early"
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            time.sleep(0.1)
        yield port, process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ours(path: Path) -> Callable[[int], list[str]]:
    command = [sys.executable, "-m", "hybridflow", "serve", str(path)]
    return lambda port: [*command, "--port", str(port)]


def mlflows(path: Path) -> Callable[[int], list[str]]:
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(path)]
    return lambda port: [*command, "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]


def memory(process: int) -> float:
    """Return the resident memory of a process in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the process has no memory")


def save_all(folder: Path) -> tuple[dict[str, Callable[[int], list[str]]], list[Body]]:
    """Fit and save the models; return how each server starts, and bodies of one row."""
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    from hybridflow import HybridClassifier
    from hybridflow.mlflow import save_model

    X, y = table()
    commands = {}
    for members in (1, 3):
        model = HybridClassifier("realnvp", members=members, random_state=0).fit(X, y)
        model.save(folder / f"{members}.hflow")
        save_model(model, folder / f"flow-{members}")
        name = f"affine flow, {members} member{'s' if members > 1 else ''}"
        commands[f"{name}: hybridflow serve"] = ours(folder / f"{members}.hflow")
        commands[f"{name}: mlflow models serve"] = mlflows(folder / f"flow-{members}")
    peer = LogisticRegression().fit(X, y)
    signature = infer_signature(X, peer.predict(X))
    mlflow.sklearn.save_model(
        peer, str(folder / "peer"), signature=signature, pip_requirements=["scikit-learn"]
    )
    commands["logistic regression: mlflow models serve"] = mlflows(folder / "peer")
    rows = X.iloc[:50].to_dict(orient="records")
    return commands, [(json.dumps({"dataframe_records": [r]}).encode(), JSON, 200) for r in rows]


def mixed(good: Sequence[Body]) -> list[Body]:
    """Return bodies of which every other cannot be answered."""
    row = json.loads(good[0][0])["dataframe_records"][0]
    text = json.dumps({"dataframe_records": [row | {"c3": "x"}]}).encode()
    bad: list[Body] = [
        (b"{", JSON, 400),
        (b'{"dataframe_records": [{"c0": 1}]}', JSON, 400),
        (text, JSON, 400),
        (b'{"instances": ' + b"[" * 50_000, JSON, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b'{"dataframe_records": [' + b" " * 100_000 + b"NaN]}", JSON, 400),
    ]
    return [body for pair in zip(good, bad * len(good), strict=False) for body in pair]


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one load")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--soak", type=float, default=SOAK, help="seconds")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/serving.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        commands, good = save_all(Path(folder))
        places = {name: stack.enter_context(server(command)) for name, command in commands.items()}
        singles: dict[str, list[Load]] = {name: [] for name in places}
        eights: dict[str, list[Load]] = {name: [] for name in places}
        for port, _ in places.values():
            load(port, good, 1, min(1.0, arguments.seconds))  # warm
        for _ in range(arguments.rounds):
            for name, (port, _) in places.items():
                singles[name].append(load(port, good, 1, arguments.seconds))
                eights[name].append(load(port, good, 8, arguments.seconds))
        own_port, own_process = places["affine flow, 1 member: hybridflow serve"]
        every_other = load(own_port, mixed(good), 8, arguments.seconds)
        before = memory(own_process)
        soak = load(own_port, good, 8, arguments.soak)
        after = memory(own_process)
    lines = page(arguments, singles, eights, every_other, soak, before, after)
    print("\n".join(lines))
    arguments.output.write_text("\n".join(lines) + "\n")


def page(
    arguments: argparse.Namespace,
    singles: dict[str, list[Load]],
    eights: dict[str, list[Load]],
    every_other: Load,
    soak: Load,
    before: float,
    after: float,
) -> list[str]:
    """Return the lines of the page."""

    def median(loads: list[Load], read: Callable[[Load], float]) -> float:
        return statistics.median(read(each) for each in loads)

    def share(loads: list[Load], peers: list[Load]) -> float:
        return statistics.median(a.rate / b.rate for a, b in zip(loads, peers, strict=True))

    floor = singles["logistic regression: mlflow models serve"]
    many = eights["logistic regression: mlflow models serve"]
    chosen = arguments.seconds, arguments.rounds, arguments.soak
    short = chosen != (SECONDS, ROUNDS, SOAK)
    said = [
        f"**This is a short form**, made with `--seconds {arguments.seconds:g} --rounds",
        f"{arguments.rounds} --soak {arguments.soak:g}` while the machine had other work",
        f"(load {os.getloadavg()[2]:.1f} on {os.cpu_count()} cores): shares mean more than rates.",
        "",
    ]
    lines = [
        "# Serving: requests per second",
        "",
        *(said if short else []),
        "Written by `python tests/benchmarks/serving.py`. One row of ten numbers a request, as",
        f"JSON, {os.cpu_count()} cores for servers and clients; medians over {arguments.rounds}",
        f"rounds of {arguments.seconds:g} s in which the servers take turns. The flow answers with",
        "its whole table: prediction, probabilities, sets, log-density, novelty and abstention.",
        "Share: of the requests per second of MLflow with a logistic regression, round by round.",
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{'---|' * len(HEADER)}",
    ]
    for name, loads in singles.items():
        wrong = sum(sum(each.statuses.values()) for each in [*loads, *eights[name]])
        assert wrong == 0, f"{name}: {wrong} requests were not answered"
        cells = [
            f"{median(loads, lambda each: each.rate):.0f}",
            f"{median(loads, lambda each: each.quantile(0.5)):.1f}",
            f"{median(loads, lambda each: each.quantile(0.99)):.1f}",
            f"{share(loads, floor):.2f}",
            f"{median(eights[name], lambda each: each.rate):.0f}",
            f"{share(eights[name], many):.2f}",
            f"{median(eights[name], lambda each: each.quantile(0.5)):.1f}",
            f"{median(eights[name], lambda each: each.quantile(0.99)):.1f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [
        *lines,
        "",
        f"The goal is a share of {GOAL} for `hybridflow serve`.",
        "",
        f"Every other request one that cannot be answered, eight clients: {every_other.rate:.0f} a",
        f"second, p99 {every_other.quantile(0.99):.1f} ms; {sum(every_other.statuses.values())} of",
        f"{len(every_other.milliseconds):,} had another status than they should.",
        "",
        f"Soak of {arguments.soak:g} s, eight clients: {len(soak.milliseconds):,} requests,",
        f"{sum(soak.statuses.values())} failed, p99 {soak.quantile(0.99):.1f} ms; memory of the",
        f"server {before:.0f} MiB before, {after:.0f} MiB after.",
    ]


if __name__ == "__main__":
    main()
