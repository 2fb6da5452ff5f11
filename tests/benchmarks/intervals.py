"""Coverage, width and size of intervals and sets at 90 %, beside MAPIE around MLPs.

    OMP_NUM_THREADS=1 python tests/benchmarks/intervals.py [--sets concrete,adult] [--splits 5]
        [--cache build/coverage] [--quick]

Each split takes a random fifth of the table for testing, since coverage is promised for rows
exchangeable with the calibration rows, and of the rest a fifth, 2,000 rows at most, for
calibration; larger tables are sampled to 30,000 rows first. Both methods get the same rows:

- hybridflow in its default configuration, with these calibration rows; of tables under 2,000
  rows also without any (CV+), which then trains on them too;
- MAPIE's split-conformal regressor (absolute residuals) and classifier (LAC) around the mean of
  five of scikit-learn's MLPs with two hidden layers of 128, on standardised inputs, categories
  one-hot encoded, y standardised, early stopping on tables of over 1,000 rows. Seconds of all
  fits stand beside.

Where y is a whole number, MAPIE's ends are moved inwards to whole numbers, which changes no
coverage, so that widths compare. Sets may be empty, so that their coverage is that of the
method; what never leaving one empty costs stands beside. The share of covered rows of a
split is Beta-binomial; the band of each has 95 %, Bonferroni over all splits of all tables.

Each fit is written to a file of the cache as it ends, so that an interrupted run goes on. Needs
the extra `bench`, and the folder of larger data sets.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mapie.classification import SplitConformalClassifier
from mapie.regression import SplitConformalRegressor
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from hybridflow import HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.metrics import coverage_band

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
COVERAGE = 0.9
MOST_ROWS, QUICK_ROWS = 30_000, 1_500
SMALL = 2_000
SHARE, MOST_CALIBRATED = 0.2, 2_000
LEARNERS = 5
OURS, FOLDED, PEER = "hybridflow", "hybridflow, CV+", "MAPIE, MLPs"

REGRESSIONS = ("concrete", "energy", "wine_red", "flights", "diamonds")
TARGETS = {"adult": "income", "letter": "lettr", "phoneme": "label", "credit_g": "class"}
SETS = (*REGRESSIONS, *TARGETS)

Figures = dict[str, float]


@dataclass(frozen=True)
class Split:
    """Rows of one split: all columns as they come, and for networks as numbers."""

    frames: dict[str, pd.DataFrame]
    arrays: dict[str, NDArray[np.float64]]
    y: dict[str, NDArray[Any]]


def load(name: str) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Return the columns and the target of a table."""
    if name == "flights":
        data = np.load(DATA / "flights" / "flights_nyc2013.npz", allow_pickle=False)
        usual = ["plane_age", "distance", "air_time", "dep_min", "arr_min", "dow", "day", "month"]
        place = [data["feature_names"].tolist().index(column) for column in usual]
        frame = pd.DataFrame(data["X"][:, place].astype(float), columns=usual)
        return frame, data["arr_delay"].astype(float)
    if name == "diamonds":
        frame = pd.read_csv(DATA / "tabular" / "diamonds.csv.gz")
        return frame, frame.pop("price").to_numpy(float)
    if name in REGRESSIONS:
        data = np.load(DATA / "uci_regression" / f"{name}.npz", allow_pickle=False)
        return pd.DataFrame(data["X"], columns=data["feature_names"].tolist()), data["y"]
    frame = pd.read_csv(DATA / "tabular" / f"{name}.csv.gz").drop(columns="split", errors="ignore")
    return frame, frame.pop(TARGETS[name]).to_numpy()


def split(name: str, seed: int, most: int) -> Split:
    """Return the rows to train on, to calibrate with and to test with."""
    frame, y = load(name)
    rows = np.random.default_rng(seed).permutation(len(y))[:most]
    tested = len(rows) // 5
    calibrated = min(int(SHARE * (len(rows) - tested)), MOST_CALIBRATED)
    parts = {
        "test": rows[:tested],
        "calibration": rows[tested : tested + calibrated],
        "train": rows[tested + calibrated :],
    }
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    encoder = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            (
                "levels",
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                make_column_selector(dtype_exclude="number"),
            ),
        ]
    ).fit(frame.iloc[parts["train"]])
    return Split(
        {part: frame.iloc[chosen].reset_index(drop=True) for part, chosen in parts.items()},
        {part: encoder.transform(frame.iloc[chosen]) for part, chosen in parts.items()},
        {part: y[chosen] for part, chosen in parts.items()},
    )


