"""What is told of a search while it goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO

from hybridflow.tuning.backend import optuna
from hybridflow.tuning.liveness import ERROR, was_lost
from hybridflow.tuning.trial import SECONDS

_State = optuna.trial.TrialState


class Progress:
    """A callback that writes a line for each trial: its score, and the best so far.

    Parameters
    ----------
    say : callable, optional
        Is given each line; by default it is printed to the standard error stream.

    Examples
    --------
    >>> import optuna
    >>> from hybridflow.tuning import Progress
    >>> study = optuna.create_study()
    >>> study.add_trial(optuna.trial.create_trial(value=0.5))
    >>> Progress(print)(study, study.trials[0])
    trial 0: 0.5, the best so far
    """

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self.say = say or _print

    def __call__(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """Tell of one trial that ended."""
        took = trial.user_attrs.get(SECONDS)
        time = "" if took is None else f", {took:.1f} s"
        self.say(f"trial {trial.number}: {self._outcome(study, trial)}{time}")

    def _outcome(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> str:
        if trial.state == _State.COMPLETE:
            values = ", ".join(f"{value:.5g}" for value in trial.values)
            if any(best.number == trial.number for best in study.best_trials):
                front = "on the front" if len(trial.values) > 1 else "the best"
                return f"{values}, {front} so far"
            if len(trial.values) > 1:
                return values
            return f"{values} (best {study.best_value:.5g})"
        if was_lost(trial):
            return "lost with its worker"
        reason = trial.user_attrs.get(ERROR, "stopped early")
        return reason if trial.state == _State.PRUNED else f"failed: {reason}"


def _print(line: str, file: IO[str] | None = None) -> None:
    print(line, file=file or sys.stderr, flush=True)
