"""From settings to an estimator that is ready to be fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridflow.cli.columns import support_of
from hybridflow.cli.options import Task
from hybridflow.cli.settings import COMPONENTS, Settings, Source, validated
from hybridflow.errors import ConfigError

if TYPE_CHECKING:
    from typing import TypeAlias

    from hybridflow.estimators import (
        FlowDensity,
        FlowOutlierDetector,
        HybridClassifier,
        HybridRegressor,
    )
    from hybridflow.registry import Kind

    Estimator: TypeAlias = HybridClassifier | HybridRegressor | FlowDensity | FlowOutlierDetector

_PLAIN = (
    "likelihood_weight",
    "validation",
    "calibration",
    "missing",
    "unknown",
    "quality",
    "time_limit",
    "members",
    "n_jobs",
    "checkpoint",
    "class_weight",
    "contamination",
    "device",
    "dtype",
)


def build(settings: Settings, task: Task, source: Source, *, progress: bool) -> Estimator:
    """Return the estimator of a task.

    Parameters
    ----------
    settings : Settings
    task : {"classification", "regression", "density", "outliers"}
    source : Source
        Of the settings, for messages.
    progress : bool
        Whether a bar is drawn, if the standard error stream is a terminal.

    Raises
    ------
    ConfigError
        If a setting does not belong to the task, or a name or value is not
        one that the estimator takes.
    """
    from hybridflow.callbacks import ProgressBar
    from hybridflow.estimators import (
        FlowDensity,
        FlowOutlierDetector,
        HybridClassifier,
        HybridRegressor,
    )
    from hybridflow.training import TrainingConfig

    kinds: dict[Task, type[Estimator]] = {
        "classification": HybridClassifier,
        "regression": HybridRegressor,
        "density": FlowDensity,
        "outliers": FlowOutlierDetector,
    }
    kind = kinds[task]
    defaults = kind().get_params(deep=False)
    params: dict[str, Any] = {"random_state": settings.seed}
    for name in (*COMPONENTS, *_PLAIN):
        value = getattr(settings, name)
        if value is None or value == {}:
            continue
        if name not in defaults:
            raise ConfigError(f"{source.place((name,))}: a {kind.__name__} ({task}) has none")
        if name in COMPONENTS:
            value = _component(name, value, defaults[name], source)
        params[name] = value
    if settings.column:
        params["columns"] = {name: support_of(name, kind) for name, kind in settings.column.items()}
    # The best weights so far are worth a file, also after Ctrl-C.
    training = {"on_interrupt": "keep", **settings.training}
    params["training"] = validated(TrainingConfig, training, ("training",), source)
    if progress and settings.n_jobs in (None, 1):  # a bar needs its member in this process
        params["callbacks"] = (ProgressBar(),)
    return kind(**params)


def _component(kind: Kind, section: dict[str, Any], default: str, source: Source) -> Any:
    """Return a name, or a config where parameters are given."""
    from hybridflow.estimators.outlier import AUTO, AUTO_FLOW
    from hybridflow.registry import default_registry

    name = section.get("name", default)
    if not isinstance(name, str):
        raise ConfigError(f"{source.place((kind, 'name'))}: expected a name, got {name!r}")
    parameters = {key: value for key, value in section.items() if key != "name"}
    if name == default == AUTO:
        if not parameters:
            return name
        name = AUTO_FLOW  # as `set_params(flow__layers=4)` does
    spec, config = default_registry().resolve(kind, name)
    if not parameters:
        return name
    full = {**config.model_dump(mode="json"), **parameters}
    return validated(spec.config, full, (kind,), source)