def of_intervals(ends: NDArray[np.float64], y: NDArray[Any]) -> Figures:
    """Return how many rows are covered, and how wide intervals are."""
    if (y == np.rint(y)).all():
        # Ends of an interval that are whole already may be off by rounding.
        ends = np.stack([np.ceil(ends[:, 0] - 1e-9), np.floor(ends[:, 1] + 1e-9)], 1)
    covered = (ends[:, 0] <= y) & (y <= ends[:, 1])
    width = np.maximum(ends[:, 1] - ends[:, 0], 0.0).mean()
    return {"covered": float(covered.sum()), "extent": float(width)}


def of_sets(sets: NDArray[np.bool_], filled: NDArray[np.bool_], codes: NDArray[np.intp]) -> Figures:
    """Return how many rows are covered, and how many classes sets hold."""
    rows = np.arange(len(codes))
    return {
        "covered": float(sets[rows, codes].sum()),
        "extent": float(sets.sum(1).mean()),
        "covered, filled": float(filled[rows, codes].sum()),
        "extent, filled": float(filled.sum(1).mean()),
    }


def ours(name: str, data: Split, seed: int, *, folded: bool, quick: bool) -> Figures:
    """Fit hybridflow and ask it about the test rows."""
    frame = pd.concat([data.frames["train"], data.frames["calibration"]], ignore_index=True)
    y = np.concatenate([data.y["train"], data.y["calibration"]])
    settings = {
        "calibration": None if folded else np.arange(len(data.y["train"]), len(y)),
        "random_state": seed,
        **({"training": TrainingConfig(steps=100)} if quick else {}),
    }
    if name in REGRESSIONS:
        model = HybridRegressor(**settings).fit(frame, y)
        return of_intervals(model.predict_interval(data.frames["test"], COVERAGE), data.y["test"])
    model = HybridClassifier(**settings).fit(frame, y)
    return of_sets(
        model.predict_set(data.frames["test"], COVERAGE, allow_empty=True),
        model.predict_set(data.frames["test"], COVERAGE),
        np.searchsorted(model.classes_, data.y["test"]),
    )


def peer(name: str, data: Split, seed: int) -> Figures:
    """Fit MLPs, wrap them in MAPIE, and ask it about the test rows."""
    X, y = data.arrays, data.y
    settings = {
        "hidden_layer_sizes": (128, 128),
        "early_stopping": len(y["train"]) > 1000,
        "max_iter": 1000,
    }
    seeds = range(LEARNERS * seed, LEARNERS * (seed + 1))
    if name in REGRESSIONS:
        learners = [(f"{k}", MLPRegressor(random_state=k, **settings)) for k in seeds]
        mean = TransformedTargetRegressor(VotingRegressor(learners), transformer=StandardScaler())
        mean.fit(X["train"], y["train"])
        model = SplitConformalRegressor(mean, confidence_level=COVERAGE, prefit=True)
        _, ends = model.conformalize(X["calibration"], y["calibration"]).predict_interval(X["test"])
        return of_intervals(ends[:, :, 0], y["test"])
    learners = [(f"{k}", MLPClassifier(random_state=k, **settings)) for k in seeds]
    mean = VotingClassifier(learners, voting="soft").fit(X["train"], y["train"])
    model = SplitConformalClassifier(
        mean, confidence_level=COVERAGE, conformity_score="lac", prefit=True
    )
    _, sets = model.conformalize(X["calibration"], y["calibration"]).predict_set(X["test"])
    found = sets[:, :, 0].astype(bool)
    filled = found.copy()
    filled[np.arange(len(found)), mean.predict_proba(X["test"]).argmax(1)] = True
    return of_sets(found, filled, np.searchsorted(mean.classes_, y["test"]))


