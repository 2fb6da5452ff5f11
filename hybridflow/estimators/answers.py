"""What estimators answer from calibration: intervals of numbers, sets of classes."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from hybridflow.batches import Rows
from hybridflow.calibration import (
    Calibration,
    Conformal,
    Fold,
    fit_temperature,
    interval,
    prediction_set,
    tail_probability,
    tempered,
)
from hybridflow.calibration.conformal import check_coverage, rows_needed
from hybridflow.errors import InputError, UncalibratedWarning
from hybridflow.estimators.held import held_out
from hybridflow.estimators.novelty import RejectingEstimator
from hybridflow.estimators.splits import Roles
from hybridflow.laws import CategoricalLaw, JointLaw, Law, mixed

_Law = TypeVar("_Law", bound=Law)

_MOST = 10_000
"""Most scores that are kept: more make coverage no surer, and files larger."""


class IntervalEstimator(RejectingEstimator):
    """An estimator of numbers, with prediction intervals."""

    calibration_: Calibration

    @abstractmethod
    def _laws(self, x: torch.Tensor) -> Sequence[Law]:
        """Return the law of each row by each member."""

    def _calibrate(self, rows: Rows, roles: Roles) -> None:
        assert rows.targets is not None
        outputs = rows.targets.values.shape[1]
        folds: list[list[Fold]] = [[] for _ in range(outputs)]
        for members, held in held_out(rows, roles, len(self.models_), _MOST // outputs):
            targets = held.targets
            assert targets is not None
            law = mixed(some_of(self._laws(held.x), members))
            lower, upper = (
                (targets.values if bound is None else bound).cpu().numpy()
                for bound in (targets.lower, targets.upper)
            )
            weight = held.weight[:, None].cpu().numpy() * targets.observed.cpu().numpy()
            for i, each in enumerate(folds):
                known = np.flatnonzero(weight[:, i] > 0)
                score = tail_probability(_output(law, i)[known], lower[known, i], upper[known, i])
                each.append(Fold.of(members, score, weight[known, i]))
        self.calibration_ = Calibration(
            outputs=tuple(Conformal(folds=tuple(each)) for each in folds), unseen=roles.shared
        )

    def predict_interval(self, X: Any, coverage: float = 0.9) -> NDArray[np.float64]:
        """Return an interval that holds y with the probability asked for.

        Its ends are quantiles of the predicted law, at levels that were
        calibrated on held-out rows: a new row, exchangeable with these, is
        covered with probability `coverage` or a little more. That is a promise
        over all rows, not for each kind of row by itself. It is exact where
        there are calibration rows that no member has seen (split-conformal).
        Smaller tables use the rows on which the members stopped early, each
        its own (CV+): the coverage is then close to what was asked for.

        Parameters
        ----------
        X : array-like of shape (n, d)
        coverage : float, default=0.9
            Between 0 and 1; any, without fitting again.

        Returns
        -------
        ndarray of shape (n, 2), or (n, k, 2) for k outputs
            Both ends belong to the interval; in the units of y, and whole
            numbers where y is. Of several outputs each is covered by itself.

        Raises
        ------
        ConfigError
            If `coverage` does not lie between 0 and 1.

        Warns
        -----
        UncalibratedWarning
            If there are too few held-out rows: the intervals are infinite.

        Notes
        -----
        A censored row is calibrated as the strangest that it may have been, so
        that y itself, which may lie beyond its bounds, is covered. Where more
        than a share of ``1 - coverage`` is censored the intervals are infinite.
        """
        coverage = check_coverage(coverage)
        laws = self._laws(self._read(X))
        for scores in self.calibration_.outputs or (Conformal(),):
            _warn_if_few(scores, coverage, "the intervals are infinite")
        return self._interval(laws, coverage)

    def _interval(self, laws: Sequence[Law], coverage: float) -> NDArray[np.float64]:
        """Return the interval of rows, given their laws by each member."""
        found = []
        for i, scores in enumerate(self.calibration_.outputs or (Conformal(),)):
            each = [some_of(laws, fold.members) for fold in scores.folds] or [list(laws)]
            found.append(interval([_output(mixed(one), i) for one in each], scores, coverage))
        return found[0] if len(found) == 1 else np.stack(found, 1)

    def predict_quantile(self, X: Any, p: ArrayLike) -> NDArray[np.float64]:
        """Return quantiles of the predicted law: the model's own belief, not calibrated.

        Parameters
        ----------
        X : array-like of shape (n, d)
        p : float, or array-like of shape (m,)
            Levels between 0 and 1.

        Returns
        -------
        ndarray of shape (n,) or (n, m); (n, k) or (n, m, k) for k outputs
            In the units of y.

        Raises
        ------
        InputError
            If a level does not lie between 0 and 1.
        """
        levels = np.asarray(p, dtype=np.float64)
        if levels.ndim > 1:
            raise InputError(f"p must be a number or a list of numbers, got shape {levels.shape}")
        law = mixed(self._laws(self._read(X)))
        return law.quantile(levels[None] if levels.ndim else levels)


class SetEstimator(RejectingEstimator):
    """An estimator of classes, with a temperature and prediction sets."""

    calibration_: Calibration

    @abstractmethod
    def _laws(self, x: torch.Tensor) -> Sequence[CategoricalLaw | JointLaw]:
        """Return the law of each row by each member."""

    @property
    def temperature_(self) -> float:
        """What divides the log-probabilities of classes; 1 where that does not help."""
        return self.calibration_.temperature

    def _calibrate(self, rows: Rows, roles: Roles) -> None:
        target = self.blueprint_.target
        assert target is not None
        self.calibration_ = Calibration(unseen=roles.shared)
        if target.kind != "classification":
            return  # any number of labels per row: there is no one class to be in a set
        folds, logs, codes, weights = [], [], [], []
        for members, held in held_out(rows, roles, len(self.models_), _MOST):
            assert held.targets is not None
            log = _log_mean(some_of(self._laws(held.x), members))
            code = held.targets.values[:, 0].cpu().numpy().astype(np.intp)
            truth = np.exp(log[np.arange(len(code)), code])
            folds.append(Fold.of(members, truth, held.weight.cpu().numpy()))
            logs.append(log)
            codes.append(code)
            weights.append(held.task_weight.cpu().numpy())
        if folds:
            self.calibration_ = Calibration(
                temperature=fit_temperature(
                    np.concatenate(logs), np.concatenate(codes), np.concatenate(weights)
                ),
                outputs=(Conformal(folds=tuple(folds)),),
                unseen=roles.shared,
            )

    def _calibrated(self, laws: Sequence[Law]) -> Sequence[Law]:
        one = next((law for law in laws if isinstance(law, CategoricalLaw)), None)
        if one is None or self.temperature_ == 1:
            return laws
        logs = [law.log_probabilities for law in laws if isinstance(law, CategoricalLaw)]
        mean = np.logaddexp.reduce(logs, axis=0) - np.log(len(logs))
        log = tempered(mean, self.temperature_)
        return [CategoricalLaw(np.exp(log), one.classes, log)]

    def predict_set(
        self, X: Any, coverage: float = 0.9, *, allow_empty: bool = False
    ) -> NDArray[np.bool_]:
        """Return the classes that a row may be of, with the probability asked for.

        The classes whose probability is above a threshold that was calibrated
        on held-out rows; see `HybridRegressor.predict_interval` for what is
        promised and when. The threshold is that of the mixed probabilities
        before the temperature, which was fitted on the same rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
        coverage : float, default=0.9
            Between 0 and 1; any, without fitting again.
        allow_empty : bool, default=False
            Whether a row may have no class at all. If not, the most probable
            class is always in the set; a model that is right more often than
            `coverage` then covers more.

        Returns
        -------
        ndarray of bool of shape (n, k)
            Columns as in ``classes_``.

        Raises
        ------
        ConfigError
            If `coverage` does not lie between 0 and 1.
        InputError
            If rows have several labels.

        Warns
        -----
        UncalibratedWarning
            If there are too few held-out rows: the sets hold every class.
        """
        coverage = check_coverage(coverage)
        laws = self._laws(self._read(X))
        if self.blueprint_.target is None or self.blueprint_.target.kind != "classification":
            raise InputError("predict_set needs one label per row; see predict_proba for several")
        _warn_if_few(self.calibration_.output(0), coverage, "the sets hold every class")
        return self._set(laws, coverage, allow_empty=allow_empty)

    def _set(
        self, laws: Sequence[CategoricalLaw | JointLaw], coverage: float, *, allow_empty: bool
    ) -> NDArray[np.bool_]:
        """Return the sets of rows, given their laws by each member."""
        scores = self.calibration_.output(0)
        mean = np.exp(_log_mean(laws))
        each = [np.exp(_log_mean(some_of(laws, fold.members))) for fold in scores.folds]
        found = prediction_set(each or [mean], scores, coverage)
        if not allow_empty:
            found[np.arange(len(mean)), mean.argmax(1)] = True
        return found


def some_of(laws: Sequence[_Law], members: Sequence[int]) -> list[_Law]:
    """Return the laws of some members."""
    return [laws[member] for member in members]


def _output(law: Law, i: int) -> Law:
    return law.marginal(i) if isinstance(law, JointLaw) else law


def _log_mean(laws: Sequence[CategoricalLaw | JointLaw]) -> NDArray[np.float64]:
    """Return the logarithms of the mean probabilities, shape (n, k)."""
    logs = [law.log_probabilities for law in laws if isinstance(law, CategoricalLaw)]
    return np.asarray(np.logaddexp.reduce(logs, axis=0) - np.log(len(logs)))


def _warn_if_few(scores: Conformal, coverage: float, outcome: str) -> None:
    if scores.is_enough(coverage):
        return
    warnings.warn(
        f"coverage={coverage:g} needs at least {rows_needed(coverage)} held-out rows, and there "
        f"are {scores.rows:g}: {outcome}. To hold out more: calibration=0.2, in tables of up to "
        "200 distinct rows calibration=sklearn.model_selection.ShuffleSplit(1, test_size=0.2)",
        UncalibratedWarning,
        stacklevel=3,
    )
