"""Prediction in the default configuration beside NGBoost, boosted trees, an MLP and a line.

    OMP_NUM_THREADS=1 python tests/benchmarks/prediction.py [--sets yacht,adult] [--splits 5]
        [--methods hybridflow,ngboost] [--cache build/prediction] [--encoded] [--quick]

Every method in its default configuration, one for all tables, nothing tuned on test rows:

- regression: `HybridRegressor()`; NGBoost with a normal law, stopped early on 15 % of the
  training rows, which it needs on small tables; XGBoost, HistGradientBoosting and an MLP with a
  constant normal spread, which is the root mean square of the residuals on 15 % of the training
  rows of a model fitted to the others; the model is then fitted to all of them.
- classification: `HybridClassifier()`; NGBoost in the same way; XGBoost, HistGradientBoosting,
  the MLP, and logistic regression. The MLP has scikit-learn's 100 units on standardised inputs
  (y standardised too) and stops early on tables of over 1,000 rows.

Splits: the 20 standard ones of the UCI tables; official ones where a table has one (adult,
higgs_7500; letter: the first 16,000 rows train), which are fitted anew with another seed; else
a seeded, stratified fifth for testing. Diamonds: 30,000 random rows train, 10,000 others test.
Flights: 30,000 random rows of the first 250,000 train, 10,000 random ones of the later test.

Where the target is a whole number (diamonds, flights, wine_red), every method is scored by the
mass of its cell, P(y - 1/2 < Y < y + 1/2), else by the density. The calibration error is that of
the largest probability in 15 bins of equally many rows; few test rows give an error to a model that
is perfectly calibrated too, which is measured by drawing labels from the model's own probabilities,
and stands beside. Columns of text: hybridflow takes the
frame as it comes; all others, and with `--encoded` hybridflow too, get one column per level, a
flag beside each column with missing cells, and the median in their place, except that the
boosted trees of XGBoost and scikit-learn take missing numbers themselves.

Each fit is written to a file of the cache as it ends, so that an interrupted run goes on. Fits
of hybridflow count only for the default configuration that they were made with; after a change
of its code start with another cache. Needs the packages of the extra `bench`, and the folder of
larger data sets.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from ngboost import NGBClassifier, NGBRegressor
from ngboost.distns import k_categorical
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier, XGBRegressor

from hybridflow import HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.registry import default_registry

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
HELD_OUT = 0.15
BINS = 15
DRAWS = 20
OURS = "hybridflow"
QUICK_ROWS = 2000

Array = NDArray[np.float64]
Figures = dict[str, float]


# --- tables ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Training and test rows of one split; labels are codes from 0."""

    train: pd.DataFrame
    test: pd.DataFrame
    y: Array
    y_test: Array
    cell: bool = False
    """Whether y is a whole number, of which the mass is scored."""


def uci(name: str, split: int) -> Table:
    """Return one of the standard splits."""
    data = np.load(DATA / "uci_regression" / f"{name}.npz", allow_pickle=False)
    frame = pd.DataFrame(data["X"], columns=data["feature_names"].tolist())
    y, test = data["y"], data["test_mask"][split]
    return Table(frame[~test], frame[test], y[~test], y[test], cell=name == "wine_red")


def flights(split: int) -> Table:
    """Return earlier flights to train on and later ones to test on, the eight usual columns."""
    data = np.load(DATA / "flights" / "flights_nyc2013.npz", allow_pickle=False)
    usual = ("plane_age", "distance", "air_time", "dep_min", "arr_min", "dow", "day", "month")
    names = data["feature_names"].tolist()
    frame = pd.DataFrame({name: data["X"][:, names.index(name)].astype(float) for name in usual})
    y = data["arr_delay"].astype(float)
    rng = np.random.default_rng(split)
    train = rng.choice(250_000, 30_000, replace=False)
    test = rng.choice(np.arange(250_000, len(y)), 10_000, replace=False)
    return Table(frame.iloc[train], frame.iloc[test], y[train], y[test], cell=True)


def diamonds(split: int) -> Table:
    """Return random rows; the price is a whole number."""
    frame = pd.read_csv(DATA / "tabular" / "diamonds.csv.gz")
    y = frame.pop("price").to_numpy(float)
    rows = np.random.default_rng(split).permutation(len(y))
    train, test = rows[:30_000], rows[30_000:40_000]
    return Table(frame.iloc[train], frame.iloc[test], y[train], y[test], cell=True)


TARGETS = {
    "adult": "income",
    "credit_g": "class",
    "letter": "lettr",
    "phoneme": "label",
    "higgs_7500": "label",
}
OFFICIAL = ("adult", "letter", "higgs_7500")


