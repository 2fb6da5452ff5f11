"""Rows to answer for, matched with the table that a model was fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np

from hybridflow.errors import InputError, closest
from hybridflow.model import HybridModel
from hybridflow.specs import Real
from hybridflow.table import Matrix, Schema, check_unique, column_names

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


def check_reach(model: HybridModel, schema: Schema, used: Matrix) -> None:
    """Refuse cells so far out that the square of their latent is not a number.

    Parameters
    ----------
    model : HybridModel
    schema : Schema
    used : ndarray of shape (n, D)
        The columns that carry a density.

    Raises
    ------
    InputError
        Naming the first such cell.
    """
    if used.size == 0:
        return
    ends = model.step.new_tensor([[-_REACH], [_REACH]]).expand(2, used.shape[1])
    low, high = model.preprocess.inverse(ends)[0].cpu().numpy()
    # A bounded column has no far away: its numbers are tame, or outside and of density 0.
    real = np.array([isinstance(support, Real) for support in model.event.dimensions])
    low, high = np.where(real, low, -np.inf), np.where(real, high, np.inf)
    if ((used.min(axis=0) >= low) & (used.max(axis=0) <= high)).all():
        return
    row, j = np.argwhere((used < low) | (used > high))[0]
    name = schema.columns[schema.kept[j]].name
    raise InputError(
        f"column {name!r} holds {used[row, j]:g} at row {row}, more than {_REACH:g} standard "
        "deviations away from the training data: its density is not a finite number; drop the row"
    )
