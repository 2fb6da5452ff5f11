"""One run of MLflow, as the messages that make it; each is sent by a courier's thread."""

from __future__ import annotations

import copy
import io
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_SOURCE_NAME
from mlflow.utils.validation import MAX_METRICS_PER_BATCH, MAX_PARAMS_TAGS_PER_BATCH

from hybridflow.errors import MissingExtraError, require
from hybridflow.estimators.base import FlowEstimator
from hybridflow.mlflow.flavour import save_model


class Run:
    """A run at one address; it is opened by its first message, in the thread.

    By the client of MLflow alone: what its fluent functions open is closed when the process
    ends, and waits for a dead server there.

    Parameters
    ----------
    address : str
        Of the tracking server or database.
    experiment : str or None
        Its name; the one that MLflow is set to if not given.
    run_id : str or None
        A run that is open already, and stays so.
    """

    def __init__(self, address: str, experiment: str | None, run_id: str | None) -> None:
        self.address = address
        self.experiment = experiment
        self.run_id = run_id or ""  # until it is opened
        self.own = run_id is None
        self.experiment_id = ""

    @cached_property
    def client(self) -> mlflow.MlflowClient:
        """The client, made in the thread: a new database takes seconds."""
        return mlflow.MlflowClient(self.address)

    def open(self, name: str, tags: Mapping[str, str], parent: Run | None = None) -> None:
        """Create the run, inside of another one if there is one."""
        if not self.own:
            self.experiment_id = self.client.get_run(self.run_id).info.experiment_id
            for key, value in tags.items():
                self.client.set_tag(self.run_id, key, value)
            return
        self.experiment_id = parent.experiment_id if parent else self._experiment_id()
        found = {MLFLOW_RUN_NAME: name, MLFLOW_SOURCE_NAME: "hybridflow", **tags}
        if parent is not None:
            found[MLFLOW_PARENT_RUN_ID] = parent.run_id
        self.run_id = self.client.create_run(self.experiment_id, tags=found).info.run_id

    def find(self, tags: Mapping[str, str]) -> bool:
        """Take the oldest run of the experiment with these tags; return False if there is none."""
        experiment_id = self._experiment_id()
        condition = " and ".join(
            f"tags.`{key}` = '{value.replace(chr(39), '')}'" for key, value in tags.items()
        )
        found = self.client.search_runs(
            [experiment_id],
            condition,
            order_by=["attributes.start_time ASC"],
            max_results=1,
        )
        if found:
            self.run_id, self.experiment_id = str(found[0].info.run_id), experiment_id
        return bool(found)

    def params(self, params: Sequence[Param]) -> None:
        """Log parameters, as many at a time as a request takes."""
        for start in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            batch = params[start : start + MAX_PARAMS_TAGS_PER_BATCH]
            self.client.log_batch(self.run_id, params=batch)

    def metrics(self, metrics: Sequence[Metric]) -> None:
        """Log metrics, as many at a time as a request takes."""
        for start in range(0, len(metrics), MAX_METRICS_PER_BATCH):
            self.client.log_batch(
                self.run_id, metrics=metrics[start : start + MAX_METRICS_PER_BATCH]
            )

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.client.log_batch(self.run_id, tags=[RunTag(*pair) for pair in tags.items()])

    def texts(self, texts: Mapping[str, str]) -> None:
        """Keep texts as artifacts."""
        for place, text in texts.items():
            self.client.log_text(self.run_id, text, place)

    def learning_curves(self, estimator: FlowEstimator) -> None:
        """Keep a picture of the curves, if there is something to draw with."""
        from hybridflow.plots import LearningCurveDisplay

        try:
            # A figure that pyplot knows nothing of may be drawn in any thread.
            figure = require("matplotlib.figure", "plots").Figure(figsize=(6.4, 5.2))
        except MissingExtraError:
            return
        LearningCurveDisplay.from_estimator(estimator, ax=figure.subplots())
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=120)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "learning_curves.png"
            path.write_bytes(picture.getvalue())
            self.client.log_artifact(self.run_id, str(path), "figures")

    def model(self, estimator: FlowEstimator, registered_name: str | None) -> None:
        """Keep the model, and make it a version of a registered one."""
        logged = self.client.create_logged_model(
            self.experiment_id, name="model", source_run_id=self.run_id
        )
        described = Model(
            artifact_path=logged.artifact_location,
            model_uuid=logged.model_id,
            run_id=self.run_id,
            model_id=logged.model_id,
        )
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "model"
            save_model(estimator, place, mlflow_model=described)
            self.client.log_model_artifacts(logged.model_id, str(place))
        self.client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
        self.client.log_outputs(self.run_id, [LoggedModelOutput(logged.model_id, step=0)])
        if registered_name is not None:
            self._register(registered_name, logged.model_id)

    def close(self, status: str) -> None:
        """End the run, unless someone else has opened it."""
        if self.own:
            self.client.set_terminated(self.run_id, status)

    def _register(self, name: str, model_id: str) -> None:
        try:
            self.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self.client.create_model_version(
            name, source=f"models:/{model_id}", run_id=self.run_id, model_id=model_id
        )

    def _experiment_id(self) -> str:
        if self.experiment is None:
            return str(mlflow.tracking.fluent._get_experiment_id())
        found = self.client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        return str(self.client.create_experiment(self.experiment))


def now() -> int:
    """Return the time as MLflow counts it, in milliseconds."""
    return int(time.time() * 1000)


def held(estimator: FlowEstimator) -> FlowEstimator:
    """Return an estimator that stays as it is when the given one is fitted again."""
    return copy.copy(estimator)


def active_run() -> str | None:
    """Return the run that is open in this thread, if any."""
    run: Any = mlflow.active_run()
    return None if run is None else str(run.info.run_id)