def classes(name: str, split: int) -> Table:
    """Return the official split of a classification, or a random one."""
    frame = pd.read_csv(DATA / "tabular" / f"{name}.csv.gz")
    official = frame.pop("split") if "split" in frame else None
    _, codes = np.unique(frame.pop(TARGETS[name]).to_numpy(), return_inverse=True)
    y = codes.astype(float)
    rows = np.arange(len(y))
    if official is not None:
        train, test = rows[official == "train"], rows[official != "train"]
    elif name in OFFICIAL:
        train, test = rows[:16_000], rows[16_000:]
    else:
        train, test = train_test_split(rows, test_size=0.2, random_state=split, stratify=y)
    return Table(frame.iloc[train], frame.iloc[test], y[train], y[test])


@dataclass(frozen=True)
class Task:
    """A table of the benchmark."""

    load: Callable[[int], Table]
    splits: int
    classification: bool = False
    goal: float = math.nan
    """The mean negative log-likelihood that is aimed at."""
    published: str = ""
    """What is published: NGBoost, deep ensembles."""


TASKS = {
    "concrete": Task(lambda k: uci("concrete", k), 20, goal=2.80, published="3.04, 3.06"),
    "energy": Task(lambda k: uci("energy", k), 20, goal=0.45, published="0.60, 1.38"),
    "yacht": Task(lambda k: uci("yacht", k), 20, goal=-0.15, published="0.20, 1.18"),
    "boston": Task(lambda k: uci("boston", k), 20, goal=2.30, published="2.43, 2.41"),
    "wine_red": Task(lambda k: uci("wine_red", k), 20),
    "diamonds": Task(diamonds, 3),
    "flights": Task(flights, 3),
    "credit_g": Task(lambda k: classes("credit_g", k), 10, classification=True),
    "phoneme": Task(lambda k: classes("phoneme", k), 5, classification=True),
    "higgs_7500": Task(lambda k: classes("higgs_7500", k), 3, classification=True),
    "letter": Task(lambda k: classes("letter", k), 2, classification=True),
    "adult": Task(lambda k: classes("adult", k), 2, classification=True),
}


def encode(table: Table, *, fill: bool) -> tuple[Array, Array]:
    """Return training and test rows as numbers: levels, flags, and medians if `fill` is set."""
    parts, train = [], len(table.train)
    for name in table.train:
        column = pd.concat([table.train[name], table.test[name]], ignore_index=True)
        missing = column.isna().to_numpy()
        if not pd.api.types.is_numeric_dtype(column):
            levels = pd.unique(column[:train].dropna())
            parts += [(column == level).to_numpy(float) for level in levels]
        elif fill:
            parts.append(column.fillna(column[:train].median()).to_numpy(float))
        else:
            parts.append(column.to_numpy(float))
        if missing[:train].any():
            parts.append(missing.astype(float))
    rows = np.stack(parts, axis=1)
    rows = rows[:, rows[:train].std(axis=0) != 0]  # NaN where cells are missing: kept
    return rows[:train], rows[train:]


# --- methods ---------------------------------------------------------------------------------


class Law(Protocol):
    """What scoring asks of a law."""

    def mean(self) -> Array: ...
    def log_prob(self, y: Array) -> Array: ...


@dataclass(frozen=True)
class Normal:
    """A normal law per row, rounded to whole numbers if `cell` is set."""

    location: Array
    spread: Array | float
    cell: bool

    def mean(self) -> Array:
        """Return the expectations."""
        return self.location

    def log_prob(self, y: Array) -> Array:
        """Return log-densities, or log-masses of cells."""
        low, high = ((y + side - self.location) / self.spread for side in (-0.5, 0.5))
        if not self.cell:
            return np.asarray(norm.logpdf(y, self.location, self.spread))
        # On the side where the tail keeps its digits.
        flip = low > 0
        low, high = np.where(flip, -high, low), np.where(flip, -low, high)
        upper, lower = norm.logcdf(high), norm.logcdf(low)
        return np.asarray(upper + np.log1p(-np.exp(np.minimum(lower - upper, -1e-15))))


def hybrid(table: Table, task: Task, seed: int, encoded: bool) -> Law | Array:
    """Fit hybridflow in the default configuration."""
    train, test = encode(table, fill=True) if encoded else (table.train, table.test)
    if task.classification:
        model = HybridClassifier(random_state=seed).fit(train, table.y.astype(int))
        return np.asarray(model.predict_proba(test))
    law = HybridRegressor(random_state=seed).fit(train, table.y).predict_distribution(test)
    if (law.lattice is not None) != table.cell:
        raise RuntimeError(f"scored on the lattice {law.lattice}, but the benchmark says otherwise")
    return law


