"""A fitted model and the rows to ask it about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hybridflow.cli.columns import as_fitted, select
from hybridflow.cli.failures import talk
from hybridflow.cli.options import Format
from hybridflow.cli.tables import (
    STANDARD_STREAM,
    in_file,
    is_parquet,
    listed,
    output_format,
    read_table,
    refuse_existing,
    shown,
)

if TYPE_CHECKING:
    import polars as pl

    from hybridflow.estimators.base import FlowEstimator

PART = 2**16
"""Rows of a Parquet file that are answered for at a time."""


class Part(NamedTuple):
    """Rows of a source.

    Parameters
    ----------
    frame, X : polars.DataFrame
        All columns, and those that a model was fitted on.
    start : int
        Where in the source they begin.
    """

    frame: pl.DataFrame
    X: pl.DataFrame
    start: int


def load_model(path: Path) -> FlowEstimator:
    """Load a model whose frames, in and out, are those of polars.

    Raises
    ------
    ModelFileError, PluginError, OSError
        As `hybridflow.load`.
    """
    from hybridflow import load

    estimator: FlowEstimator = load(path)
    estimator.schema_ = estimator.schema_.replace(container="polars")
    return estimator


def load_rows(estimator: FlowEstimator, source: str, *, apart: str | None = None) -> Iterator[Part]:
    """Yield whole tables, and of each the columns that a model was fitted on.

    One after the other they are the rows of the source: parts of a large Parquet
    file, so that it need not fit in memory, and all rows of any other. Says which
    columns are ignored.

    Parameters
    ----------
    estimator : FlowEstimator
    source : str
        Path, or ``"-"``.
    apart : str, optional
        A column that is used otherwise: the target.
    """
    from hybridflow.parquet import ParquetTable

    file = ParquetTable(source) if is_parquet(source) else None
    if file is None or len(file) <= PART:
        yield _matched(estimator, read_table(source), source, 0, apart=apart)
        return
    for start, frame in file.parts(size=PART):
        yield _matched(estimator, frame, source, start, apart=apart)


def _matched(
    estimator: FlowEstimator, frame: pl.DataFrame, source: str, start: int, *, apart: str | None
) -> Part:
    """Return rows with the columns that a model was fitted on, saying at first what is ignored."""
    import numpy as np

    names = getattr(estimator, "feature_names_in_", None)
    with in_file(source, start):
        beside = names is None and apart in frame.columns and frame.width > estimator.n_features_in_
        X, ignored = select(
            frame.drop(apart) if apart is not None and beside else frame,
            None if names is None else [str(name) for name in names],
            estimator.n_features_in_,
        )
        X = as_fitted(X, estimator.schema_.columns)
    if names is None:
        # Columns go by position: from here on the model knows them by these names.
        estimator.feature_names_in_ = np.array(X.columns, dtype=object)
    ignored = [name for name in ignored if name != apart]
    if ignored and start == 0:
        talk(f"note: {shown(source)}: columns ignored: {listed(ignored)}")
    return Part(frame, X, start)


def target_name(estimator: FlowEstimator) -> str | None:
    """Return the name of the target that a model was fitted on, None for a model without one.

    It is ``"y"`` where the target came without a name.
    """
    target = estimator.blueprint_.target
    return None if target is None else target.names[0]


def check_output(destination: str, format: Format | None, force: bool) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises
    ------
    ConfigError, FileExistsError
    """
    output_format(destination, format)
    if destination != STANDARD_STREAM and not force:
        refuse_existing(Path(destination))
