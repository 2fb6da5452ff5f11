"""Reading the numbers of a regression: one output or several, known or known by bounds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import torch
from numpy.typing import NDArray

from hybridflow.errors import ConstantTargetWarning, InputError
from hybridflow.estimators.targets import name_of, read_numbers, regression_target
from hybridflow.laws import Law
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.specs import Target

Floats = NDArray[np.float64]

_BOUNDS = {"lower", "upper"}


@dataclass(frozen=True)
class Outcomes:
    """The numbers of a regression.

    Parameters
    ----------
    values : ndarray of shape (n, k)
        NaN where not observed; a finite number between the bounds where censored.
    names : tuple of str
        Of the k outputs.
    lower, upper : ndarray of shape (n, 1), optional
        Between which numbers a censored y lies; both are y where it is known.
    """

    values: Floats
    names: tuple[str, ...]
    lower: Floats | None = None
    upper: Floats | None = None

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Rows of which at least one output is observed, shape (n,)."""
        return np.asarray(~np.isnan(self.values).all(1), dtype=bool)


def read_outcomes(y: Any, n: int, name: str) -> Outcomes:
    """Read y of a regression.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, k), frame, or structured array
        Numbers, of one output or several. A structured array or a frame of one
        boolean and one numeric column is the time of an event, known where
        the boolean is true and censored from the right else. A frame with the
        columns ``lower`` and ``upper`` holds bounds: equal where y is known,
        infinite where there is none.
    n : int
        Expected number of rows.
    name : str
        Of the estimator, for messages.

    Returns
    -------
    Outcomes

    Raises
    ------
    InputError
        If y is missing, of the wrong length or type, infinite, or an output has no number.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.estimators.outcomes import read_outcomes
    >>> y = np.array([(True, 4.0), (False, 6.0)], dtype=[("died", "?"), ("months", "f8")])
    >>> read_outcomes(y, 2, "HybridRegressor").upper.tolist()
    [[4.0], [inf]]
    """
    columns = dict(_columns(y))
    if len(columns) < 2:
        return Outcomes(read_numbers(y, n, name)[:, None], (name_of(y),))
    if set(columns) == _BOUNDS:
        return _between(columns["lower"], columns["upper"], n, name)
    events = [key for key, column in columns.items() if _is_boolean(column)]
    if len(columns) == 2 and len(events) == 1:
        (time,) = columns.keys() - events
        return _until(columns[events[0]], columns[time], n, name, time)
    if getattr(getattr(y, "dtype", None), "names", None):
        raise InputError(
            "a structured y needs two fields, a boolean event and a numeric time, got "
            f"{', '.join(f'{key}: {column.dtype}' for key, column in columns.items())}"
        )
    return read_outputs(y, n, name)


def read_outputs(y: Any, n: int, name: str) -> Outcomes:
    """Read a y of several columns as one output each, whatever they are called or hold.

    Raises
    ------
    InputError
        Which output cannot be used, and why.
    """
    columns = dict(_columns(y))
    each = []
    for key, column in columns.items():
        try:
            each.append(read_numbers(column, n, name))
        except InputError as error:
            raise InputError(f"output {key!r}: {error}") from None
    return Outcomes(np.stack(each, 1), tuple(columns))


