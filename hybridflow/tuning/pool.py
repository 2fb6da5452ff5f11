"""Worker processes of one command, all on one study."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from hybridflow.errors import ConfigError, InputError, TuningError, require
from hybridflow.tuning.backend import optuna
from hybridflow.tuning.liveness import WORKER, give_up
from hybridflow.tuning.messages import read_lines, write_line, write_plan
from hybridflow.tuning.plan import Plan


class Worker:
    """One process and what it is doing.

    Parameters
    ----------
    payload : bytes
        The pickled index and plan.
    tell : callable
        Is given the worker and each message; None when the process is gone.
    """

    def __init__(
        self, payload: bytes, tell: Callable[[Worker, dict[str, Any] | None], None]
    ) -> None:
        path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hybridflow.tuning.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the command, which ends its workers
        )
        self.ready = False
        self.busy = True  # until it says that it is ready
        self._tell = tell
        self._listener = threading.Thread(target=self._serve, args=(payload,), daemon=True)
        self._listener.start()

    def order(self, message: dict[str, Any]) -> None:
        """Send an order; a process that is gone is told of otherwise."""
        self.busy = True
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            write_line(self.process.stdin, message)

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self._listener.join()

    def _serve(self, payload: bytes) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError), self.process.stdout as answers:
            write_plan(self.process.stdin, payload)
            for message in read_lines(answers):
                self._tell(self, message)
        self._tell(self, None)


def run_pool(
    plan: Plan,
    study: optuna.Study,
    workers: int,
    left: Callable[[int], int],
    seconds: Callable[[], float | None],
    done: Callable[[int], None],
) -> None:
    """Run trials in several processes until none is left.

    A process that is killed loses its trial, whose settings are queued again, and another
    takes its place.

    Parameters
    ----------
    plan : Plan
    study : optuna.Study
    workers : int
    left : callable
        Returns how many trials may be begun; is given how many are running here.
    seconds : callable
        Returns what is left of the time.
    done : callable
        Is given the number of each trial that ended.

    Raises
    ------
    ConfigError
        If the plan cannot be sent to another process.
    InputError
        If the data cannot be used.
    TuningError
        If a worker cannot work.
    """
    events: queue.SimpleQueue[tuple[Worker, dict[str, Any] | None]] = queue.SimpleQueue()

    def start(index: int) -> Worker:
        return Worker(_pickled(index, plan), lambda *event: events.put(event))

    pool: list[Worker] = []
    started = 0
    try:
        for _ in range(min(workers, max(1, left(0)))):
            started += 1
            pool.append(start(started))
        while pool:
            member, message = events.get()
            if member not in pool:
                continue
            if message is None:
                pool.remove(member)
                member.end()
                code = member.process.returncode
                _lose(study, member)
                if not member.ready:
                    raise TuningError(f"a worker ended with code {code} before it began")
                if left(_running(pool)) > 0:
                    started += 1
                    pool.append(start(started))
                continue
            if "broken" in message:
                raise TuningError(f"a worker cannot go on: {message['broken']}")
            if "refused" in message:
                raise InputError(message["refused"])
            member.ready, member.busy = True, False
            if "trial" in message:
                done(message["trial"])
            if left(_running(pool)) > 0:
                member.order({"seconds": seconds()})
            else:
                pool.remove(member)
                member.end()
    finally:
        for member in pool:
            member.end()
        for member in pool:
            _lose(study, member)


def _running(pool: list[Worker]) -> int:
    """Return how many have a trial, or will ask for one as soon as they are ready."""
    return sum(member.busy and member.ready for member in pool)


def _lose(study: optuna.Study, member: Worker) -> None:
    """Fail what a process was running when it was gone."""
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        mark = trial.user_attrs.get(WORKER)
        if mark is not None and mark["process"] == member.process.pid:
            give_up(study, trial)


def _pickled(index: int, plan: Plan) -> bytes:
    cloudpickle = require("cloudpickle", "tune")  # which sends what a script itself defines
    try:
        return bytes(cloudpickle.dumps((index, plan)))
    except Exception as error:  # whatever the parts of an estimator raise
        raise ConfigError(
            f"workers: this search cannot be sent to other processes ({error}); use workers=1"
        ) from error
