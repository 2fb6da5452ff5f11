"""``hybridflow sample``: new rows from a model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hybridflow.cli.options import Force, Model, Output, OutputFormat

if TYPE_CHECKING:
    import polars as pl

    from hybridflow.estimators.base import FlowEstimator

NAME = "sample"
EPILOG = """Examples:

hybridflow sample houses.hflow -n 1000 -o drawn.csv

hybridflow sample iris.hflow -n 20 --given setosa"""


def command(
    model: Model,
    count: Annotated[
        int, typer.Option("--rows", "-n", metavar="N", min=0, help="Number of rows to draw.")
    ] = 100,
    given: Annotated[
        str | None,
        typer.Option(metavar="VALUE", help="Draw rows with this target: a class, or a number."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, max=2**32 - 1, help="The same seed draws the same.")
    ] = 0,
    output: Output = "-",
    format: OutputFormat = None,
    force: Force = False,
) -> None:
    """Draw new rows, with their target, from a model."""
    from hybridflow.cli.loading import check_output, load_model
    from hybridflow.cli.tables import write_table

    check_output(output, format, force)
    estimator = load_model(model)
    frame = drawn(estimator, count, given, seed)
    write_table(frame, output, format=format, force=force)


def drawn(estimator: FlowEstimator, count: int, given: str | None, seed: int) -> pl.DataFrame:
    """Return drawn rows, the target in the last column.

    Raises
    ------
    InputError
        If `given` is no class or number of the model.
    """
    import polars as pl

    from hybridflow.cli.loading import target_name
    from hybridflow.cli.predict import plain
    from hybridflow.errors import InputError
    from hybridflow.estimators import (
        FlowDensity,
        FlowOutlierDetector,
        HybridClassifier,
        HybridRegressor,
    )

    if isinstance(estimator, HybridClassifier | HybridRegressor):
        y = None if given is None else target_of(estimator, given)
        X, targets = estimator.sample(count, y=y, random_state=seed)
        name = target_name(estimator)
        while name in X.columns:  # in training it came without a name
            name = f"target_{name}"
        frame: pl.DataFrame = X.with_columns(pl.Series(name, plain(targets.tolist())))
        return frame
    assert isinstance(estimator, FlowDensity | FlowOutlierDetector)
    if given is not None:
        raise InputError("--given: this model has no target: leave the option out")
    rows: pl.DataFrame = estimator.sample(count, random_state=seed)
    return rows


def target_of(estimator: FlowEstimator, text: str) -> Any:
    """Return the class or number that a text on the command line stands for."""
    from hybridflow.cli.predict import plain
    from hybridflow.errors import InputError, closest
    from hybridflow.estimators import HybridClassifier

    if isinstance(estimator, HybridClassifier):
        classes = estimator.classes_.tolist()
        names = [str(label) for label in plain(classes)]
        exact = [i for i, name in enumerate(names) if name == text]
        alike = exact or [i for i, name in enumerate(names) if name.lower() == text.lower()]
        if len(alike) != 1:
            raise InputError(
                f"--given: {text!r} is not a class of the model; known are {', '.join(names[:20])}"
                f"{closest(text, names)}"
            )
        return classes[alike[0]]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"--given: expected a finite number, got {text!r}")
    return number
