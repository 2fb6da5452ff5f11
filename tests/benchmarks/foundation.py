"""Error and held-out log-density on five tables, beside scikit-learn's peers.

    python tests/benchmarks/foundation.py [--splits 10] [--sets wine,diabetes]

Tables of over a thousand rows get a third of the splits. The seeds of the splits are
none of those on which the defaults were chosen. Each split takes a random fifth for
testing (flights: a random part of the first 250,000 rows, in time order, trains and the
last 77,000 test). The peer of the prediction is scikit-learn's MLP with one hidden layer
of as many units as the head's, early stopping on large tables and standardised inputs.
The peers of the density are a Gaussian with independent columns and a Ledoit-Wolf
Gaussian on standardised columns; all three see the same columns with the same noise on
their tied cells. The densities are those of one noise draw, so that a column on a
lattice of step 1 counts the same as a density.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from scipy.stats import multivariate_normal, norm
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hybridflow import HybridClassifier, HybridRegressor

ROOT = Path(__file__).parents[2]
FLIGHTS = ROOT.parent / "shared" / "data" / "flights" / "flights_nyc2013.npz"
FIRST_SEED = 1000
LARGE = ("digits", "flights")
COLUMNS = (
    "table",
    "error",
    "MLP error",
    "difference",
    "log p(x)",
    "Ledoit-Wolf",
    "diagonal",
    "s",
    "MLP s",
)
CLASSIFICATION = {"breast cancer": load_breast_cancer, "wine": load_wine, "digits": load_digits}


def flights(seed: int) -> tuple[np.ndarray, ...]:
    """Return 20,000 rows of the earlier and 10,000 of the later flights, complete rows only."""
    data = np.load(FLIGHTS, allow_pickle=False)
    names = data["feature_names"].tolist()
    known = [i for i, n in enumerate(names) if n not in ("air_time", "dep_min", "arr_min")]
    X = data["X"][:, known].astype(np.float64)
    y = data["arr_delay"].astype(np.float64)
    complete = np.flatnonzero(np.isfinite(X).all(axis=1))
    rng = np.random.default_rng(seed)
    train = rng.choice(complete[complete < 250_000], 20_000, replace=False)
    test = rng.choice(complete[complete >= 250_000], 10_000, replace=False)
    return X[train], X[test], y[train], y[test]


def table(name: str, seed: int) -> tuple[np.ndarray, ...]:
    """Return the training and test part of one split."""
    if name == "flights":
        return flights(seed)
    X, y = {**CLASSIFICATION, "diabetes": load_diabetes}[name](return_X_y=True)
    stratify = y if name in CLASSIFICATION else None
    return tuple(train_test_split(X, y, test_size=0.2, random_state=seed, stratify=stratify))


def densities(model: HybridClassifier | HybridRegressor, train: np.ndarray, test: np.ndarray):
    """Return the mean held-out log-density of the model and of the two Gaussians."""
    hybrid = model.models_[0]
    kept = model.schema_.kept
    generator = torch.Generator().manual_seed(0)

    def noisy(rows: np.ndarray) -> torch.Tensor:
        x = torch.as_tensor(rows[:, kept])
        return hybrid.dequantise(x, torch.rand(x.shape, generator=generator, dtype=torch.float64))

    x, x_test = noisy(train), noisy(test)
    with torch.no_grad():
        flow = hybrid.log_density(x_test).numpy()
    location, scale = x.numpy().mean(axis=0), x.numpy().std(axis=0)
    z, z_test = (x.numpy() - location) / scale, (x_test.numpy() - location) / scale
    jacobian = np.log(scale).sum()
    gauss = LedoitWolf().fit(z)
    full = multivariate_normal(gauss.location_, gauss.covariance_).logpdf(z_test) - jacobian
    diagonal = norm.logpdf(z_test).sum(axis=1) - jacobian
    return flow.mean(), full.mean(), diagonal.mean()


def measure(name: str, seed: int) -> dict[str, float]:
    """Fit one split and return its figures."""
    X, X_test, y, y_test = table(name, seed)
    start = time.perf_counter()
    if name in CLASSIFICATION:
        model = HybridClassifier(random_state=seed).fit(X, y)
        peer = MLPClassifier(
            hidden_layer_sizes=(128,),
            early_stopping=len(X) > 1000,
            max_iter=1000,
            random_state=seed,
        )
    else:
        model = HybridRegressor(random_state=seed).fit(X, y)
        peer = MLPRegressor(
            hidden_layer_sizes=(128,),
            early_stopping=len(X) > 1000,
            max_iter=1000,
            random_state=seed,
        )
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    pipeline = make_pipeline(StandardScaler(), peer).fit(X, y)
    peer_seconds = time.perf_counter() - start
    if name in CLASSIFICATION:
        error, peer_error = (100 * np.mean(m.predict(X_test) != y_test) for m in (model, pipeline))
    else:
        error, peer_error = (
            root_mean_squared_error(y_test, m.predict(X_test)) for m in (model, pipeline)
        )
    flow, full, diagonal = densities(model, X, X_test)
    return {
        "error": float(error),
        "MLP error": float(peer_error),
        "log p": float(flow),
        "Ledoit-Wolf": float(full),
        "diagonal": float(diagonal),
        "seconds": seconds,
        "MLP seconds": peer_seconds,
    }


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--sets", default="breast cancer,wine,digits,diabetes,flights")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/foundation.md")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = [
        "# Foundation: error and held-out log-density",
        "",
        "Written by `python tests/benchmarks/foundation.py`. Mean and standard deviation over",
        f"{arguments.splits} splits (a third of them for {' and '.join(LARGE)}), default",
        "configuration; error is % wrong labels or RMSE, its difference is taken split by split",
        "and has its standard error; log-densities in nats per row, of the same noised,",
        "non-constant columns.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * len(COLUMNS)}",
    ]
    print("\n".join(lines))
    for name in arguments.sets.split(","):
        if name == "flights" and not FLIGHTS.exists():
            print("flights: skipped, shared/data is not there")
            continue
        splits = -(-arguments.splits // 3) if name in LARGE else arguments.splits
        results = [measure(name, FIRST_SEED + split) for split in range(splits)]
        cells = []
        for key in results[0]:
            values = np.array([result[key] for result in results])
            cells.append(f"{values.mean():.2f} ± {values.std():.2f}")
        gain = np.array([result["error"] - result["MLP error"] for result in results])
        cells.insert(2, f"{gain.mean():+.2f} ± {gain.std() / np.sqrt(max(1, splits - 1)):.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
