"""The rows of a search: those that every trial is fitted on, and those that it is scored on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing

from hybridflow.errors import ConfigError, InputError
from hybridflow.estimators import HybridClassifier, HybridRegressor
from hybridflow.estimators.base import FlowEstimator
from hybridflow.estimators.indicators import is_table, read_indicators
from hybridflow.estimators.outcomes import read_outcomes
from hybridflow.estimators.splits import Positions, held_out_rows
from hybridflow.estimators.targets import read_labels
from hybridflow.estimators.weights import read_weights
from hybridflow.table import is_frame, names_of, read_table

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """A table in two parts, the same two for all trials.

    Parameters
    ----------
    X, y : table and target of all rows
    weight : ndarray of shape (n,) or None
    train, held : ndarray of int
        Positions of the rows that trials are fitted on, and scored on.
    labelled : ndarray of int
        Positions of the held-out rows that have a y.
    columns : int
        Of X.
    """

    X: Any
    y: Any
    weight: Floats | None
    train: Positions
    held: Positions
    labelled: Positions
    columns: int

    def fitted(self, estimator: FlowEstimator) -> FlowEstimator:
        """Fit an estimator on the rows to train on."""
        return self._fit(estimator, self.train)

    def refitted(self, estimator: FlowEstimator) -> FlowEstimator:
        """Fit an estimator on all rows."""
        return self._fit(estimator, None)

    def _fit(self, estimator: FlowEstimator, rows: Positions | None) -> FlowEstimator:
        X = self.X if rows is None else _safe_indexing(self.X, rows)
        y = self.y if rows is None else self.target(rows)
        weights = self.weight if rows is None or self.weight is None else self.weight[rows]
        more: Mapping[str, Any] = {} if weights is None else {"sample_weight": weights}
        return estimator.fit(X, y, **more)

    def table(self, rows: Positions) -> Any:
        """Return some rows of X."""
        return _safe_indexing(self.X, rows)

    def target(self, rows: Positions) -> Any:
        """Return y of some rows, None where there is none."""
        return None if self.y is None else _safe_indexing(self.y, rows)

    def weights(self, rows: Positions) -> Floats:
        """Return the weights of some rows."""
        return np.ones(len(rows)) if self.weight is None else self.weight[rows]

    def digest(self) -> str:
        """Return 16 hexadecimal digits that change with every cell and with the split."""
        table = read_table(self.X)
        sha = hashlib.sha256()
        for name in names_of(self.X, table.values.shape[1]):
            sha.update(repr(str(name)).encode())
        for position, factor in sorted(table.factors.items()):
            sha.update(repr((position, factor.levels)).encode())
        parts = [np.ascontiguousarray(table.values), self.held, _plain(self.weight)]
        columns = [self.y[name] for name in self.y.columns] if is_frame(self.y) else [self.y]
        for array in (*parts, *map(_plain, columns)):
            sha.update(str((array.dtype, array.shape)).encode())
            sha.update(repr(array.tolist()).encode() if array.dtype.hasobject else array.tobytes())
        return sha.hexdigest()[:16]


def split_rows(
    estimator: FlowEstimator,
    X: Any,
    y: Any,
    sample_weight: ArrayLike | None,
    holdout: Any,
    seed: int,
) -> Split:
    """Choose the rows that trials are scored on.

    Parameters
    ----------
    estimator : FlowEstimator
    X, y, sample_weight
        As in its `fit`.
    holdout : float, splitter or array of int
        A share of the rows, of every class where y are labels; an object with
        ``split(X, y)``, whose first split is taken; or positions.
    seed : int
        Of a share.

    Raises
    ------
    InputError
        If the table or y cannot be used, or no held-out row has a y.
    ConfigError
        If no row is held out.
    """
    table = read_table(X)
    n, columns = table.values.shape
    known, codes = _labelled(estimator, y, n)
    weight = None if sample_weight is None else read_weights(sample_weight, n)
    rng = np.random.RandomState(seed)
    (held,) = held_out_rows(holdout, n, 1, rng, codes=codes, name="holdout")
    if len(held) == 0:
        raise ConfigError(
            f"holdout={holdout!r} of {n} rows holds out none, and trials are compared on them; "
            "use a larger share, for instance holdout=0.3"
        )
    counted = held if weight is None else held[weight[held] > 0]
    labelled = counted if known is None else counted[known[counted]]
    if len(labelled) == 0:
        raise InputError("holdout: no held-out row has a label and a positive weight")
    return Split(X, y, weight, np.setdiff1d(np.arange(n), held), counted, labelled, columns)


def _labelled(
    estimator: FlowEstimator, y: Any, n: int
) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64] | None]:
    """Return which rows have a y, and the class of each where it is one of several."""
    name = type(estimator).__name__
    if isinstance(estimator, HybridRegressor):
        outcomes = read_outcomes(y, n, name)
        return np.asarray(~np.isnan(outcomes.values).any(1)), None
    if not isinstance(estimator, HybridClassifier):
        return None, None
    if is_table(y):
        indicators = read_indicators(y, n, None, name)
        return np.asarray(~np.isnan(indicators.values).any(1)), None
    labels = read_labels(y, n, estimator.unlabeled, name)
    return labels.labelled, np.where(labels.labelled, labels.codes, -1)


def _plain(values: Any) -> NDArray[Any]:
    return np.ascontiguousarray(np.zeros(0) if values is None else np.asarray(values))