def measure(name: str, seed: int, method: str, *, quick: bool) -> Figures:
    """Return the figures of one fit."""
    data = split(name, seed, QUICK_ROWS if quick else MOST_ROWS)
    start = time.perf_counter()
    if method == PEER:
        found = peer(name, data, seed)
    else:
        found = ours(name, data, seed, folded=method == FOLDED, quick=quick)
    found["seconds"] = time.perf_counter() - start
    found["rows"], found["calibrated"] = len(data.y["test"]), len(data.y["calibration"])
    return found


def cached(cache: Path | None, name: str, seed: int, method: str, *, quick: bool) -> Figures:
    """Return the figures of one fit, of an earlier run if there was one."""
    key = f"{name}, {seed}, {method}{', quick' if quick else ''}"
    lines = cache.read_text().splitlines() if cache is not None and cache.exists() else []
    known = dict(json.loads(line) for line in lines)
    if key not in known:
        known[key] = measure(name, seed, method, quick=quick)
        if cache is not None:
            cache.parent.mkdir(parents=True, exist_ok=True)
            with cache.open("a") as file:
                file.write(json.dumps([key, known[key]]) + "\n")
    return known[key]


def row(name: str, method: str, found: list[Figures], confidence: float) -> str:
    """Return one line of the table."""
    mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    shares = np.array([one["covered"] / one["rows"] for one in found])
    outside = "–"
    if method != FOLDED:
        bands = [
            coverage_band(
                int(one["rows"]),
                COVERAGE,
                n_calibration=int(one["calibrated"]),
                confidence=confidence,
            )
            for one in found
        ]
        inside = [low <= share <= high for share, (low, high) in zip(shares, bands, strict=True)]
        outside = f"{inside.count(False)} of {len(found)}"
    filled = "–"
    if "covered, filled" in mean:
        filled = f"{mean['covered, filled'] / mean['rows']:.3f}, {mean['extent, filled']:.2f}"
    cells = (
        name,
        method,
        f"{shares.mean():.3f} ± {shares.std():.3f}",
        outside,
        f"{mean['extent']:.3g}",
        filled,
        f"{mean['seconds']:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--quick", action="store_true", help="1,500 rows and 100 steps; no page")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/coverage.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    names = arguments.sets.split(",")
    cache = None if arguments.cache is None else arguments.cache / "coverage.jsonl"
    confidence = 1 - 0.05 / (len(names) * arguments.splits)
    lines = [
        "# Coverage of intervals and sets",
        "",
        "Written by `python tests/benchmarks/intervals.py`, which says what is measured and how.",
        f"Mean over {arguments.splits} random splits, coverage {COVERAGE:g} asked for. Outside:",
        "splits whose coverage is not in its beta-binomial band. Width in the units of y, size in",
        "classes. Filled: coverage and size of sets that are never empty.",
        "",
        "| table | method | coverage | outside | width or size | filled | s |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines))
    means: dict[str, list[float]] = {OURS: [], PEER: []}
    narrower = 0
    for name in names:
        small = len(load(name)[1]) < SMALL
        extents = {}
        for method in (OURS, *([FOLDED] if small else []), PEER):
            found = [
                cached(cache, name, seed, method, quick=arguments.quick)
                for seed in range(arguments.splits)
            ]
            lines.append(row(name, method, found, confidence))
            print(lines[-1], flush=True)
            extents[method] = np.mean([one["extent"] for one in found])
            if method in means:
                means[method].append(
                    float(np.mean([one["covered"] / one["rows"] for one in found]))
                )
        narrower += extents[OURS] < extents[PEER]
    lines += [
        "",
        f"Mean coverage over the tables: {np.mean(means[OURS]):.3f}, of MAPIE "
        f"{np.mean(means[PEER]):.3f} (goal: 0.89 to 0.91). hybridflow's intervals are narrower, or "
        f"its sets smaller, on {narrower} of {len(names)} tables.",
    ]
    print("\n".join(lines[-2:]))
    if not arguments.quick:
        arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