def ngboost(table: Table, task: Task, seed: int, encoded: bool) -> Law | Array:
    """Fit NGBoost, stopped early on held-out rows."""
    train, test = encode(table, fill=True)
    labels = table.y.astype(int) if task.classification else table.y
    split = train_test_split(
        train,
        labels,
        test_size=HELD_OUT,
        random_state=seed,
        stratify=labels if task.classification else None,
    )
    X, X_held, y, y_held = split
    settings = {"random_state": seed, "verbose": False}
    if task.classification:
        model = NGBClassifier(Dist=k_categorical(int(labels.max()) + 1), **settings)
    else:
        model = NGBRegressor(**settings)
    model.fit(X, y, X_val=X_held, Y_val=y_held, early_stopping_rounds=50)
    if task.classification:
        return np.asarray(model.predict_proba(test))
    law = model.pred_dist(test)
    return Normal(law.loc, law.scale, table.cell)


def peer(regressor: Any, classifier: Any, *, fill: bool) -> Method:
    """Return a method made of two estimators of scikit-learn's kind."""

    def fit(table: Table, task: Task, seed: int, encoded: bool) -> Law | Array:
        train, test = encode(table, fill=fill)
        model = clone(classifier if task.classification else regressor)
        seeds = [name for name in model.get_params() if name.endswith("random_state")]
        model.set_params(**dict.fromkeys(seeds, seed))
        stops = [
            name
            for name in model.get_params()
            if name.endswith("early_stopping") and "mlp" in name.lower()
        ]
        model.set_params(**dict.fromkeys(stops, len(train) > 1000))
        if task.classification:
            return np.asarray(model.fit(train, table.y.astype(int)).predict_proba(test))
        X, X_held, y, y_held = train_test_split(
            train, table.y, test_size=HELD_OUT, random_state=seed
        )
        spread = math.sqrt(np.mean((clone(model).fit(X, y).predict(X_held) - y_held) ** 2))
        return Normal(model.fit(train, table.y).predict(test), spread, table.cell)

    return fit


Method = Callable[[Table, Task, int, bool], Law | Array]
_MLP = TransformedTargetRegressor(
    make_pipeline(StandardScaler(), MLPRegressor(max_iter=1000)), transformer=StandardScaler()
)
METHODS: dict[str, Method] = {
    OURS: hybrid,
    "NGBoost": ngboost,
    "XGBoost": peer(XGBRegressor(), XGBClassifier(), fill=False),
    "HistGB": peer(HistGradientBoostingRegressor(), HistGradientBoostingClassifier(), fill=False),
    "MLP": peer(_MLP, make_pipeline(StandardScaler(), MLPClassifier(max_iter=1000)), fill=True),
    "logistic": peer(
        None, make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)), fill=True
    ),
}


# --- scores ----------------------------------------------------------------------------------


def calibration_error(probability: Array, label: NDArray[np.intp]) -> float:
    """Return the expected calibration error of the largest probability, in bins of equal mass."""
    confidence = probability.max(axis=1)
    gap = (probability.argmax(axis=1) == label) - confidence
    parts = np.array_split(gap[np.argsort(confidence, kind="stable")], BINS)
    return float(sum(abs(part.sum()) for part in parts) / len(gap))


def chance(probability: Array) -> float:
    """Return the calibration error that these probabilities would show if they were the truth."""
    rng = np.random.default_rng(0)
    cumulative = probability.cumsum(axis=1)
    errors = []
    for _ in range(DRAWS):
        drawn = (cumulative < rng.random((len(probability), 1))).sum(axis=1)
        errors.append(calibration_error(probability, drawn))
    return statistics.fmean(errors)


def score(answer: Law | Array, table: Table) -> Figures:
    """Return the figures of one fit."""
    if not isinstance(answer, np.ndarray):
        error = math.sqrt(np.mean((answer.mean() - table.y_test) ** 2))
        return {"nll": -float(answer.log_prob(table.y_test).mean()), "error": error}
    label = table.y_test.astype(np.intp)
    chosen = np.maximum(answer[np.arange(len(label)), label], 1e-15)
    return {
        "nll": -float(np.log(chosen).mean()),
        "error": 100 * float(np.mean(answer.argmax(axis=1) != label)),
        "ece": calibration_error(answer, label),
        "chance": chance(answer),
    }


