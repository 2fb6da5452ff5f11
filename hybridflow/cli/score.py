"""``hybridflow score``: how usual each row is, and how good the predictions are."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridflow.cli.options import Data, Force, Model, Output, OutputFormat

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from hybridflow.estimators.base import FlowEstimator

NAME = "score"
EPILOG = """Examples:

hybridflow score houses.hflow new.csv | sort -n | head

hybridflow score houses.hflow test.csv --target price --summary"""


def command(
    model: Model,
    data: Data,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column with the true target: adds log_joint and the errors; '' for none. By "
            "default the one that the model was fitted on, if the table has it without gaps.",
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Print averages instead of a value per row.")
    ] = False,
    output: Output = "-",
    format: OutputFormat = None,
    force: Force = False,
) -> None:
    """Score each row by its log-density: the lower, the less usual.

    log_density is log p(x) in nats, in the units of the data; novelty is the p-value, of
    usual rows one in twenty has 0.05 or less; log_joint, with a target, is log p(x, y). Outlier
    detectors add their decision.
    """
    import polars as pl

    from hybridflow.cli.columns import labels
    from hybridflow.cli.loading import check_output, load_model, load_rows, target_name
    from hybridflow.cli.tables import column, in_file, write_tables
    from hybridflow.errors import InputError

    check_output(output, format, force)
    estimator = load_model(model)
    told: set[str] = set()

    def parts() -> Iterator[pl.DataFrame]:
        chosen = target
        apart = target or target_name(estimator)
        for frame, X, start in load_rows(estimator, data, apart=apart):
            with in_file(data, start):
                if chosen is None:
                    chosen = own_target(estimator, data, frame, X)
                elif chosen in X.columns:
                    raise InputError(f"--target: {chosen!r} is a feature of the model")
                series = column(frame, chosen, option="--target") if chosen else None
                y = None if series is None else labels(series).to_numpy()
                scores = row_scores(estimator, X, y, told)
                yield scores if not summary else measures(estimator, X, y, scores)

    if not summary:
        write_tables(parts(), output, format=format, force=force)
        return
    found = averages(pl.concat(list(parts())))
    table = pl.DataFrame({"measure": list(found), "value": list(found.values())})
    write_tables([table], output, format=format, force=force)


def own_target(estimator: FlowEstimator, source: str, frame: pl.DataFrame, X: pl.DataFrame) -> str:
    """Return the target that a model was fitted on if a table has it, in every row; else ""."""
    import polars as pl

    from hybridflow.cli.failures import talk
    from hybridflow.cli.loading import PART, target_name

    name = target_name(estimator)
    if name is None or name not in frame.columns or name in X.columns:
        return ""
    empty = frame[name].null_count()
    if frame.height == PART:  # of a file that may go on
        empty = int(pl.scan_parquet(source).select(pl.col(name).null_count()).collect().item())
    if empty:
        talk(f"note: {empty} rows have no {name!r}: scored without it")
        return ""
    talk(f"note: target: {name!r}; --target '' scores without it")
    return name


def row_scores(
    estimator: FlowEstimator, X: pl.DataFrame, y: NDArray[Any] | None, told: set[str]
) -> pl.DataFrame:
    """Return the scores of each row; what is `told` already is not said again.

    Raises
    ------
    InputError
        If a target is given to a model without one, or does not fit the model.
    """
    import polars as pl

    from hybridflow.cli.failures import talk
    from hybridflow.errors import InputError
    from hybridflow.estimators import FlowOutlierDetector, HybridClassifier, HybridRegressor
    from hybridflow.estimators.novelty import NoveltyEstimator

    detector = isinstance(estimator, FlowOutlierDetector)
    density = estimator.log_density(X) if detector else estimator.score_samples(X)
    frame = pl.DataFrame({"log_density": density})
    if isinstance(estimator, NoveltyEstimator) and estimator.novelty_ is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            frame = frame.with_columns(novelty=estimator.novelty_pvalue(X))
        for message in dict.fromkeys(str(warning.message) for warning in caught):
            if message not in told:
                told.add(message)
                talk(f"note: {message}")
    if y is not None:
        if not isinstance(estimator, HybridClassifier | HybridRegressor):
            raise InputError("--target: this model has no target: leave the option out")
        frame = frame.with_columns(log_joint=estimator.score_joint(X, y))
    if detector:
        frame = frame.with_columns(prediction=estimator.predict(X))
    return frame


def measures(
    estimator: FlowEstimator, X: pl.DataFrame, y: NDArray[Any] | None, scores: pl.DataFrame
) -> pl.DataFrame:
    """Return what is averaged over rows, one value per row.

    ``nll`` is -log p(y | x) in nats.
    """
    import numpy as np

    from hybridflow.estimators import FlowOutlierDetector, HybridClassifier, HybridRegressor

    rows = scores.select("log_density")
    if isinstance(estimator, FlowOutlierDetector):
        rows = rows.with_columns(outlier=scores["prediction"].to_numpy() == -1)
    if y is None:
        return rows
    rows = rows.with_columns(nll=scores["log_density"] - scores["log_joint"])
    if isinstance(estimator, HybridClassifier):
        return rows.with_columns(accuracy=estimator.predict(X) == y)
    if isinstance(estimator, HybridRegressor):
        return rows.with_columns(error=np.abs(estimator.predict(X) - y.astype(float)))
    return rows


def averages(rows: pl.DataFrame) -> dict[str, float]:
    """Return averages of `measures`, by name."""
    import numpy as np

    density = rows["log_density"].to_numpy()
    found = {
        "rows": float(rows.height),
        "log_density_mean": float(density.mean()),
        "log_density_median": float(np.median(density)),
    }
    for column, name in (("outlier", "outlier_share"), ("nll", "nll"), ("accuracy", "accuracy")):
        if column in rows.columns:
            found[name] = float(rows[column].to_numpy().mean())
    if "error" in rows.columns:
        error = rows["error"].to_numpy()
        found["rmse"] = float(np.sqrt((error**2).mean()))
        found["mae"] = float(error.mean())
    return found
