"""Rows that one core scores in a second, and the memory that it takes, over the size of the file.

    OMP_NUM_THREADS=1 python tests/benchmarks/scoring.py [--rows 4000,24000] [--flows maf]

Scikit-learn's diabetes table, its rows drawn with replacement, in a Parquet file. One flow at a
time, three members and one. `hybridflow predict --density` reads the file in row groups
and writes another one. What starting costs is left out: the rate is that of the rows which the
larger file has more. Seconds are those that the processor worked for the process, so that other
work on the machine changes little; memory is the most that the process held. ONNX Runtime gets
the exported float64 graph, with all of its answers, in one thread and batches of 4,096. Needs the
extra `onnx`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import polars as pl
from sklearn.datasets import load_diabetes

from hybridflow import HybridRegressor, TrainingConfig
from hybridflow.export import to_onnx

ROOT = Path(__file__).parents[2]
BATCH = 4096
TRAINING = TrainingConfig(steps=200)


def measure(command: list[str]) -> tuple[float, float]:
    """Return the seconds of a processor that a command took, and its memory in MB."""
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def predicted(model: Path, folder: Path, rows: list[int]) -> tuple[float, list[float]]:
    """Return rows per second of `hybridflow predict`, and the memory for each file."""
    X = load_diabetes(as_frame=True).data
    taken = []
    for n in rows:
        chosen = np.random.default_rng(n).integers(len(X), size=n)
        file = folder / f"{n}.parquet"
        pl.from_pandas(X.iloc[chosen]).write_parquet(file, row_group_size=10_000)
        command = [sys.executable, "-m", "hybridflow", "predict", str(model), str(file)]
        command += ["--density", "-o", str(folder / f"{n}-out.parquet"), "--force"]
        taken.append(measure(command))
    (first, small), (last, large) = taken[0], taken[-1]
    return (rows[-1] - rows[0]) / (last - first), [small, large]


def exported(model: HybridRegressor, folder: Path) -> float:
    """Return rows per second of the exported graph."""
    X = load_diabetes(as_frame=True).data
    to_onnx(model, folder, rows=X, overwrite=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "predict.onnx", options)
    chosen = np.random.default_rng(0).integers(len(X), size=BATCH)
    given = {name: X[name].to_numpy()[chosen] for name in X.columns}
    session.run(None, given)
    start, runs = time.process_time(), 10
    for _ in range(runs):
        session.run(None, given)
    return runs * BATCH / (time.process_time() - start)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--flows", default="spline-coupling,realnvp")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/scoring.md")
    options = parser.parse_args()
    rows = options.rows or [4_000, 24_000]
    lines = []
    X, y = load_diabetes(as_frame=True, return_X_y=True)
    for flow in options.flows.split(","):
        for members in (3, 1):
            model = HybridRegressor(flow, members=members, training=TRAINING, random_state=0)
            model.fit(X, y)
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                model.save(folder / "model.hflow")
                rate, memory = predicted(folder / "model.hflow", folder, rows)
                graph = exported(model, folder / "onnx")
            cells = [f"{rate:,.0f}", f"{graph:,.0f}", *(f"{mb:,.0f}" for mb in memory)]
            lines.append("| " + " | ".join([flow, str(members), *cells]) + " |")
            print(lines[-1], flush=True)
    head = ["flow", "members", "`hybridflow predict`, rows/s", "ONNX Runtime, rows/s"]
    head += [f"MB at {n:,} rows" for n in (rows[0], rows[-1])]
    page = [
        "# Scoring large files",
        "",
        "Written by `python tests/benchmarks/scoring.py`, which says what is measured and how. Ten",
        "columns; rows a second of one core.",
        "",
        "| " + " | ".join(head) + " |",
        "|---" * len(head) + "|",
        *lines,
    ]
    options.output.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
