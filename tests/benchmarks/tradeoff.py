"""Error, log-loss, calibration and log p(x) of held-out rows, over the weight λ of the density.

    OMP_NUM_THREADS=1 python tests/benchmarks/tradeoff.py [--sets phoneme,concrete] [--splits 5]
        [--weights 0,0.03,0.1,0.3,1,3] [--cache build/tradeoff] [--quick]

Fits the default configuration with each λ, and with λ = D, the joint likelihood, on the same
splits: of phoneme seeded, stratified fifths for testing, of concrete the first of its 20 standard
splits. Beside them is `FlowDensity`, which has the density alone. Nothing is tuned on test rows.

The table of each set is kept in the cache when it is complete, so that an interrupted run goes
on; after a change of the code start with another cache. `--quick` trains for 100 steps on two
splits and shows that the command works, not what the model does; it writes no page without
`--output`. Needs the extra `plots` and the folder of larger data sets.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedShuffleSplit

from hybridflow import FlowDensity, HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.plots import TradeOffDisplay, trade_off

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
FIRST_SEED = 1000
QUICK = TrainingConfig(steps=100)

Array = NDArray[np.float64]


class Table(NamedTuple):
    """Rows, the splits of them, and how the error is called and shown."""

    X: Array
    y: NDArray[np.generic]
    splits: list[tuple[NDArray[np.intp], NDArray[np.intp]]]
    error: str
    factor: float


def phoneme(splits: int) -> Table:
    """Return 5,404 sounds of five amplitudes, nasal or oral."""
    frame = pd.read_csv(DATA / "tabular" / "phoneme.csv.gz")
    X, y = frame.drop(columns="label").to_numpy(np.float64), frame["label"].to_numpy()
    cv = StratifiedShuffleSplit(splits, test_size=0.2, random_state=FIRST_SEED)
    return Table(X, y, list(cv.split(X, y)), "error, %", 100.0)


def concrete(splits: int) -> Table:
    """Return 1,030 mixtures of concrete, with their strength in MPa."""
    with np.load(DATA / "uci_regression" / "concrete.npz", allow_pickle=False) as data:
        X, y, masks = data["X"], data["y"], data["test_mask"][:splits]
    rows = [(np.flatnonzero(~mask), np.flatnonzero(mask)) for mask in masks]
    return Table(X.astype(np.float64), y.astype(np.float64), rows, "RMSE, MPa", 1.0)


SETS = {"phoneme": phoneme, "concrete": concrete}


def measure(
    table: Table, weights: list[float], training: TrainingConfig | None
) -> dict[str, Array]:
    """Return the table over λ, with the log-density of `FlowDensity` on each split."""
    kind = HybridRegressor if table.factor == 1 else HybridClassifier
    model = kind(training=training, random_state=FIRST_SEED)
    rows = trade_off(
        model, table.X, table.y, sorted({*weights, float(table.X.shape[1])}), cv=table.splits
    )
    alone = [
        FlowDensity(training=training, random_state=FIRST_SEED)
        .fit(table.X[train])
        .score(table.X[test])
        for train, test in table.splits
    ]
    return {**rows, "error": table.factor * rows["error"], "alone": np.array(alone)}


def cached(path: Path, table: Table, weights: list[float], training: TrainingConfig | None):
    """Return what was measured before, or measure and keep it."""
    if not path.exists():
        rows = measure(table, weights, training)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({name: values.tolist() for name, values in rows.items()}))
    return {name: np.array(values) for name, values in json.loads(path.read_text()).items()}


def spread(values: Array, digits: int, sign: str = "") -> str:
    """Return a mean with its standard error over the splits."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{values.mean():{sign}.{digits}f} ± {error:.{digits}f}"


def lines_of(name: str, table: Table, rows: dict[str, Array]) -> list[str]:
    """Return the section of one set."""
    features = table.X.shape[1]
    columns = ["λ", table.error, "against λ = 0", "-log p(y \\| x)", "against λ = 0"]
    columns += ["calibration error", "log p(x)", "per column"]
    lines = [
        f"## {name}",
        "",
        f"{len(table.X):,} rows, {features} columns, {len(table.splits)} splits.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
    ]
    of_zero = rows["likelihood_weight"] == 0
    for weight in np.unique(rows["likelihood_weight"]):
        here = rows["likelihood_weight"] == weight
        error, nll = rows["error"], rows["negative_log_likelihood"]
        cells = [f"{weight:g}" + (" = D" if weight == features else "")]
        cells += [spread(error[here], 2)]
        cells += [spread(error[here] - error[of_zero], 2, "+") if of_zero.any() else "–"]
        cells += [spread(nll[here], 3)]
        cells += [spread(nll[here] - nll[of_zero], 3, "+") if of_zero.any() else "–"]
        cells += [spread(rows["calibration"][here], 3), spread(rows["log_density"][here], 2)]
        cells += [f"{rows['log_density'][here].mean() / features:.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    alone = rows["alone"]
    cells = ["density alone", *["–"] * 5, spread(alone, 2), f"{alone.mean() / features:.3f}"]
    return [*lines, f"| {' | '.join(cells)} |", ""]


def draw(results: dict[str, tuple[Table, dict[str, Array]]], path: Path) -> None:
    """Draw the sets beside each other."""
    figure, axes = plt.subplots(
        1, len(results), figsize=(6.4 * len(results), 4.8), squeeze=False, layout="constrained"
    )
    for ax, (name, (table, rows)) in zip(axes[0], results.items(), strict=True):
        display = TradeOffDisplay.from_predictions(rows, error=table.error, ax=ax)
        display.ax_.set_title(name, loc="left")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main() -> None:
    """Measure, print, and write the page and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", default="phoneme,concrete")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--weights", default="0,0.03,0.1,0.3,1,3")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, help="folder of the page and the picture")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    mpl.use("Agg")
    quick = arguments.quick
    splits = min(arguments.splits, 2) if quick else arguments.splits
    cache = arguments.cache or ROOT / "build" / ("tradeoff-quick" if quick else "tradeoff")
    weights = [float(weight) for weight in arguments.weights.split(",")]
    configuration = (
        "**100 steps of training (`--quick`)**" if quick else "the default configuration"
    )
    lines = [
        "# λ: prediction, calibration and density",
        "",
        "Written by `python tests/benchmarks/tradeoff.py`. Held-out rows, mean and standard",
        f"error over splits, {configuration}. λ is `likelihood_weight`:",
        "0 is the prediction alone, D the joint likelihood; *against λ = 0* is taken split by",
        "split. -log p(y | x), which is the log-loss of labels, and log p(x) are in nats per row;",
        "the calibration error is that of the largest probability in 15 bins of equally many",
        "rows, or the mean gap between levels and the shares of y below their quantiles. *Density",
        "alone* is `FlowDensity`.",
        "",
        "![The four measures over λ](tradeoff.png)",
        "",
    ]
    print("\n".join(lines))
    results = {}
    for name in arguments.sets.split(","):
        table = SETS[name](splits)
        key = f"{name}-{splits}-{'-'.join(f'{weight:g}' for weight in weights)}.json"
        results[name] = table, cached(cache / key, table, weights, QUICK if quick else None)
        section = lines_of(name, *results[name])
        print("\n".join(section), flush=True)
        lines += section
    output = arguments.output or (None if quick else ROOT / "docs" / "benchmarks")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        draw(results, output / "tradeoff.png")
        (output / "tradeoff.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