def settings(task: Task) -> str:
    """Return the default configuration of hybridflow as text: fits of another one do not count."""
    estimator = HybridClassifier() if task.classification else HybridRegressor()
    parameters = estimator.get_params(deep=False)
    parameters["training"] = TrainingConfig().model_dump()
    for kind in ("flow", "base", "head"):
        parameters[kind] = default_registry().resolve(kind, parameters[kind])[1].model_dump()
    return json.dumps(parameters, sort_keys=True, default=str)


class Cache:
    """The fits so far, one JSON line each in a file per table."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.jsonl"
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.fits: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, key: dict[str, Any]) -> Figures | None:
        """Return the figures of a fit, None if it was not made yet."""
        for fit in self.fits:
            if all(fit.get(part) == value for part, value in key.items()):
                figures: Figures = fit["figures"]
                return figures
        return None

    def add(self, key: dict[str, Any], figures: Figures) -> None:
        """Keep a fit."""
        self.fits.append({**key, "figures": figures})
        with self.path.open("a") as file:
            file.write(json.dumps(self.fits[-1]) + "\n")


def measure(name: str, arguments: argparse.Namespace) -> dict[str, list[Figures]]:
    """Return the figures of every split by method, fitting what the cache has not."""
    task, cache = TASKS[name], Cache(arguments.cache, name)
    splits = min(task.splits, 2 if arguments.quick else task.splits, arguments.splits)
    found: dict[str, list[Figures]] = {}
    for split in range(splits):
        table = task.load(split)
        if arguments.quick:
            table = Table(
                table.train[:QUICK_ROWS],
                table.test[:QUICK_ROWS],
                table.y[:QUICK_ROWS],
                table.y_test[:QUICK_ROWS],
                table.cell,
            )
        for method in arguments.methods:
            if method == "logistic" and not task.classification:
                continue
            key = {"method": method, "split": split, "quick": arguments.quick}
            if method == OURS:
                key |= {"encoded": arguments.encoded, "settings": settings(task)}
            figures = cache.find(key)
            if figures is None:
                start = time.perf_counter()
                answer = METHODS[method](table, task, split, arguments.encoded)
                figures = score(answer, table) | {"s": time.perf_counter() - start}
                cache.add(key, figures)
                shown = ", ".join(f"{part} {value:.3f}" for part, value in figures.items())
                print(f"{name} {split} {method}: {shown}", flush=True)
            found.setdefault(method, []).append(figures)
    return found


# --- the page --------------------------------------------------------------------------------


def mean(found: list[Figures], part: str) -> float:
    """Return the mean of one figure over the splits."""
    return statistics.fmean(figures[part] for figures in found)


def cell(found: list[Figures] | None, part: str, digits: int) -> str:
    """Return mean and standard deviation over the splits."""
    if not found:
        return "—"
    spread = f" ± {statistics.stdev(f[part] for f in found):.{digits}f}" if found[1:] else ""
    return f"{mean(found, part):.{digits}f}{spread}"


def grid(
    title: str, results: dict[str, dict[str, list[Figures]]], part: str, digits: int
) -> list[str]:
    """Return one figure of every table and method as a table of Markdown."""
    methods = [name for name in METHODS if any(name in found for found in results.values())]
    lines = [
        f"## {title}",
        "",
        f"| table | splits | {' | '.join(methods)} |",
        "|---" * (len(methods) + 2) + "|",
    ]
    for name, found in results.items():
        splits = max(map(len, found.values()))
        cells = [cell(found.get(method), part, digits) for method in methods]
        lines.append(f"| {name} | {splits} | {' | '.join(cells)} |")
    return [*lines, ""]


def goals(results: dict[str, dict[str, list[Figures]]]) -> list[str]:
    """Return what was aimed at beside what was reached, table by table."""
    lines = ["## Goals", "", "| table | goal | reached | met |", "|---|---|---|---|"]

    def add(name: str, goal: str, reached: str, met: bool) -> None:
        lines.append(f"| {name} | {goal} | {reached} | {'yes' if met else '**no**'} |")

    ratios = []
    for name, found in results.items():
        if OURS not in found:
            continue
        ours, task = found[OURS], TASKS[name]
        nll = {method: mean(fits, "nll") for method, fits in found.items()}
        if not math.isnan(task.goal):
            goal = f"NLL ≤ {task.goal:.2f} (published: {task.published})"
            add(name, goal, f"{nll[OURS]:.2f}", nll[OURS] <= task.goal)
        elif task.classification:
            for method in ("MLP", "logistic", "NGBoost"):
                if method in found:
                    goal = f"log-loss below {method}'s {nll[method]:.3f}"
                    add(name, goal, f"{nll[OURS]:.3f}", nll[OURS] < nll[method])
            ratios += [nll[OURS] / nll[m] for m in ("XGBoost", "HistGB") if m in found]
            error, least = mean(ours, "ece"), mean(ours, "chance")
            reached = f"{error:.3f}, of which {least:.3f} by chance"
            add(name, "calibration error ≤ 0.02", reached, error - least <= 0.02)
        elif name in ("diamonds", "flights"):
            for method in ("NGBoost", "XGBoost", "HistGB"):
                if method in found:
                    gain = nll[method] - nll[OURS]
                    add(name, f"NLL 0.4 below {method}'s", f"{gain:.2f} below", gain >= 0.4)
            if "XGBoost" in found:
                ratio = mean(ours, "error") / mean(found["XGBoost"], "error")
                add(name, "RMSE within 5 % of XGBoost's", f"{ratio - 1:+.1%}", ratio <= 1.05)
    if ratios:
        ratio = statistics.fmean(ratios)
        goal = "log-loss within 5 % of boosted trees' on average"
        add("classifications", goal, f"{ratio - 1:+.1%}", ratio <= 1.05)
    return [*lines, ""]


def defeats(results: dict[str, dict[str, list[Figures]]]) -> list[str]:
    """Return where a peer wins, figure by figure."""
    lines = ["## Where a peer wins", ""]
    for part, title in (("nll", "negative log-likelihood"), ("error", "error")):
        for name, found in results.items():
            if OURS not in found:
                continue
            ours = mean(found[OURS], part)
            better = {
                method: mean(fits, part)
                for method, fits in found.items()
                if method != OURS and mean(fits, part) < ours
            }
            if better:
                said = ", ".join(
                    f"{method} ({value:.3g})"
                    for method, value in sorted(better.items(), key=lambda item: item[1])
                )
                lines.append(f"- {name}, {title}: {said} against {ours:.3g}.")
    return [*lines, ""] if lines[2:] else [*lines, "Nowhere, by the means above.", ""]


def page(results: dict[str, dict[str, list[Figures]]], arguments: argparse.Namespace) -> str:
    """Return the page of the documentation."""
    numbers = {name: found for name, found in results.items() if not TASKS[name].classification}
    labels = {name: found for name, found in results.items() if TASKS[name].classification}
    taken = "one column per level of text" if arguments.encoded else "text as it comes"
    lines = [
        "# Prediction",
        "",
        "Written by `python tests/benchmarks/prediction.py`"
        + (" with `--quick`: few rows, for a look only." if arguments.quick else "."),
        "Mean and standard deviation over the splits, every method in its default configuration,",
        f"the same for all tables; hybridflow with {taken}. The script says how each peer is",
        "fitted and how the splits are made. Targets that are whole numbers (wine_red, diamonds,",
        "flights) are scored by the mass of the cell, in nats as all else.",
        "",
    ]
    if numbers:
        lines += grid("Regression: negative log-likelihood", numbers, "nll", 2)
        lines += grid("Regression: root mean square error", numbers, "error", 2)
    if labels:
        lines += grid("Classification: log-loss", labels, "nll", 3)
        lines += grid("Classification: % wrong labels", labels, "error", 2)
        lines += grid(
            f"Classification: calibration error ({BINS} bins of equal mass)", labels, "ece", 3
        )
        lines += grid(
            "Classification: the same of labels drawn from the probabilities", labels, "chance", 3
        )
    if any(OURS in found for found in results.values()):
        lines += goals(results) + defeats(results)
    lines += grid("Seconds of fit and answers, one process", results, "s", 1)
    return "\n".join(lines).rstrip() + "\n"


def names(known: dict[str, Any]) -> Callable[[str], list[str]]:
    """Return the reader of an option that is a list of names."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {unknown}; known are {', '.join(known)}")
        return chosen

    return read


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=names(TASKS), default=list(TASKS))
    parser.add_argument("--methods", type=names(METHODS), default=list(METHODS))
    parser.add_argument("--splits", type=int, default=20, help="at most, for every table")
    parser.add_argument("--quick", action="store_true", help="two splits and few rows")
    parser.add_argument("--encoded", action="store_true", help="one column per level, for all")
    parser.add_argument("--cache", type=Path, default=ROOT / "build" / "prediction")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/prediction.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    results: dict[str, dict[str, list[Figures]]] = {}
    for name in arguments.sets:
        results[name] = measure(name, arguments)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(page(results, arguments))
    print(page(results, arguments))


if __name__ == "__main__":
    main()
