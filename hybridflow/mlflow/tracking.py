"""Tracking fits: a callback for one estimator, and `autolog` for all."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import mlflow
from mlflow.entities import Metric, RunStatus

import hybridflow
from hybridflow.callbacks import Callback, call_everywhere, call_nowhere
from hybridflow.errors import TrackingWarning
from hybridflow.mlflow.contents import metrics_of, params_of, settings_of, texts_of
from hybridflow.mlflow.courier import LONGEST_WAIT, Courier, Parcel, courier_to
from hybridflow.mlflow.runs import Run, active_run, held, now
from hybridflow.training import TrainingState


@dataclass
class _Fit:
    """A fit that is going on."""

    run: Run
    courier: Courier
    parcel: Parcel
    settings: dict[str, Any]
    began: float
    member: int = -1
    told: int = 0
    """Evaluations of this member that are among the metrics."""
    metrics: list[Metric] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, message: Callable[..., None], *arguments: Any) -> None:
        self.parcel.send(lambda: message(*arguments))

    def send_metrics(self) -> None:
        """Send, in the thread, all metrics that have come up by then."""
        with self.lock:
            metrics, self.metrics = self.metrics, []
        if metrics:
            self.run.metrics(metrics)


_GOING_ON = threading.local()


class TrackingCallback(Callback):
    """Reports a fit to MLflow: settings, curves, audit, columns, a picture, and the model.

    It reports to the run that is active, or else to one of its own. All is sent in the
    background: whatever the server does, a fit never fails by it, and waits 5 seconds at
    most, at its end. What is lost by then is said once, by a `TrackingWarning`.

    Parameters
    ----------
    tracking_uri : str, optional
        Where MLflow is set to if not given: at first the database ``mlflow.db`` in the
        working folder.
    experiment : str, optional
        Its name; that which MLflow is set to if not given.
    run_name : str, optional
        Of a run of its own; the estimator's class if not given.
    log_model : bool, default=True
        Whether the model is kept.
    registered_model_name : str, optional
        Also make it a new version of this registered model.

    Examples
    --------
    >>> from hybridflow import HybridRegressor
    >>> from hybridflow.mlflow import TrackingCallback
    >>> model = HybridRegressor(callbacks=(TrackingCallback(experiment="houses"),))
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        *,
        run_name: str | None = None,
        log_model: bool = True,
        registered_model_name: str | None = None,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.run_name = run_name
        self.log_model = log_model
        self.registered_model_name = registered_model_name

    def on_estimator_start(self, estimator: Any) -> None:
        """Open the run."""
        with _harmless():
            address = self.tracking_uri or mlflow.get_tracking_uri()
            courier = courier_to(address)
            settings = settings_of(estimator)
            fit = _Fit(
                Run(address, self.experiment, active_run()),
                courier,
                Parcel(courier),
                settings,
                time.monotonic(),
            )
            self._fits()[id(self)] = fit
            name = self.run_name or type(estimator).__name__
            fit.send(fit.run.open, name, {"hybridflow.version": hybridflow.__version__})
            fit.send(fit.run.params, params_of(settings))

    def on_fit_start(self, state: TrainingState) -> None:
        """Count members."""
        fit = self._fits().get(id(self))
        if fit is not None:
            fit.member += 1
            fit.told = 0

    def on_validation(self, state: TrainingState) -> None:
        """Report the evaluations since the last time, with those that still wait."""
        fit = self._fits().get(id(self))
        if fit is None:
            return
        with fit.lock:
            first = not fit.metrics
            for record in state.history[fit.told :]:
                fit.metrics += metrics_of(fit.member, record, now())
        fit.told = len(state.history)
        if first:
            fit.send(fit.send_metrics)

    def on_estimator_end(self, estimator: Any, error: BaseException | None) -> None:
        """Report how it went, and wait a little."""
        fit = self._fits().pop(id(self), None)
        if fit is None:
            return
        deadline = time.monotonic() + fit.courier.patience()
        with _harmless():
            self._report(fit, estimator, error)
        if not fit.parcel.wait(max(0.0, deadline - time.monotonic())):
            fit.courier.late = True
            warn(
                f"{fit.courier.address} has not taken everything within {LONGEST_WAIT:g} s; the "
                "rest is sent in the background, and lost if the process ends before"
            )
        elif fit.parcel.failure is not None:
            warn(f"{fit.courier.address}: {_first_line(fit.parcel.failure)}")

    def _report(self, fit: _Fit, estimator: Any, error: BaseException | None) -> None:
        interrupted = isinstance(error, KeyboardInterrupt)
        fit.send(fit.send_metrics)
        if error is None or (interrupted and getattr(estimator, "interrupted_", False)):
            fitted = held(estimator)
            fit.send(fit.run.texts, texts_of(fitted, fit.settings))
            fit.send(fit.run.learning_curves, fitted)
            if self.log_model:
                fit.send(fit.run.model, fitted, self.registered_model_name)
        else:
            fit.send(fit.run.tags, {"error": f"{type(error).__name__}: {error}"[:5000]})
        killed = RunStatus.KILLED if interrupted else RunStatus.FAILED
        status = RunStatus.FINISHED if error is None else killed
        fit.send(fit.run.close, RunStatus.to_string(status))

    def _fits(self) -> dict[int, _Fit]:
        """Return the fits that go on in this thread; kept apart so that callbacks can be copied."""
        if not hasattr(_GOING_ON, "fits"):
            _GOING_ON.fits = {}
        fits: dict[int, _Fit] = _GOING_ON.fits
        return fits


@contextmanager
def _harmless() -> Iterator[None]:
    """Turn what goes wrong in a block into a warning."""
    try:
        yield
    except Exception as error:
        warn(_first_line(error))


def warn(message: str) -> None:
    """Say once what tracking has lost."""
    warnings.warn(f"tracking: {message}. The fit itself is done", TrackingWarning, stacklevel=3)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:500]


_AUTOMATIC: list[TrackingCallback] = []


def autolog(
    tracking_uri: str | None = None,
    experiment: str | None = None,
    *,
    log_model: bool = True,
    registered_model_name: str | None = None,
    disable: bool = False,
) -> None:
    """Report every fit in this process to MLflow, as `TrackingCallback` does.

    Parameters
    ----------
    tracking_uri, experiment, log_model, registered_model_name
        As in `TrackingCallback`.
    disable : bool, default=False
        Stop it.

    Examples
    --------
    >>> from hybridflow.mlflow import autolog
    >>> autolog()
    >>> autolog(disable=True)
    """
    while _AUTOMATIC:
        call_nowhere(_AUTOMATIC.pop())
    if disable:
        return
    callback = TrackingCallback(
        tracking_uri,
        experiment,
        log_model=log_model,
        registered_model_name=registered_model_name,
    )
    _AUTOMATIC.append(callback)
    call_everywhere(callback)
