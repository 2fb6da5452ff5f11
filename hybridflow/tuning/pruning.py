"""Stopping trials early by their validation curve."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hybridflow.callbacks import Callback
from hybridflow.tuning.backend import optuna
from hybridflow.tuning.score import Score

if TYPE_CHECKING:
    from hybridflow.training import Record, TrainingState

CURVE = "curve"
"""The attribute of a trial with its validation curve: a list of step, task and density."""

STARTUP = 5
"""Complete trials that others are compared with at least."""
_WARM = 4  # no trial is stopped in this part of its training


class OutOfTime(Exception):  # noqa: N818 - no error, but the end of the search
    """The time for the search is over."""


class Watch(Callback):
    """Reports the validation curve of a trial, and stops it where it is not worth going on.

    Of several members the first is watched.

    Parameters
    ----------
    hopeless : callable
        Is given the number of the evaluation and the record; returns whether
        to stop.
    over : callable
        Returns whether the time is over.
    """

    def __init__(self, hopeless: Callable[[int, Record], bool], over: Callable[[], bool]) -> None:
        self.hopeless = hopeless
        self.over = over
        self.curve: list[list[float | None]] = []
        self._members = 0

    def on_fit_start(self, state: TrainingState) -> None:
        """Count the members."""
        self._members += 1

    def on_validation(self, state: TrainingState) -> None:
        """Report the evaluation, and stop if it is to be."""
        if self.over():
            raise OutOfTime
        evaluation = len(state.history) - 1  # the first record is of the start
        if self._members > 1 or evaluation != len(self.curve) + 1:
            return  # another member, or an evaluation that was not finite
        record = state.history[-1]
        self.curve.append([record.step, record.task, record.density])
        if self.hopeless(evaluation, record):
            raise optuna.TrialPruned


def median_pruner(evaluations: int) -> optuna.pruners.BasePruner:
    """Return the rule of one score: stop what is worse than the median of the trials before it.

    Parameters
    ----------
    evaluations : int
        Of a whole training.
    """
    return optuna.pruners.MedianPruner(
        n_startup_trials=STARTUP, n_warmup_steps=max(1, evaluations // _WARM)
    )


class WorseInAll:
    """The rule of several scores: stop what is worse than the median in each of them.

    Optuna prunes by one value only. A trial that is good by one score is on
    its way to the front and goes on; one that is among the worse half by all of them
    is not, at any exchange rate between the scores.

    Parameters
    ----------
    study : optuna.Study
    scores : sequence of Score
    columns : int
        Of the table.
    evaluations : int
        Of a whole training.
    """

    def __init__(
        self, study: optuna.Study, scores: Sequence[Score], columns: int, evaluations: int
    ) -> None:
        self.study = study
        self.scores = scores
        self.columns = columns
        self.warm = max(1, evaluations // _WARM)
        self._best = np.full(len(scores), np.inf)

    def __call__(self, evaluation: int, record: Record) -> bool:
        """Return whether a trial is to be stopped at this evaluation."""
        self._best = np.minimum(self._best, self._values(record.task, record.density))
        if evaluation < self.warm:
            return False
        complete = (optuna.trial.TrialState.COMPLETE,)
        others = [
            np.min([self._values(task, density) for _, task, density in curve[:evaluation]], 0)
            for trial in self.study.get_trials(deepcopy=False, states=complete)
            if (curve := trial.user_attrs.get(CURVE))  # shorter where it stopped early
        ]
        if len(others) < STARTUP:
            return False
        return bool((self._best > np.median(others, axis=0)).all())

    def _values(self, task: float | None, density: float) -> list[float]:
        return [score.value(task, density, self.columns) for score in self.scores]


def deadline(seconds: float | None) -> Callable[[], bool]:
    """Return a function that says whether so many seconds are over from now on."""
    if seconds is None:
        return lambda: False
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end
