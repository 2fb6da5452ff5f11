"""Which columns of a table are features, target and weight."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridflow.cli.options import Task
from hybridflow.cli.tables import column, listed
from hybridflow.errors import ConfigError, InputError, closest
from hybridflow.specs import Categorical, Circle, Interval, Positive, Real, Support

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from hybridflow.column import Column

_FEW = 20  # distinct whole numbers up to which they are taken for labels


@dataclass(frozen=True)
class Parts:
    """A training table taken apart.

    Parameters
    ----------
    X : polars.DataFrame
        The features.
    y : polars.Series or None
        The target; null for rows that are not labelled.
    weight : ndarray or None
    """

    X: pl.DataFrame
    y: pl.Series | None
    weight: NDArray[Any] | None


def take_apart(
    frame: pl.DataFrame,
    *,
    target: str | None,
    weight: str | None,
    columns: Sequence[str] | None,
    drop: Sequence[str] | None,
    categorical: Collection[str] = (),
) -> Parts:
    """Split a training table into features, target and weight.

    Raises
    ------
    InputError
        If a named column is missing, or a feature is no number in some line.
    ConfigError
        If a column has two roles, or no feature is left.
    """
    if columns is not None and drop is not None:
        raise ConfigError("columns and drop exclude each other: give one of them")
    if target is not None and target == weight:
        raise ConfigError(f"{target!r} cannot be both the target and the weight")
    y = None if target is None else labels(column(frame, target, option="target"))
    weights = None if weight is None else column(frame, weight, option="weight").to_numpy()
    if columns is None:
        for name in drop or ():
            column(frame, name, option="drop")
        apart = {target, weight, *(drop or ())}
        features = [name for name in frame.columns if name not in apart]
    else:
        for name in columns:
            column(frame, name, option="columns")
            if name in (target, weight):
                raise ConfigError(
                    f"columns: {name!r} is the {'target' if name == target else 'weight'}"
                )
        features = list(dict.fromkeys(columns))
    if not features:
        raise ConfigError("no column is left to fit a density to")
    X = frame.select(features)
    check_numbers(X.drop(set(features) & set(categorical)))
    return Parts(X, y, weights)


def labels(series: pl.Series) -> pl.Series:
    """Return a target in which whole numbers beside empty cells stay whole as an array, too."""
    import polars as pl

    if series.null_count() and not series.dtype.is_float():
        return pl.Series(series.name, series.to_list(), dtype=pl.Object)
    return series


def guess_task(series: pl.Series | None) -> tuple[Task, str]:
    """Return the task that a target asks for, and why."""
    import polars as pl

    if series is None:
        return "density", "no target is given"
    known = series.drop_nulls()
    if series.dtype == pl.Boolean:
        return "classification", f"{series.name!r} is true or false"
    if not series.dtype.is_numeric():
        return "classification", f"{series.name!r} holds text"
    distinct = known.n_unique()
    if series.dtype.is_integer() and distinct <= _FEW and 2 * distinct <= known.len():
        return "classification", f"{series.name!r} holds {distinct} distinct whole numbers"
    return "regression", f"{series.name!r} holds numbers"


def select(
    frame: pl.DataFrame, names: Sequence[str] | None, count: int
) -> tuple[pl.DataFrame, list[str]]:
    """Return the columns that a model was fitted on, and the names of the others.

    Parameters
    ----------
    frame : polars.DataFrame
    names : sequence of str or None
        None for a model that was fitted on an array: columns go by position.
    count : int
        Number of columns of the model.

    Raises
    ------
    InputError
        If columns are missing; the message holds them and the closest there are.
    """
    if names is None:
        if frame.width != count:
            raise InputError(
                f"the table has {frame.width} columns, but the model was fitted on {count} "
                "columns without names"
            )
        return frame, []
    ignored = [name for name in frame.columns if name not in names]
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise InputError(
            f"columns that the model needs are missing: {listed(missing)}; the table has "
            f"{listed(frame.columns)}{closest(missing[0], ignored)}"
        )
    return frame.select(names), ignored


def as_fitted(X: pl.DataFrame, columns: Sequence[Column]) -> pl.DataFrame:
    """Return a table with columns of text as text, also where all of its cells are numbers.

    Parameters
    ----------
    X : polars.DataFrame
    columns : sequence of Column
        What they were in training.

    Raises
    ------
    InputError
        If a cell of a column of numbers holds text.
    """
    import polars as pl

    check_numbers(X.select(n for n, c in zip(X.columns, columns, strict=True) if not c.levels))
    texts = [
        name
        for name, column in zip(X.columns, columns, strict=True)
        if any(isinstance(level, str) for level in column.levels)
    ]
    return X.with_columns(
        pl.col(name).cast(pl.String)
        for name in texts
        if X.schema[name].is_numeric() or X.schema[name] == pl.Boolean
    )


def check_numbers(X: pl.DataFrame) -> None:
    """Refuse columns of numbers in which a few cells hold text, naming the first.

    A column that is text in half of its cells is left to the estimator: it holds levels.

    Raises
    ------
    InputError
    """
    import polars as pl

    for name, dtype in X.schema.items():
        if dtype != pl.String:
            continue
        texts = X[name]
        broken = (
            texts.is_not_null() & texts.str.strip_chars().cast(pl.Float64, strict=False).is_null()
        )
        if 0 < 2 * int(broken.sum()) < texts.len() - texts.null_count():
            row = int(broken.arg_true()[0])
            raise InputError(
                f"column {name!r} holds numbers, but {texts[row]!r} at row {row} (rows count from "
                "0) is none; leave cells empty where the value is missing, or declare "
                f"--column {name}=categorical"
            )


def declarations(texts: Sequence[str]) -> dict[str, str]:
    """Return what ``--column NAME=KIND`` options say, by name.

    Raises
    ------
    ConfigError
        If one is no such pair, or two are about one column.

    Examples
    --------
    >>> from hybridflow.cli.columns import declarations
    >>> declarations(["hour=circle:24", "price=positive"])
    {'hour': 'circle:24', 'price': 'positive'}
    """
    declared: dict[str, str] = {}
    for text in texts:
        name, equals, kind = text.rpartition("=")  # a name may hold an equals sign, a kind none
        if not equals or not name:
            raise ConfigError(f"--column {text}: expected NAME=KIND, for instance hour=circle:24")
        if declared.setdefault(name, kind) != kind:
            raise ConfigError(f"--column {text}: {name!r} was {declared[name]} before")
    return declared


def support_of(name: str, text: str) -> Support | Categorical:
    """Return the support that a kind such as ``interval:0:1`` stands for.

    Parameters
    ----------
    name : str
        Of the column, for the message.
    text : str
        ``real``, ``positive``, ``interval:LOW:HIGH``, ``circle:PERIOD`` or
        ``categorical``.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> from hybridflow.cli.columns import support_of
    >>> support_of("hour", "circle:24")
    Circle(kind='circle', period=24.0)
    """
    word, *arguments = text.strip().split(":")
    try:
        numbers = [float(argument) for argument in arguments]
        match word, numbers:
            case "real", []:
                return Real()
            case "positive", []:
                return Positive()
            case "interval", [low, high]:
                return Interval(low=low, high=high)
            case "circle", [period]:
                return Circle(period=period)
            case "categorical", []:
                return Categorical()
    except ConfigError as error:
        raise ConfigError(f"column {name!r}, {text!r}: {error}") from None
    except ValueError:
        pass  # of float(): told below
    kinds = ("real", "positive", "interval", "circle", "categorical")
    hint = "" if word in kinds else closest(word, kinds)
    raise ConfigError(
        f"column {name!r}: expected real, positive, interval:LOW:HIGH, circle:PERIOD or "
        f"categorical, for "
        f"instance {name}=circle:24, got {text!r}{hint}"
    )


def names_in(text: str) -> list[str]:
    """Return the names in a comma-separated option; quotes keep commas in a name."""
    return [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
