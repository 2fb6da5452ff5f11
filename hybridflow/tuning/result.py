"""What a search found: the fitted estimator, the study, a table and pictures."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import numpy as np

from hybridflow.errors import InputError, require
from hybridflow.estimators.base import FlowEstimator
from hybridflow.tuning.backend import optuna
from hybridflow.tuning.liveness import ERROR
from hybridflow.tuning.trial import DENSITY, SECONDS, TASK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hybridflow.tuning.plan import Plan

_State = optuna.trial.TrialState


@final
class TuningResult:
    """What a search found.

    Parameters
    ----------
    plan : Plan
    study : optuna.Study
        With all trials, also those of other workers.

    Attributes
    ----------
    estimator : FlowEstimator
        With the settings of `best_trial`; fitted to all rows, unless that was not asked for.
    """

    estimator: FlowEstimator

    def __init__(self, plan: Plan, study: optuna.Study) -> None:
        self._plan = plan
        self.study = study
        self.estimator = plan.configured(self.settings())

    @property
    def scores(self) -> tuple[str, ...]:
        """What the values of a trial are, in their order."""
        return tuple(map(str, self._plan.scores))

    @property
    def best_trial(self) -> optuna.trial.FrozenTrial:
        """The best trial; of several scores, the one on the front that is nearest to the ideal.

        The ideal is the best of each score; a distance of 1 is the width of the front. Of
        equally near ones it is the one that is better by the first score.
        """
        front = self.study.best_trials
        values = np.array([trial.values for trial in front])
        low = values.min(0)
        spread = np.maximum(values.max(0) - low, np.finfo(float).tiny)
        distance = np.linalg.norm((values - low) / spread, axis=1).round(9)
        return front[int(np.lexsort((values[:, 0], distance))[0])]

    def settings(self, trial: int | None = None) -> dict[str, Any]:
        """Return the parameters of a trial, as `set_params` takes them.

        Parameters
        ----------
        trial : int, optional
            Its number; the best one if not given.

        Raises
        ------
        InputError
            If there is no such trial, or it has no score.
        """
        return self._plan.space.given(self._trial(trial).params)

    def fit(self, trial: int | None = None) -> FlowEstimator:
        """Fit an estimator with the settings of a trial to all rows, and return it.

        Parameters
        ----------
        trial : int, optional
            Its number; the best one if not given.
        """
        return self._plan.split.refitted(self._plan.configured(self.settings(trial)))

    def table(self) -> dict[str, list[Any]]:
        """Return a row for each trial, as pandas and polars take it.

        Returns
        -------
        dict of str to list
            ``trial``, ``state``, the scores under their names, ``task`` and ``density``
            (means of -log p(y | x) and of -log p(x) of the held-out rows, in nats),
            ``seconds``, ``error``, and every parameter that is searched; None where a trial has
            none.
        """
        trials = self.study.get_trials(deepcopy=False)
        columns: dict[str, list[Any]] = {
            "trial": [trial.number for trial in trials],
            "state": [trial.state.name.lower() for trial in trials],
        }
        for i, name in enumerate(self.scores):
            columns[f"score: {name}"] = [
                trial.values[i] if trial.state == _State.COMPLETE else None for trial in trials
            ]
        for name in (TASK, DENSITY, SECONDS, ERROR):
            columns[name] = [trial.user_attrs.get(name) for trial in trials]
        for name in dict.fromkeys(name for trial in trials for name in trial.params):
            columns[name] = [trial.params.get(name) for trial in trials]
        return columns

    # -- pictures ----------------------------------------------------------

    def plot_history(self, score: int = 0) -> Axes:
        """Draw the score of each trial, and the best so far.

        Parameters
        ----------
        score : int, default=0
            Which of several scores.
        """
        axes: Axes = self._draw("plot_optimization_history", score)
        return axes

    def plot_importances(self, score: int = 0) -> Axes:
        """Draw how much each parameter matters."""
        if len([t for t in self.study.trials if t.state == _State.COMPLETE]) < 2:
            raise InputError("plot_importances needs at least two complete trials")
        axes: Axes = self._draw("plot_param_importances", score)
        return axes

    def plot_slices(self, score: int = 0) -> Any:
        """Draw the score over each parameter; one Axes for each, in an array."""
        return self._draw("plot_slice", score)

    def plot_curves(self) -> Axes:
        """Draw the validation curve of each trial of a study with one score."""
        if len(self.scores) > 1:
            raise InputError("plot_curves is for one score; trials hold theirs as user_attrs")
        axes: Axes = self._call("plot_intermediate_values")
        return axes

    def plot_front(self) -> Axes:
        """Draw two or three scores against each other, and the front of the best trials."""
        if len(self.scores) not in (2, 3):
            raise InputError("plot_front is for two or three scores; use plot_history")
        axes: Axes = self._call("plot_pareto_front", target_names=list(self.scores))
        return axes

    def _draw(self, name: str, score: int) -> Any:
        if not 0 <= score < len(self.scores):
            raise InputError(f"score: there are {len(self.scores)}, counted from 0, got {score}")
        several = len(self.scores) > 1
        target: Callable[[optuna.trial.FrozenTrial], float] = lambda trial: trial.values[score]  # noqa: E731
        return self._call(name, target=target if several else None, target_name=self.scores[score])

    def _call(self, name: str, **options: Any) -> Any:
        require("matplotlib", "plots")
        pictures = importlib.import_module("optuna.visualization.matplotlib")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what Optuna calls experimental, and of its layout
            return getattr(pictures, name)(self.study, **options)

    def _trial(self, number: int | None) -> optuna.trial.FrozenTrial:
        if number is None:
            return self.best_trial
        for trial in self.study.get_trials(deepcopy=False, states=(_State.COMPLETE,)):
            if trial.number == number:
                return trial
        raise InputError(f"trial {number!r}: there is no complete trial of this number")
