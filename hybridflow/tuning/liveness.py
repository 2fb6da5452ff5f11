"""Which worker runs a trial, whether it is still alive, and what becomes of its trial if not.

No storage but a database with heartbeats notices that a worker was killed, so each
worker writes down who and when it is, beside its running trial. A trial whose worker
is gone fails, and its parameters are tried again.
"""

from __future__ import annotations

import functools
import os
import platform
import threading
import time
from types import TracebackType
from typing import Any, Self

from hybridflow.tuning.backend import optuna

WORKER = "worker"
"""The attribute of a trial that says who runs it: command, host, process and time of a beat."""
ERROR = "error"
"""The attribute that says why a trial gave no score; one that failed without it was lost."""
RETRY = "retry"
"""The attribute that counts how often parameters were lost before this trial of them."""

BEAT = 20.0
"""Seconds from one sign of life to the next."""
GRACE = 180.0
"""Seconds without one after which a worker on another machine is gone."""
RETRIES = 3
"""How often parameters are tried again that were lost."""


class Heartbeat:
    """Signs of life of a running trial, for as long as a block takes.

    Parameters
    ----------
    trial : optuna.Trial
    command : str
        What it is run for.
    """

    def __init__(self, trial: optuna.Trial, command: str) -> None:
        self._trial = trial
        self._mark = {"command": command, "host": this_host(), "process": os.getpid()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            try:
                self._write()
            except optuna.exceptions.UpdateFinishedTrialError:
                return  # somebody took this worker for dead
            except (optuna.exceptions.OptunaError, OSError):
                continue  # a storage that is away for a moment: the next one may pass

    def _write(self) -> None:
        self._trial.set_user_attr(WORKER, {**self._mark, "time": time.time()})


@functools.cache
def this_host() -> str:
    """Return what tells this machine, or this container, from others."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:
        processes = ""
    return f"{platform.node()} {processes}".strip()


def is_alive(process: int) -> bool:
    """Return whether a process of this machine is there.

    Examples
    --------
    >>> import os
    >>> from hybridflow.tuning.liveness import is_alive
    >>> is_alive(os.getpid())
    True
    """
    if os.name == "nt":  # where a signal would end it; its beats tell
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def is_lost(trial: optuna.trial.FrozenTrial, now: float) -> bool:
    """Return whether the worker of a running trial is gone.

    Parameters
    ----------
    trial : optuna.trial.FrozenTrial
    now : float
        As from ``time.time()``.
    """
    mark: dict[str, Any] | None = trial.user_attrs.get(WORKER)
    if mark is None:  # killed, or about to write its mark
        started = trial.datetime_start
        return started is not None and now - started.timestamp() > GRACE
    if mark["host"] == this_host() and not is_alive(mark["process"]):
        return True
    return bool(now - mark["time"] > GRACE)


def recover(study: optuna.Study) -> list[int]:
    """Fail the trials whose worker is gone, and queue their parameters anew.

    Returns
    -------
    list of int
        Their numbers.
    """
    running = (optuna.trial.TrialState.RUNNING,)
    now = time.time()
    lost = [t for t in study.get_trials(deepcopy=False, states=running) if is_lost(t, now)]
    return [trial.number for trial in lost if give_up(study, trial)]


def give_up(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
    """Fail one trial as lost and queue its parameters, `RETRIES` times at most.

    Returns
    -------
    bool
        False if it had ended, or somebody else was faster.
    """
    try:
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
        return False
    lost = int(trial.user_attrs.get(RETRY, 0)) + 1
    if lost <= RETRIES:
        study.enqueue_trial(trial.params, user_attrs={RETRY: lost})
    return True


def counts(trial: optuna.trial.FrozenTrial) -> bool:
    """Return whether a trial is one of those that a budget allows.

    One that was lost and is tried again is not.
    """
    again = was_lost(trial) and int(trial.user_attrs.get(RETRY, 0)) < RETRIES
    return trial.state.is_finished() and not again


def was_lost(trial: optuna.trial.FrozenTrial) -> bool:
    """Return whether a trial ended because its worker was gone."""
    return trial.state == optuna.trial.TrialState.FAIL and ERROR not in trial.user_attrs
