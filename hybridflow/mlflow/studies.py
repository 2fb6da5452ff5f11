"""Tracking searches: a run for the study, and one inside of it for each trial."""

from __future__ import annotations

from typing import Any

import mlflow
from mlflow.entities import Metric, Param

from hybridflow.mlflow.contents import LONGEST_VALUE, key_of
from hybridflow.mlflow.courier import Parcel, courier_to
from hybridflow.mlflow.runs import Run, active_run, now
from hybridflow.mlflow.tracking import warn

_STUDY = "hybridflow.study"
_STATES = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}


class StudyCallback:
    """Reports the trials of an Optuna study to MLflow, as runs inside of one for the study.

    Pass it in ``callbacks=`` of `hybridflow.tune` or of ``study.optimize``. It is harmless as
    `TrackingCallback` is: a trial never waits for a server, `wait` does, for some seconds.

    Parameters
    ----------
    tracking_uri, experiment : str, optional
        As in `TrackingCallback`.

    Notes
    -----
    Workers in other processes report to the same run of the study, which they find by its
    name. If a run is active in MLflow, that is the run of the study.

    Examples
    --------
    >>> from hybridflow.mlflow import StudyCallback
    >>> callback = StudyCallback(experiment="houses")
    """

    def __init__(self, tracking_uri: str | None = None, experiment: str | None = None) -> None:
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self._parent: Run | None = None
        self._parcel: Parcel | None = None

    def __call__(self, study: Any, trial: Any) -> None:
        """Report one trial that ended."""
        address = self.tracking_uri or mlflow.get_tracking_uri()
        if self._parcel is None or self._parcel.failure is not None:
            self._parcel = Parcel(courier_to(address))
            self._parent = None
        if self._parent is None:
            self._parent = Run(address, self.experiment, active_run())
            self._parcel.send(_Opening(self._parent, study.study_name))
        directions = [direction.name.lower() for direction in study.directions]
        child = Run(address, self.experiment, None)
        self._parcel.send(_Trial(self._parent, child, trial, directions))

    def wait(self, seconds: float = 5.0) -> bool:
        """Wait until all trials are reported, but not longer; warn and return False if not."""
        if self._parcel is None:
            return True
        if not self._parcel.wait(seconds):
            warn(f"not all trials were reported within {seconds:g} s")
            return False
        if self._parcel.failure is not None:
            warn(str(self._parcel.failure).partition("\n")[0])
            return False
        return True


class _Opening:
    """The message that finds or creates the run of a study."""

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name

    def __call__(self) -> None:
        tags = {_STUDY: self.name}
        if not (self.run.own and self.run.find(tags)):
            self.run.open(self.name, tags)


class _Trial:
    """The message that reports a trial."""

    def __init__(self, parent: Run, child: Run, trial: Any, directions: list[str]) -> None:
        self.parent = parent
        self.child = child
        self.trial = trial
        self.directions = directions

    def __call__(self) -> None:
        trial, child = self.trial, self.child
        tags = {"optuna.number": str(trial.number), "optuna.state": trial.state.name}
        tags |= {f"optuna.{key_of(name)}": str(v)[:500] for name, v in trial.user_attrs.items()}
        tags["optuna.directions"] = ", ".join(self.directions)
        child.open(f"trial {trial.number}", tags, self.parent)
        child.params(
            [Param(key_of(name), str(v)[:LONGEST_VALUE]) for name, v in trial.params.items()]
        )
        values = trial.values or []
        names = ["value"] if len(values) == 1 else [f"value_{i}" for i in range(len(values))]
        stamp = now()
        metrics = [Metric(n, float(v), stamp, 0) for n, v in zip(names, values, strict=True)]
        metrics += [
            Metric("intermediate", float(value), stamp, step)
            for step, value in sorted(trial.intermediate_values.items())
        ]
        if trial.duration is not None:
            metrics.append(Metric("seconds", trial.duration.total_seconds(), stamp, 0))
        child.metrics(metrics)
        child.close(_STATES.get(trial.state.name, "KILLED"))
        self.parent.close("FINISHED")  # as far as is known; the next trial sets a later end
