"""One-class detection on the public anomaly tables, beside the usual detectors.

    OMP_NUM_THREADS=1 python tests/benchmarks/novelty.py [--sets cardio,pima] [--seeds 3]
        [--methods hybridflow,knn] [--cache build/novelty] [--quick]

Half of the normal rows, shuffled, train; the other half and all anomalies test. Every method in
one configuration for all tables, nothing tuned on test rows; the recipe of the detector was
chosen on splits of other seeds. Peers: the mean distance to the five nearest neighbours with
columns scaled to [0, 1] (the better scaling for it) and standardised; LOF, a Gaussian mixture
with 20 components, a one-class SVM, all standardised; isolation forest and ECOD, which need no
scaling. Those of pyod are needed for ECOD alone: the extra `bench`.

AUROC and average precision (AUPRC) are over the test rows. The false-alarm rate is the share of
normal test rows whose p-value is at most 0.05; the band is where it lies with probability
1 - 0.05 / (tables), if p-values are exact: beta-binomial, by the numbers of calibration and of
normal test rows. The mean over tables and seeds should lie between 0.04 and 0.06.

Each split is written to a file of the cache as it ends, so that an interrupted run goes on; after a
change of the code start with another cache. Needs the folder of larger data sets.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyod.models.ecod import ECOD
from scipy.stats import betabinom
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import OneClassSVM

from hybridflow import FlowOutlierDetector, TrainingConfig

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data" / "anomaly"
OURS = "hybridflow"
ALPHA = 0.05
QUICK_ROWS = 1000

Array = NDArray[np.float64]
Figures = dict[str, float]


def split(name: str, seed: int, *, quick: bool) -> tuple[Array, Array, Array]:
    """Return training rows, test rows, and which of the latter are anomalies."""
    data = np.load(DATA / f"{name}.npz", allow_pickle=False)
    X, y = data["X"].astype(float), data["y"].astype(float)
    rng = np.random.default_rng(seed)
    normal = rng.permutation(np.flatnonzero(y == 0))
    half = len(normal) // 2
    train, test = normal[:half], np.concatenate([normal[half:], np.flatnonzero(y == 1)])
    if quick:
        train, test = train[:QUICK_ROWS], rng.permutation(test)[:QUICK_ROWS]
    return X[train], X[test], y[test]


# --- methods: each returns the strangeness of test rows, ours also p-values -------------------


def nearest(train: Array, test: Array) -> Array:
    """Return the mean distance to the five nearest training rows."""
    found = NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)[0]
    return np.asarray(found.mean(axis=1))


def scaled(scaler: Any, method: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Return a method that sees columns as a scaler leaves them."""

    def run(train: Array, test: Array) -> Array:
        scaler.fit(train)
        return method(scaler.transform(train), scaler.transform(test))

    return run


def sklearn_score(make: Callable[[], Any]) -> Callable[[Array, Array], Array]:
    """Return the method of an estimator with `score_samples`."""
    return lambda train, test: -make().fit(train).score_samples(test)


def ecod(train: Array, test: Array) -> Array:
    """Return ECOD's score."""
    return np.asarray(ECOD().fit(train).decision_function(test))


PEERS: dict[str, Callable[[Array, Array], Array]] = {
    "knn": scaled(MinMaxScaler(), nearest),
    "knn, standardised": scaled(StandardScaler(), nearest),
    "lof": scaled(StandardScaler(), sklearn_score(lambda: LocalOutlierFactor(novelty=True))),
    "gaussian mixture": scaled(
        StandardScaler(),
        sklearn_score(lambda: GaussianMixture(20, reg_covar=1e-3, random_state=0)),
    ),
    "isolation forest": sklearn_score(lambda: IsolationForest(random_state=0)),
    "one-class svm": scaled(StandardScaler(), sklearn_score(OneClassSVM)),
    "ecod": ecod,
}


def detect(
    train: Array, test: Array, seed: int, *, quick: bool
) -> tuple[Array, FlowOutlierDetector]:
    """Return the p-values of our detector, and itself."""
    training = TrainingConfig(steps=200) if quick else None
    detector = FlowOutlierDetector(training=training, random_state=seed).fit(train)
    return np.exp(detector.score_samples(test)), detector


def measure(name: str, seed: int, methods: list[str], *, quick: bool) -> dict[str, Figures]:
    """Return the figures of each method on one split."""
    train, test, anomaly = split(name, seed, quick=quick)
    figures: dict[str, Figures] = {}
    for method in methods:
        start = time.perf_counter()
        extra: Figures = {}
        if method == OURS:
            p, detector = detect(train, test, seed, quick=quick)
            novelty, usual = detector.novelty_, anomaly == 0
            assert novelty is not None
            score = -p
            extra = {
                "alarms": float((p[usual] <= ALPHA).mean()),
                "calibrated on": novelty.rows,
                "normal": float(usual.sum()),
                "unseen": float(novelty.source == "calibration"),
            }
        else:
            score = PEERS[method](train, test)
        figures[method] = {
            "auroc": float(roc_auc_score(anomaly, score)),
            "auprc": float(average_precision_score(anomaly, score)),
            "seconds": time.perf_counter() - start,
            **extra,
        }
    return figures


