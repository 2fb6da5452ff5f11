"""Milliseconds of an exported graph in onnxruntime, beside torch, by rows in a batch.

    python tests/benchmarks/export.py [--repeats 300]

One thread. Two models of the breast cancer table with the default flow: the density of one
member, and the classifier of three members. ``graph`` is the time of one call of the session,
``torch`` that of the same module tensors in, tensors out (`HybridModel.log_density`, float64),
and ``estimator`` that of the method, which also reads and checks the table. Medians.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from sklearn.datasets import load_breast_cancer

from hybridflow import FlowDensity, HybridClassifier, TrainingConfig
from hybridflow.export import to_onnx

ROOT = Path(__file__).parents[2]
BATCHES = (1, 64, 4096)
COLUMNS = ("what", "rows", "graph", "graph, float32", "torch", "estimator", "torch / graph")
FEATURES = 10  # the means; the others are their deviations and extremes


def milliseconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def session(model: object, outputs: list[str] | None, *, float32: bool) -> object:
    """Return the exported graph in the runtime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        to_onnx(model, folder, outputs=outputs, float32=float32)
        return onnxruntime.InferenceSession(
            f"{folder}/predict.onnx", options, providers=["CPUExecutionProvider"]
        )


def measure(name: str, model: object, outputs: list[str] | None, X: np.ndarray, repeats: int):
    """Yield a line of the table for each number of rows."""
    graphs = [session(model, outputs, float32=single) for single in (False, True)]
    inputs = [value.name for value in graphs[0].get_inputs()]
    members = model.models_
    for n in BATCHES:
        rows = np.resize(X, (n, X.shape[1]))
        feed = {column: rows[:, k].copy() for k, column in enumerate(inputs)}
        x, turns = torch.tensor(rows), max(5, repeats // (1 if n == 1 else n // 16))

        def plain(x: torch.Tensor = x) -> None:
            with torch.no_grad():
                for member in members:
                    z, ladj = member.latent(x)
                    _ = member.base.log_prob(z) + ladj
                    if member.head is not None:
                        member.predictor(z)

        def method(rows: np.ndarray = rows) -> None:
            model.score_samples(rows)
            if hasattr(model, "predict_proba"):
                model.predict_proba(rows)

        double, single = (
            milliseconds(lambda g=graph, f=feed: g.run(None, f), turns) for graph in graphs
        )
        eager, whole = milliseconds(plain, turns), milliseconds(method, max(5, turns // 3))
        cells = (f"{value:.2f}" for value in (double, single, eager, whole))
        yield f"| {name} | {n:,} | {' | '.join(cells)} | {eager / double:.1f} |"


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/export.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    data, y = load_breast_cancer(return_X_y=True)
    X = data[:, :FEATURES] * (1 + 1e-9 * np.random.default_rng(0).normal(size=(len(y), FEATURES)))
    brief = TrainingConfig(steps=200)
    density = FlowDensity(members=1, training=brief, random_state=0).fit(X)
    classifier = HybridClassifier(members=3, training=brief, random_state=0).fit(X, y)
    lines = [
        "# Export: onnxruntime beside torch",
        "",
        "Written by `python tests/benchmarks/export.py`. Milliseconds of one call, medians, one",
        f"thread, {FEATURES} columns, the default flow. *graph* is float64. *torch* is the same",
        "maths on tensors; *estimator* the method on an array, which reads and checks it too.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    print("\n".join(lines))
    cases = (
        ("log-density, one member", density, ["log_density"]),
        ("all outputs, one member", density, None),
        (
            "probabilities and log-density, three members",
            classifier,
            ["label", "probabilities", "log_density"],
        ),
    )
    for name, model, outputs in cases:
        for line in measure(name, model, outputs, X, arguments.repeats):
            lines.append(line)
            print(line, flush=True)
    lines += [
        "",
        "A graph saves what torch spends on starting each operation, which is most of the time of",
        "few rows. At thousands of rows torch's fused spline is the faster one.",
    ]
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
