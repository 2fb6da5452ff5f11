"""One process of a job: fit a case, and save what came out under the rank.

    python worker.py CASE FOLDER

With RANK and WORLD_SIZE in the environment it joins the job, else it fits alone.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import polars as pl
from torch import distributed

from hybridflow import FlowDensity, HybridClassifier, HybridRegressor, ParquetTable, TrainingConfig
from hybridflow.callbacks import Callback

FIXED = TrainingConfig(steps=40, batch_size=64, evaluations=4, patience=99, settled=30)
NAMES = ["a", "b", "c"]


def table(n: int = 601, seed: int = 0):
    """Return rows, one column on whole numbers, one with missing cells; classes and amounts."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) @ rng.normal(size=(3, 3))
    X[:, 1] = X[:, 1].round()
    amount = X @ [1.0, -0.5, 0.3] + 0.3 * rng.normal(size=n)
    X[rng.random(n) < 0.1, 2] = np.nan
    return X, np.where(amount > 0, "much", "little").astype(object), amount


class Kill(Callback):
    """Kills its own process at a step."""

    def on_step_end(self, state) -> None:
        if state.step == 7:
            os.kill(os.getpid(), signal.SIGKILL)


def fit(case: str, folder: Path, rank: int):
    """Return the fitted estimator of a case."""
    n = 2500 if case == "file" else 601
    X, classes, amount = table(n, seed=rank if case == "rows" else 0)
    common = {"training": FIXED, "dtype": "float64", "random_state": 0}
    if case == "classifier":
        classes[::7] = None
        return HybridClassifier(**common).fit(X, classes)
    if case == "regressor":
        return HybridRegressor("maf", **common, members=1).fit(X, amount)
    if case == "tiny":  # batches of fewer rows than there are ranks
        few = FIXED.model_copy(update={"steps": 10})
        return FlowDensity("realnvp", **common | {"training": few}).fit(X[:2])
    if case == "file":
        path = folder / f"rows-{rank}.parquet"
        frame = pl.DataFrame(dict(zip(NAMES, X.T, strict=True))).with_columns(y=amount)
        frame.write_parquet(path, row_group_size=64)
        return HybridRegressor("realnvp", **common).fit(ParquetTable(path, buffer=1000), "y")
    if case == "checkpoint":
        return FlowDensity("realnvp", **common, checkpoint=folder / "kept", members=1).fit(X)
    if case == "seeds":
        return FlowDensity("realnvp", **common | {"random_state": rank}).fit(X)
    if case == "jobs":
        return FlowDensity("realnvp", **common, members=2, n_jobs=2).fit(X)
    if case == "batches":
        return FlowDensity("realnvp-batchnorm", **common).fit(X)
    return FlowDensity("realnvp", **common, callbacks=(Kill(),) if case == "killed" else ()).fit(X)


def main() -> None:
    """Fit and save."""
    case, folder = sys.argv[1], Path(sys.argv[2])
    rank = int(os.environ.get("RANK", "0"))
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    fit(case, folder, rank).save(folder / f"{rank}.hflow", overwrite=True)
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
