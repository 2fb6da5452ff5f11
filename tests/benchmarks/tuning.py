"""Trials that two workers finish in a time, beside one: writes docs/benchmarks/tuning.md.

Every trial costs the same: sizes are fixed, none is stopped early, only rates are
searched. One worker is a process of its own, too, as with ``--workers``, and the time
includes its start. Runs alternate.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna

from hybridflow import HybridRegressor, TrainingConfig, tune

PAGE = Path(__file__).resolve().parents[2] / "docs/benchmarks/tuning.md"
FIXED = {
    "flow__layers": 3,
    "flow__hidden_units": 32,
    "flow__hidden_layers": 1,
    "head__basis": "identity",
    "base__covariance": "identity",
    "training__batch_size": 256,
    "training__settled": 30.0,
}


def finished(workers: int, seconds: float, storage: str) -> tuple[int, float]:
    """Return the trials that were completed, and the time that it took."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 8))
    y = X[:, 0] - X[:, 1] ** 2 + 0.3 * rng.normal(size=len(X))
    training = TrainingConfig(steps=150, patience=10**6)
    start = time.monotonic()
    found = tune(
        HybridRegressor("realnvp", head="gaussian", training=training),
        X,
        y,
        trials=None,
        time_limit=seconds,
        space=FIXED,
        storage=storage,
        workers=workers,
        pruner=optuna.pruners.NopPruner(),
        refit=False,
    )
    took = time.monotonic() - start
    states = [trial.state for trial in found.study.get_trials(deepcopy=False)]
    return states.count(optuna.trial.TrialState.COMPLETE), took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    counts: dict[int, list[int]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(options.repeats):
            for workers in counts:
                storage = f"{folder}/{workers}-{repeat}.journal"
                count, took = finished(workers, options.seconds, storage)
                counts[workers].append(count)
                print(f"{workers} worker(s): {count} trials in {took:.1f} s", flush=True)
    one, two = (statistics.median(counts[workers]) for workers in (1, 2))
    print(f"ratio {two / one:.2f}")
    if options.write:
        rows = [f"| {w} | {', '.join(map(str, c))} |" for w, c in counts.items()]
        PAGE.write_text(
            "# Tuning with two workers\n\n"
            f"Trials completed in {options.seconds:g} s, the start of the workers included, on "
            f"{len(os.sched_getaffinity(0))} cores, in {options.repeats} alternating runs each. "
            "Every trial costs the same.\n\n"
            "| workers | trials |\n|---|---|\n" + "\n".join(rows) + "\n\n"
            f"Two finish {two / one:.2f} times the trials of one. Written by "
            "`tests/benchmarks/tuning.py`.\n"
        )


if __name__ == "__main__":
    main()