# --- the page --------------------------------------------------------------------------------


def band(calibrated: float, tested: float, tables: int) -> tuple[float, float]:
    """Return where the false-alarm rate of one split lies, if p-values are exact."""
    n, m = int(calibrated), int(tested)
    rank = int(np.floor(ALPHA * (n + 1)))
    if rank == 0:
        return 0.0, 0.0
    law = betabinom(m, rank, n + 1 - rank)
    tail = ALPHA / tables / 2
    return float(law.ppf(tail)) / m, float(law.ppf(1 - tail)) / m


def page(results: dict[str, list[dict[str, Figures]]], methods: list[str], *, quick: bool) -> str:
    """Return the tables as Markdown."""
    lines = [
        "# Novelty",
        "",
        "Written by `tests/benchmarks/novelty.py`, whose docstring says how.",
        "",
    ]
    if quick:
        lines += ["**A quick run: few rows and steps.**", ""]
    seeds = max(len(splits) for splits in results.values())
    lines += [f"Mean over {len(results)} tables and {seeds} seed(s):", ""]
    lines += ["| method | AUROC | AUPRC | seconds a split |", "|---|---|---|---|"]
    mean = {
        method: [
            float(
                np.mean([np.mean([s[method][key] for s in splits]) for splits in results.values()])
            )
            for key in ("auroc", "auprc", "seconds")
        ]
        for method in methods
    }
    for method, (auroc, auprc, seconds) in sorted(mean.items(), key=lambda item: -item[1][0]):
        title = f"**{method}**" if method == OURS else method
        lines.append(f"| {title} | {auroc:.3f} | {auprc:.3f} | {seconds:.1f} |")
    for key, title in (("auroc", "AUROC"), ("auprc", "AUPRC")):
        lines += ["", f"{title} of each table, mean over seeds:", ""]
        lines += [f"| table | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
        for name, splits in results.items():
            values = [float(np.mean([s[method][key] for s in splits])) for method in methods]
            best = max(values)
            cells = [f"**{v:.3f}**" if v == best else f"{v:.3f}" for v in values]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    if OURS in methods:
        lines += ["", *alarms(results)]
    return "\n".join(lines) + "\n"


def alarms(results: dict[str, list[dict[str, Figures]]]) -> list[str]:
    """Return the table of false-alarm rates."""
    lines = [
        f"False-alarm rate of the p-value at {ALPHA:g}:",
        "",
        "| table | rate by seed | band of each | calibrated on |",
        "|---|---|---|---|",
    ]
    rates = []
    for name, splits in results.items():
        ours = [s[OURS] for s in splits]
        cells, bands = [], []
        for figures in ours:
            low, high = band(figures["calibrated on"], figures["normal"], len(results))
            inside = low <= figures["alarms"] <= high
            cells.append(f"{figures['alarms']:.3f}" + ("" if inside else " (outside)"))
            bands.append(f"{low:.3f} to {high:.3f}")
        rates.append(np.mean([figures["alarms"] for figures in ours]))
        rows = f"{ours[0]['calibrated on']:.0f}" + (
            " unseen rows" if ours[0]["unseen"] else " rows of each member"
        )
        lines.append(
            f"| {name} | {', '.join(cells)} | {', '.join(dict.fromkeys(bands))} | {rows} |"
        )
    return [*lines, f"| **mean** | {np.mean(rates):.3f} | 0.040 to 0.060 | |"]


def main() -> None:
    """Measure, print, and write the page."""
    known = sorted(path.stem for path in DATA.glob("*.npz"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=lambda text: text.split(","), default=known)
    parser.add_argument("--methods", type=lambda text: text.split(","), default=[OURS, *PEERS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one seed, few rows and steps")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "novelty")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/novelty.md")
    arguments = parser.parse_args()
    for name in (*set(arguments.sets) - set(known), *set(arguments.methods) - {OURS, *PEERS}):
        parser.error(f"unknown: {name}; tables: {known}; methods: {[OURS, *PEERS]}")
    warnings.simplefilter("ignore")
    results: dict[str, list[dict[str, Figures]]] = {}
    for seed in range(1 if arguments.quick else arguments.seeds):
        for name in arguments.sets:
            file = arguments.cache / f"{name}-{seed}{'-quick' if arguments.quick else ''}.json"
            found = json.loads(file.read_text()) if file.exists() else {}
            missing = [method for method in arguments.methods if method not in found]
            found |= measure(name, seed, missing, quick=arguments.quick)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found, indent=1))
            results.setdefault(name, []).append(found)
            print(name, seed, {k: round(v, 3) for k, v in found.get(OURS, {}).items()}, flush=True)
    text = page(results, arguments.methods, quick=arguments.quick)
    arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
