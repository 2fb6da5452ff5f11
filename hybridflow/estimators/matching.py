"""Rows to answer for, matched with the table that a model was fitted on."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from hybridflow.cells import is_number
from hybridflow.errors import (
    InputError,
    UnseenCategoryWarning,
    UnseenMissingWarning,
    closest,
)
from hybridflow.model import HybridModel
from hybridflow.schema import Schema
from hybridflow.specs import Real
from hybridflow.table import Matrix, Table, check_unique, column_names, refuse_missing

_REACH = 1e100  # standard deviations; its square is still far from the largest float64


def match_columns(X: Any, expected: list[str]) -> Any:
    """Return X with its columns in the expected order.

    Parameters
    ----------
    X : table
        Anything but a frame with string names is returned as it is.
    expected : list of str

    Raises
    ------
    InputError
        Naming the columns that are unexpected, missing or repeated, and what
        each missing one may be called now.

    Examples
    --------
    >>> import polars
    >>> from hybridflow.estimators.matching import match_columns
    >>> match_columns(polars.DataFrame({"b": [1], "a": [2]}), ["a", "b"]).columns
    ['a', 'b']
    """
    names = column_names(X)
    if names is None or names == expected or not all(isinstance(name, str) for name in names):
        return X
    check_unique(names)
    seen, known = set(names), set(expected)
    missing = [name for name in expected if name not in seen]
    unexpected = [name for name in names if name not in known]
    if not missing and not unexpected:
        return X[expected]
    lines = ["The feature names should match those that were passed during fit."]
    if unexpected:
        lines.append(f"Feature names unseen at fit time: {_listed(unexpected)}")
    if missing:
        named = [f"{name}{closest(name, unexpected)}" for name in missing]
        lines.append(f"Feature names seen at fit time, yet now missing: {_listed(named)}")
    raise InputError("\n".join(lines))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def as_numbers(table: Table, schema: Schema) -> Table:
    """Return a table whose columns hold levels where those of the schema do, and there only.

    Raises
    ------
    InputError
        Naming the first column that held numbers in training and holds text now.
    """
    values, factors = table.values, dict(table.factors)
    for j in sorted(factors):
        column = schema.columns[j]
        if column.levels or column.kind in ("constant", "empty"):
            continue
        factor = factors.pop(j)
        text = [level for level in factor.levels if isinstance(level, str)]
        if text:
            first = next((level for level in text if not is_number(level)), text[0])
            row = int((factor.codes == factor.levels.index(first)).argmax())
            raise InputError(
                f"column {column.name!r} held numbers in training and holds {first!r} at row "
                f"{row}; leave cells empty where a number is missing"
            )
        values = values.copy()
        values[:, j] = np.array([*map(float, factor.levels), np.nan])[factor.codes]
    return replace(table, values=values, factors=factors)


def check_unseen(table: Table, x: Matrix, schema: Schema, *, missing: str, unknown: str) -> None:
    """Warn of cells missing where none was before, and of levels that are new, or refuse them.

    Parameters
    ----------
    table : Table
        The rows.
    x : ndarray of shape (n, K)
        The same rows as the model reads them.
    schema : Schema
    missing, unknown : str
        ``"error"`` refuses.

    Raises
    ------
    InputError
        Naming columns, and the first row or up to five levels.

    Warns
    -----
    UnseenMissingWarning, UnseenCategoryWarning
    """
    names = [column.name for column in schema.columns]
    if missing == "error":
        refuse_missing(table.values[:, schema.kept], [names[j] for j in schema.kept])
    new = [
        names[j]
        for j in schema.numbers
        if schema.columns[j].missing == 0 and np.isnan(table.values[:, j]).any()
    ]
    if new:
        warnings.warn(
            f"cells are missing in columns that had no missing cell in training: {_listed(new)}; "
            "their law given the other columns takes their place",
            UnseenMissingWarning,
            stacklevel=6,
        )
    told = []
    for place, j in enumerate(schema.kept):
        column = schema.columns[j]
        if column.kind != "categorical" or not (x[:, place] == column.size).any():
            continue
        rows = np.flatnonzero(x[:, place] == column.size)
        seen = table.factors.get(j)
        cells = table.values[rows, j]
        cells = cells[~np.isnan(cells)]
        distinct = np.unique(cells)[:5]
        values = [
            repr(float(code)) if seen is None else repr(seen.levels[int(code)]) for code in distinct
        ] or ["a missing cell"]
        told.append(f"column {column.name!r}: {', '.join(values)}, first at row {rows[0]}")
    if not told:
        return
    message = f"levels that were not seen in training: {'; '.join(told)}"
    if unknown == "error":
        raise InputError(f"{message}; correct them, or use unknown='other'")
    warnings.warn(
        f"{message}; each counts as one unseen level", UnseenCategoryWarning, stacklevel=6
    )


def check_reach(model: HybridModel, schema: Schema, used: Matrix) -> None:
    """Refuse cells so far out that the square of their latent is not a number.

    Parameters
    ----------
    model : HybridModel
    schema : Schema
    used : ndarray of shape (n, K)
        Rows as the model reads them.

    Raises
    ------
    InputError
        Naming the first such cell.
    """
    numbers = model.layout.numbers
    used = used if len(numbers) == used.shape[1] else used[:, list(numbers)]
    if used.size == 0:
        return
    ends = model.step.new_tensor([[-_REACH], [_REACH]]).expand(2, used.shape[1])
    low, high = model.preprocess.inverse(ends)[0].cpu().numpy()
    # A bounded column has no far away: its numbers are tame, or outside and of density 0.
    real = np.array([isinstance(support, Real) for support in model.event.dimensions])
    low, high = np.where(real, low, -np.inf), np.where(real, high, np.inf)
    if ((np.fmin.reduce(used) < low) | (np.fmax.reduce(used) > high)).sum() == 0:
        return
    row, j = np.argwhere((used < low) | (used > high))[0]
    name = schema.columns[schema.numbers[j]].name
    raise InputError(
        f"column {name!r} holds {used[row, j]:g} at row {row}, more than {_REACH:g} standard "
        "deviations away from the training data: its density is not a finite number; drop the row"
    )