def _columns(y: Any) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a y that has several; nothing for any other."""
    if nw.dependencies.is_into_dataframe(y):
        names = [str(column) for column in y.columns]
        if len(set(names)) < len(names):
            raise InputError(f"the columns of y need different names, got {names}")
        frame = nw.from_native(y, eager_only=True)
        for position, key in enumerate(names):
            yield key, frame[:, position].to_native()
        return
    fields = getattr(getattr(y, "dtype", None), "names", None)
    if fields:
        yield from ((key, y[key]) for key in fields)
        return
    if hasattr(y, "detach"):
        y = y.detach().cpu()
    if y is None or hasattr(y, "toarray") or isinstance(y, np.ma.MaskedArray) or np.isscalar(y):
        return
    try:
        array = np.asarray(y)
    except ValueError:  # ragged: `read_numbers` says so
        return
    if array.ndim == 2 and array.shape[1] > 1:
        yield from ((f"y{i}", array[:, i]) for i in range(array.shape[1]))


def _is_boolean(column: Any) -> bool:
    if isinstance(column, np.ndarray):
        return bool(column.dtype == bool)
    return bool(nw.from_native(column, series_only=True).dtype == nw.Boolean)


def _until(event: Any, time: Any, n: int, name: str, key: str) -> Outcomes:
    """Return times, censored from the right where the event did not happen."""
    times = read_numbers(time, n, name)
    happened = read_numbers(event, n, name)
    known = ~np.isnan(times) & ~np.isnan(happened)
    if not known.any():
        raise InputError("Input y contains NaN: no row has both an event and a time")
    values = np.where(known, times, np.nan)[:, None]
    upper = np.where(happened[:, None] == 0, np.inf, values)
    return Outcomes(values, (key,), values, np.where(np.isnan(values), np.nan, upper))


def _between(lower: Any, upper: Any, n: int, name: str) -> Outcomes:
    """Return numbers known by bounds; NaN, or no bound at all, is no label.

    Raises
    ------
    InputError
        If only one bound of a row is missing, or the bounds are in the wrong order.
    """
    low, high = _bound(lower, n, name), _bound(upper, n, name)
    half = np.isnan(low) != np.isnan(high)
    if half.any():
        row = int(half.argmax())
        raise InputError(
            f"y: lower={low[row]:g} and upper={high[row]:g} at row {row}: give both bounds, "
            "infinite where there is none, or leave both out"
        )
    wrong = (low > high) | ((low == high) & np.isinf(low))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"y: lower={low[row]:g} and upper={high[row]:g} at row {row}; lower must not be above "
            "upper, and one of them finite"
        )
    nothing = np.isnan(low) | (np.isinf(low) & np.isinf(high))
    with np.errstate(invalid="ignore"):
        middle = low / 2 + high / 2
    value = np.where(np.isinf(high), low, np.where(np.isinf(low), high, middle))
    value = np.where(nothing, np.nan, np.where(low == high, low, value))
    if nothing.all():
        raise InputError("Input y contains NaN: no labelled row; at least one is needed")
    low, high = (np.where(nothing, np.nan, bound)[:, None] for bound in (low, high))
    return Outcomes(value[:, None], ("y",), low, high)


def _bound(column: Any, n: int, name: str) -> Floats:
    """Return a column of bounds, which may be infinite."""
    array = np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)
    if array.dtype.kind == "f":
        unbounded = np.isinf(array)
        if unbounded.all() and len(array) == n:
            return array.astype(np.float64)
        return np.where(unbounded, array, read_numbers(np.where(unbounded, np.nan, array), n, name))
    return read_numbers(column, n, name)


def outcome_target(outcomes: Outcomes, weight: Floats) -> Target:
    """Describe the numbers of a regression, each output with its location, scale and step.

    Raises
    ------
    InputError
        If no row of positive weight has a number of some output.
    """
    targets = []
    for i, name in enumerate(outcomes.names):
        numbers = np.where(weight > 0, outcomes.values[:, i], np.nan)
        if np.isnan(numbers).all():
            of = f" of output {name!r}" if len(outcomes.names) > 1 else ""
            raise InputError(f"no labelled row{of} has a positive sample_weight")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConstantTargetWarning)
            targets.append(regression_target(numbers, weight))
        for warning in caught:
            message = str(warning.message)
            if len(outcomes.names) > 1:
                message = f"output {name!r}: {message}"
            warnings.warn(message, warning.category, stacklevel=4)
    if len(targets) == 1:
        return targets[0].replace(names=outcomes.names)
    return Target(
        kind="regression",
        names=outcomes.names,
        location=tuple(target.location[0] for target in targets),
        scale=tuple(target.scale[0] for target in targets),
        steps=tuple(target.step for target in targets),
    )


def batch_of_outcomes(outcomes: Outcomes) -> TargetBatch:
    """Return the numbers as targets."""
    known = ~np.isnan(outcomes.values)
    observed = torch.as_tensor(known)
    bounds = [
        None if bound is None else torch.as_tensor(np.where(known, bound, 0.0))
        for bound in (outcomes.lower, outcomes.upper)
    ]
    return TargetBatch(torch.as_tensor(np.where(known, outcomes.values, 0.0)), observed, *bounds)


def log_probability(law: Law, outcomes: Outcomes) -> Floats:
    """Return the log-probability of outcomes, shape (n,); of censored ones that of their bounds.

    Raises
    ------
    InputError
        If an output of a row is not observed.
    """
    missing = np.isnan(outcomes.values).any(1)
    if missing.any():
        raise InputError(
            f"Input y contains NaN, first at row {int(missing.argmax())}; every row needs a number"
        )
    if outcomes.lower is None or outcomes.upper is None:
        return law.log_prob(outcomes.values if len(outcomes.names) > 1 else outcomes.values[:, 0])
    low, high = outcomes.lower[:, 0], outcomes.upper[:, 0]
    log_prob = law.log_prob(outcomes.values[:, 0])
    censored = np.flatnonzero(low < high)
    if len(censored):
        log_prob[censored] = law[censored].log_mass(low[censored], high[censored])
    return log_prob


def read_one(y: Any, target: Target) -> Floats:
    """Read the y of one row, shape (k,).

    Raises
    ------
    InputError
        Unless it is one finite number per output.
    """
    k = len(target.names)
    try:
        value = np.atleast_1d(np.asarray(y, dtype=np.float64))
    except (TypeError, ValueError):
        value = np.empty(0)
    if isinstance(y, str) or value.shape != (k,) or not np.isfinite(value).all():
        what = (
            "one finite number" if k == 1 else f"{k} finite numbers, of {', '.join(target.names)}"
        )
        raise InputError(f"y must be {what}, got {y!r}")
    return value
