"""``hybridflow score``: how usual each row is, and how good the predictions are."""

from __future__ import annotations

import warnings
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
    from hybridflow.cli.tables import column, in_file, write_table
    from hybridflow.errors import InputError

    check_output(output, format, force)
    estimator = load_model(model)
    frame, X = load_rows(estimator, data, apart=target or target_name(estimator))
    with in_file(data):
        if target is None:
            series = own_target(estimator, frame, X)
        elif target in X.columns:
            raise InputError(f"--target: {target!r} is a feature of the model")
        else:
            series = column(frame, target, option="--target") if target else None
        y = None if series is None else labels(series).to_numpy()
        scores = row_scores(estimator, X, y)
        if summary:
            measures = {"rows": float(X.height), **averages(estimator, X, y, scores)}
            scores = pl.DataFrame({"measure": list(measures), "value": list(measures.values())})
    write_table(scores, output, format=format, force=force)


def own_target(estimator: FlowEstimator, frame: pl.DataFrame, X: pl.DataFrame) -> pl.Series | None:
    """Return the target that a model was fitted on if the table has it, in every row."""
    from hybridflow.cli.failures import talk
    from hybridflow.cli.loading import target_name

    name = target_name(estimator)
    if name is None or name not in frame.columns or name in X.columns:
        return None
    if empty := frame[name].null_count():
        talk(f"note: {empty} rows have no {name!r}: scored without it")
        return None
    talk(f"note: target: {name!r}; --target '' scores without it")
    return frame[name]


def row_scores(estimator: FlowEstimator, X: pl.DataFrame, y: NDArray[Any] | None) -> pl.DataFrame:
    """Return the scores of each row.

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
        for warning in caught:
            talk(f"note: {warning.message}")
    if y is not None:
        if not isinstance(estimator, HybridClassifier | HybridRegressor):
            raise InputError("--target: this model has no target: leave the option out")
        frame = frame.with_columns(log_joint=estimator.score_joint(X, y))
    if detector:
        frame = frame.with_columns(prediction=estimator.predict(X))
    return frame


def averages(
    estimator: FlowEstimator, X: pl.DataFrame, y: NDArray[Any] | None, scores: pl.DataFrame
) -> dict[str, float]:
    """Return averages over the rows, by name.

    ``nll`` is the mean of -log p(y | x) in nats.
    """
    import numpy as np

    from hybridflow.estimators import FlowOutlierDetector, HybridClassifier, HybridRegressor

    log_density = scores["log_density"].to_numpy()
    measures = {
        "log_density_mean": float(log_density.mean()),
        "log_density_median": float(np.median(log_density)),
    }
    if isinstance(estimator, FlowOutlierDetector):
        measures["outlier_share"] = float((scores["prediction"].to_numpy() == -1).mean())
    if y is None:
        return measures
    measures["nll"] = float((log_density - scores["log_joint"].to_numpy()).mean())
    if isinstance(estimator, HybridClassifier):
        measures["accuracy"] = float((estimator.predict(X) == y).mean())
    elif isinstance(estimator, HybridRegressor):
        error = estimator.predict(X) - y.astype(float)
        measures["rmse"] = float(np.sqrt((error**2).mean()))
        measures["mae"] = float(np.abs(error).mean())
    return measures
