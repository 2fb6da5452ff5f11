"""``hybridflow predict``: what y is, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridflow.cli.options import Data, Force, Model, Output, OutputFormat

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from hybridflow.estimators.base import FlowEstimator

NAME = "predict"
EPILOG = """Examples:

hybridflow predict houses.hflow new.csv -o prices.csv

hybridflow predict houses.hflow new.csv --quantiles 0.1,0.9 --density --format json

hybridflow predict houses.hflow new.csv --interval 0.9 --quantiles ''

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
    interval: Annotated[
        float | None,
        typer.Option(
            metavar="COVERAGE",
            help="Add lower and upper, between which a number lies with this probability, "
            "calibrated on held-out rows.",
        ),
    ] = None,
    classes: Annotated[
        float | None,
        typer.Option(
            "--set",
            metavar="COVERAGE",
            help="Add in_set_CLASS, true for the classes of a set that holds the right one with "
            "this probability, calibrated on held-out rows.",
        ),
    ] = None,
    density: Annotated[bool, typer.Option("--density", help="Add the column log_density.")] = False,
    format: OutputFormat = None,
    force: Force = False,
) -> None:
    """Predict the target of each row.

    Classes come with a probability each, numbers with their standard deviation and quantiles,
    outlier detectors say -1 for outliers. Columns that the model does not know are ignored.
    """
    from hybridflow.cli.loading import check_output, load_model, load_rows
    from hybridflow.cli.tables import in_file, write_tables

    check_output(output, format, force)
    levels = _levels(quantiles)
    for option, coverage in (("--interval", interval), ("--set", classes)):
        if coverage is not None and not 0 < coverage < 1:
            raise typer.BadParameter(f"{coverage:g} is not between 0 and 1", param_hint=option)
    estimator = load_model(model)

    def answers() -> Iterator[pl.DataFrame]:
        for _, X, start in load_rows(estimator, data):
            with in_file(data, start):
                frame = predictions(estimator, X, levels)
                if interval is not None:
                    frame = frame.with_columns(**intervals(estimator, X, interval))
                if classes is not None:
                    frame = frame.with_columns(**sets(estimator, X, classes))
                if density:
                    frame = frame.with_columns(log_density=estimator.score_samples(X))
            yield frame

    write_tables(answers(), output, format=format, force=force)


def predictions(estimator: FlowEstimator, X: pl.DataFrame, levels: list[float]) -> pl.DataFrame:
    """Return one row of predictions per row of X, of several outputs with columns for each.

    Raises
    ------
    InputError
        If the model has no target.
    """
    import polars as pl

    from hybridflow.errors import InputError
    from hybridflow.estimators import FlowOutlierDetector, HybridClassifier, HybridRegressor

    target = estimator.blueprint_.target
    several = [f"_{name}" for name in target.names] if target and len(target.names) > 1 else []
    if isinstance(estimator, HybridClassifier):
        probabilities = estimator.predict_proba(X)
        if several:
            return pl.DataFrame(
                _each("prediction", estimator.predict(X), several)
                | _each("probability", probabilities, several)
            )
        best = estimator.classes_[probabilities.argmax(axis=1)]
        data = {"prediction": plain(best.tolist())}
        for label, column in zip(plain(estimator.classes_.tolist()), probabilities.T, strict=True):
            data[f"probability_{label}"] = column.tolist()
        return pl.DataFrame(data)
    if isinstance(estimator, HybridRegressor):
        law = estimator.predict_distribution(X)
        found = _each("prediction", law.mean(), several) | _each("std", law.std(), several)
        for level in levels:
            found |= _each(f"quantile_{level:g}", law.quantile(level), several)
        return pl.DataFrame(found)
    if isinstance(estimator, FlowOutlierDetector):
        decision = estimator.decision_function(X)
        return pl.DataFrame({"prediction": estimator.predict(X), "decision": decision})
    raise InputError("this model is a density and predicts nothing: use hybridflow score")


def _each(what: str, values: NDArray[Any], outputs: list[str]) -> dict[str, NDArray[Any]]:
    """Return a column, or of several outputs one of each."""
    if not outputs:
        return {what: values}
    return {f"{what}{name}": values[:, i] for i, name in enumerate(outputs)}


def intervals(estimator: FlowEstimator, X: pl.DataFrame, coverage: float) -> dict[str, pl.Series]:
    """Return the columns ``lower`` and ``upper``; of several outputs, a pair for each.

    Raises
    ------
    InputError
        If the model predicts no number.
    """
    import polars as pl

    from hybridflow.errors import InputError
    from hybridflow.estimators import HybridRegressor

    if not isinstance(estimator, HybridRegressor):
        raise InputError("--interval: this model predicts no number: leave the option out")
    found = estimator.predict_interval(X, coverage)
    target = estimator.blueprint_.target
    names = [""] if found.ndim == 2 or target is None else [f"_{name}" for name in target.names]
    pairs = found.reshape(len(found), len(names), 2)
    return {
        f"{end}{name}": pl.Series(pairs[:, i, side])
        for i, name in enumerate(names)
        for side, end in enumerate(("lower", "upper"))
    }


def sets(estimator: FlowEstimator, X: pl.DataFrame, coverage: float) -> dict[str, pl.Series]:
    """Return a column of true and false for each class.

    Raises
    ------
    InputError
        If the model predicts no class.
    """
    import polars as pl

    from hybridflow.errors import InputError
    from hybridflow.estimators import HybridClassifier

    if not isinstance(estimator, HybridClassifier):
        raise InputError("--set: this model predicts no class: leave the option out")
    found = estimator.predict_set(X, coverage)
    labels = plain(estimator.classes_.tolist())
    return {f"in_set_{label}": pl.Series(found[:, i]) for i, label in enumerate(labels)}


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
