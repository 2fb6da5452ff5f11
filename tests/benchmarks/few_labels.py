"""Few labels and many rows without one, beside the same model on the labelled rows alone.

    OMP_NUM_THREADS=1 python tests/benchmarks/few_labels.py [--sets phoneme,letter,higgs_7500]
        [--labels 20,100,500] [--seeds 10] [--rows 4000] [--cache build/few_labels.jsonl] [--quick]

Each seed draws 1,000 test rows, the training rows (`--rows`, or all that are left) and, of
these, the labelled ones: one of each class, the others at random. One model is fitted to all
rows, with the label of the others missing, so that they train the density; the other is fitted
to the labelled rows alone. Both are `HybridClassifier` in its default configuration with the
same seed. Letters are A to J, for 20 labels to show each class.

Each fit is written to the cache as it ends, so that an interrupted run goes on; after a change of
the code start with another cache. `--quick` trains for 100 steps on 600 rows and two seeds: it
shows that the command works, not what the model does; it writes no page without `--output`.
Needs the folder of larger data sets.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from hybridflow import HybridClassifier, TrainingConfig

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "tabular"
FIRST_SEED = 1000
TEST_ROWS = 1000
TARGETS = {"phoneme": "label", "letter": "lettr", "higgs_7500": "label"}
WAYS = ("all rows", "labelled rows alone")
MEASURES = ("log-loss", "error")

Array = NDArray[np.float64]


def table(name: str) -> tuple[Array, NDArray[np.str_]]:
    """Return the rows of a set and their labels as text."""
    frame = pd.read_csv(DATA / f"{name}.csv.gz")
    target = TARGETS[name]
    if name == "letter":
        frame = frame[frame[target].isin(list("ABCDEFGHIJ"))]
    X = frame.drop(columns=[target, "split"], errors="ignore").to_numpy(np.float64)
    return X, frame[target].to_numpy().astype(str)


def labelled_rows(y: NDArray[np.str_], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return positions of labelled rows: one of each class, the others at random."""
    order = rng.permutation(len(y))
    _, first = np.unique(y[order], return_index=True)
    return np.concatenate([order[first], np.delete(order, first)[: count - len(first)]])


def measure(
    name: str, labels: int, seed: int, rows: int, training: TrainingConfig | None
) -> dict[str, dict[str, float]]:
    """Return log-loss and error of both ways on one split."""
    X, y = table(name)
    X, X_test, y, y_test = train_test_split(
        X, y, test_size=TEST_ROWS, random_state=seed, stratify=y
    )
    X, y = X[:rows], y[:rows]
    known = labelled_rows(y, labels, np.random.default_rng(seed))
    partly = np.full(len(y), None, dtype=object)
    partly[known] = y[known]
    found = {}
    for way, (rows_seen, seen) in zip(WAYS, ((X, partly), (X[known], y[known])), strict=True):
        model = HybridClassifier(training=training, random_state=seed).fit(rows_seen, seen)
        probabilities = model.predict_proba(X_test)
        found[way] = {
            "log-loss": float(log_loss(y_test, probabilities, labels=model.classes_)),
            "error": 100 * float(np.mean(model.predict(X_test) != y_test)),
        }
    return found


def all_measured(
    arguments: argparse.Namespace, cache: Path, training: TrainingConfig | None
) -> dict[tuple[str, int], dict[str, dict[str, Array]]]:
    """Return, for each set and number of labels, the measures of both ways over the seeds."""
    cache.parent.mkdir(parents=True, exist_ok=True)
    known = {}
    if cache.exists():
        for line in cache.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            known[tuple(record["key"])] = record["found"]
    results = {}
    for name in arguments.sets.split(","):
        for labels in map(int, arguments.labels.split(",")):
            found = []
            for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
                key = (name, labels, seed, arguments.rows)
                if key not in known:
                    known[key] = measure(name, labels, seed, arguments.rows, training)
                    with cache.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"key": key, "found": known[key]}) + "\n")
                found.append(known[key])
            results[name, labels] = {
                way: {m: np.array([one[way][m] for one in found]) for m in MEASURES} for way in WAYS
            }
            print(line_of(name, labels, results[name, labels]), flush=True)
    return results


def line_of(name: str, labels: int, found: dict[str, dict[str, Array]]) -> str:
    """Return a row of the table."""
    cells = [name, str(labels)]
    for measured, digits in zip(MEASURES, (3, 1), strict=True):
        both, alone = (found[way][measured] for way in WAYS)
        low, high = np.quantile(both - alone, [0.25, 0.75])
        cells += [f"{np.median(both):.{digits}f}", f"{np.median(alone):.{digits}f}"]
        cells.append(
            f"{np.median(both - alone):+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
        )
        cells.append(f"{(both < alone).sum()} of {len(both)}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default=",".join(TARGETS))
    parser.add_argument("--labels", default="20,100,500")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, help="the page")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    training = None
    configuration = "The default configuration"
    if arguments.quick:
        training, configuration = TrainingConfig(steps=100), "**100 steps of training (`--quick`)**"
        arguments.seeds, arguments.rows = min(arguments.seeds, 2), min(arguments.rows, 600)
    cache = arguments.cache or ROOT / "build" / (
        "few_labels-quick.jsonl" if arguments.quick else "few_labels.jsonl"
    )
    columns = ["table", "labels"]
    for measured in ("log-loss", "error, %"):
        columns += [f"{measured}, all rows", "labelled alone", "difference", "better"]
    lines = [
        "# Few labels",
        "",
        f"Written by `python tests/benchmarks/few_labels.py`. {configuration},",
        "fitted to all rows with most labels missing, and to the labelled rows alone, with the",
        f"same labels; up to {arguments.rows:,} training and {TEST_ROWS:,} test rows. Medians over",
        f"{arguments.seeds} seeds; the difference is taken seed by seed, with its quartiles;",
        "*better* counts the seeds on which the rows without a label helped. Letters are A to J.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
    ]
    print("\n".join(lines))
    results = all_measured(arguments, cache, training)
    lines += [line_of(name, labels, found) for (name, labels), found in results.items()]
    output = arguments.output or (
        None if arguments.quick else ROOT / "docs/benchmarks/few-labels.md"
    )
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
