"""``hybridflow predict``: what y is, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hybridflow.cli.options import Data, Force, Model, Output, OutputFormat

if TYPE_CHECKING:
    import polars as pl

    from hybridflow.estimators.base import FlowEstimator

NAME = "predict"
EPILOG = """Examples:

hybridflow predict houses.hflow new.csv -o prices.csv

hybridflow predict houses.hflow new.csv --quantiles 0.1,0.9 --density --format json

cat new.csv | hybridflow predict houses.hflow - | head"""


def command(
    model: Model,
    data: Data,
    output: Output = "-",
    quantiles: Annotated[
        str,
        typer.Option(
            metavar="P,P,...", help="Quantiles of a regression, between 0 and 1; '' for none."
        ),
    ] = "0.05,0.5,0.95",
    density: Annotated[bool, typer.Option("--density", help="Add the column log_density.")] = False,
    format: OutputFormat = None,
    force: Force = False,
) -> None:
    """Predict the target of each row.

    Classes come with a probability each, numbers with their standard deviation and quantiles,
    outlier detectors say -1 for outliers. Columns that the model does not know are ignored.
    """
    from hybridflow.cli.loading import check_output, load_model, load_rows
    from hybridflow.cli.tables import in_file, write_table

    check_output(output, format, force)
    levels = _levels(quantiles)
    estimator = load_model(model)
    _, X = load_rows(estimator, data)
    with in_file(data):
        frame = predictions(estimator, X, levels)
        if density:
            frame = frame.with_columns(log_density=estimator.score_samples(X))
    write_table(frame, output, format=format, force=force)


def predictions(estimator: FlowEstimator, X: pl.DataFrame, levels: list[float]) -> pl.DataFrame:
    """Return one row of predictions per row of X.

    Raises
    ------
    InputError
        If the model has no target.
    """
    import polars as pl

    from hybridflow.errors import InputError
    from hybridflow.estimators import FlowOutlierDetector, HybridClassifier, HybridRegressor

    if isinstance(estimator, HybridClassifier):
        probabilities = estimator.predict_proba(X)
        best = estimator.classes_[probabilities.argmax(axis=1)]
        data = {"prediction": plain(best.tolist())}
        for label, column in zip(plain(estimator.classes_.tolist()), probabilities.T, strict=True):
            data[f"probability_{label}"] = column.tolist()
        return pl.DataFrame(data)
    if isinstance(estimator, HybridRegressor):
        law = estimator.predict_distribution(X)
        return pl.DataFrame(
            {
                "prediction": law.mean(),
                "std": law.std(),
                **{f"quantile_{level:g}": law.quantile(level) for level in levels},
            }
        )
    if isinstance(estimator, FlowOutlierDetector):
        decision = estimator.decision_function(X)
        return pl.DataFrame({"prediction": estimator.predict(X), "decision": decision})
    raise InputError("this model is a density and predicts nothing: use hybridflow score")


def plain(labels: list[object]) -> list[object]:
    """Return labels as a table can hold them: bytes become text."""
    return [label.decode("latin-1") if isinstance(label, bytes) else label for label in labels]


def _levels(text: str) -> list[float]:
    try:
        levels = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        levels = [-1.0]
    if not all(0 < level < 1 for level in levels) or len(set(levels)) < len(levels):
        raise typer.BadParameter(
            f"{text!r}: expected different numbers between 0 and 1, separated by commas",
            param_hint="--quantiles",
        )
    return levels
