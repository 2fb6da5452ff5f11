"""What is told of a fit: parameters, curves, and texts, within the limits of MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH

from hybridflow.config import Config
from hybridflow.errors import HybridFlowError
from hybridflow.estimators.base import FlowEstimator
from hybridflow.history import Record

LONGEST_VALUE = 500
"""Characters of a parameter's value: what servers of every age take. The whole is an artifact."""

_LEFT_OUT = ("callbacks", "registry")
_PARTS = ("flow", "base", "head", "training")
_NOT_IN_A_NAME = re.compile(r"[^\w\-. :/]")


def settings_of(estimator: FlowEstimator) -> dict[str, Any]:
    """Return the parameters of an estimator as JSON has them, configs with all of their fields."""
    found: dict[str, Any] = {"estimator": type(estimator).__name__}
    for name, value in estimator.get_params(deep=False).items():
        if name in _LEFT_OUT:
            continue
        if name in _PARTS and not isinstance(value, Config):
            config = _config(estimator, name)
            if config is not None:
                label = {} if value is None else {"name": value}
                found[name] = label | config.model_dump(mode="json")
                continue
        found[name] = _as_json(value)
    return found


def params_of(settings: Mapping[str, Any]) -> list[Param]:
    """Return settings as parameters, those of a part as ``flow.layers``.

    Values that are too long are cut, and end in dots.
    """
    return [Param(key_of(name), _cut(value)) for name, value in _flat(settings)]


def metrics_of(member: int, record: Record, milliseconds: int) -> list[Metric]:
    """Return one evaluation of a member as metrics."""
    values = {
        "loss": record.value,
        "task": record.task,
        "density": record.density,
        "learning_rate": record.learning_rate,
    }
    return [
        Metric(f"member_{member}/{name}", float(value), milliseconds, record.step)
        for name, value in values.items()
        if value is not None
    ]


def texts_of(estimator: FlowEstimator, settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts that are kept of a fitted estimator, by their place among the artifacts."""
    found = {
        "settings.json": json.dumps(settings, indent=2, default=str),
        "data/columns.txt": estimator.schema_.summary(),
        "data/schema.json": estimator.schema_.model_dump_json(indent=2),
        "histories.json": json.dumps(
            [[record.model_dump(mode="json") for record in each] for each in estimator.histories_]
        ),
    }
    if estimator.audit_ is not None:
        found["audit.json"] = estimator.audit_.model_dump_json(indent=2)
        found["audit.txt"] = "\n".join(map(str, estimator.audit_.findings))
    return found


def key_of(name: str) -> str:
    """Return a name as MLflow allows names to be."""
    return _NOT_IN_A_NAME.sub("_", name)[:MAX_ENTITY_KEY_LENGTH]


def _config(estimator: FlowEstimator, name: str) -> Config | None:
    try:
        return estimator._config(name)
    except HybridFlowError:  # the fit says what is wrong with it
        return None


def _as_json(value: Any) -> Any:
    if isinstance(value, Config):
        return {"name": type(value).__name__} | value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _as_json(each) for key, each in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return repr(value)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cut(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."
