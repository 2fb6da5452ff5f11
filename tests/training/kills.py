"""Kill fits with a checkpoint at random instants, and compare their ends with a fit in peace.

    python kills.py FOLDER KILLS SEED

Prints one line of JSON: kills, fits that were completed, and those that ended otherwise.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from hybridflow import HybridClassifier, TrainingConfig
from hybridflow.container import read_container

TRAINING = TrainingConfig(steps=60, batch_size=64, evaluations=20, patience=999, settled=30)


def fit(folder: Path, output: Path) -> None:
    """Fit two members and save them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)).cumsum(1)
    X[:, 1] = X[:, 1].round()
    y = np.where(X[:, 2] + rng.normal(size=300) > 0, "yes", "no")
    estimator = HybridClassifier(
        "realnvp", training=TRAINING, members=2, random_state=0, checkpoint=folder
    )
    estimator.fit(X, y).save(output)


def fit_and_kill(folder: Path, output: Path, after: float | None) -> bool:
    """Fit in a process of its own, killed after some seconds; return whether it was."""
    child = os.fork()
    if child == 0:
        fit(folder, output)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, status
    return False


def main() -> None:
    """Kill until there were enough."""
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    draw = random.Random(int(sys.argv[3]))
    start = time.perf_counter()
    fit_and_kill(folder / "peace", folder / "peace.hflow", None)
    seconds = time.perf_counter() - start
    document, tensors = read_container(folder / "peace.hflow")
    killed, fits, different = 0, 0, []
    while killed < kills:
        kept, output = folder / f"run-{fits}", folder / f"{fits}.hflow"
        while fit_and_kill(kept, output, draw.uniform(0, 0.7 * seconds)):
            killed += 1
            for path in kept.glob("*.safetensors"):
                read_container(path)  # whole, at whatever instant the writer was killed
        found, weights = read_container(output)
        same = found["histories"] == document["histories"] and weights.keys() == tensors.keys()
        if not same or any(not tensors[name].equal(w) for name, w in weights.items()):
            different.append(fits)
        fits += 1
    print(json.dumps({"kills": killed, "fits": fits, "different": different}))


if __name__ == "__main__":
    main()
