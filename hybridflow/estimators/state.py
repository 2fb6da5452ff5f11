"""The state of a fitted estimator as plain JSON and tensors, and back.

What the caller owns is not kept: callbacks, splitters, positions, random
states, checkpoints and registries come back as the defaults of the constructor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from hybridflow.calibration import Calibration, Fold
from hybridflow.config import Config
from hybridflow.errors import CorruptModelError
from hybridflow.estimators import columns as columns_
from hybridflow.estimators.answers import IntervalEstimator, SetEstimator
from hybridflow.estimators.base import FlowEstimator
from hybridflow.estimators.blueprint import Blueprint
from hybridflow.estimators.novelty import NoveltyEstimator, RejectingEstimator
from hybridflow.novelty import Novelty
from hybridflow.registry import Kind, Registry, default_registry
from hybridflow.schedule import Schedule
from hybridflow.schema import Schema
from hybridflow.specs import Target
from hybridflow.training import Record, TrainingConfig
from hybridflow.verdict import Audit

_COMPONENTS: tuple[Kind, ...] = ("flow", "base", "head")


def to_state(estimator: FlowEstimator) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the state of a fitted estimator.

    Returns
    -------
    document : dict
        Plain JSON. ``components`` names flow, base and head with their configs.
    tensors : dict of str to Tensor
        ``members.0.<name>`` and so on.
    """
    blueprint, registry = estimator.blueprint_, estimator._registry()
    components = {}
    for kind in _COMPONENTS:
        config = getattr(blueprint, kind)
        if config is not None:
            spec, _ = registry.resolve(kind, config)
            components[kind] = {"name": spec.name, "config": config.model_dump(mode="json")}
    document: dict[str, Any] = {
        "estimator": type(estimator).__name__,
        "params": _params(estimator),
        "components": components,
        "schema": blueprint.schema.model_dump(mode="json"),
        "target": None if blueprint.target is None else blueprint.target.model_dump(mode="json"),
        "members": len(estimator.models_),
        "bend": blueprint.bend,
        "histories": [[r.model_dump(mode="json") for r in h] for h in estimator.histories_],
        "interrupted": estimator.interrupted_,
        "audit": None if estimator.audit_ is None else estimator.audit_.model_dump(mode="json"),
    }
    if blueprint.others:
        flows = [(registry.resolve("flow", c)[0].name, c) for c in blueprint.others]
        document["others"] = [{"name": n, "config": c.model_dump(mode="json")} for n, c in flows]
    if hasattr(estimator, "classes_"):
        document["classes_dtype"] = estimator.classes_.dtype.str.replace("|O", "object")
    for name in ("n_labeled_", "offset_"):
        if hasattr(estimator, name):
            document[name] = getattr(estimator, name)
    if isinstance(estimator, NoveltyEstimator) and estimator.novelty_ is not None:
        document["novelty"] = estimator.novelty_.model_dump(mode="json")
    if isinstance(estimator, RejectingEstimator):
        document["rejection"] = [fold.model_dump(mode="json") for fold in estimator.rejection_]
    if isinstance(estimator, IntervalEstimator | SetEstimator):
        document["calibration"] = estimator.calibration_.model_dump(mode="json")
    tensors = {
        f"members.{i}.{name}": tensor.detach().cpu().contiguous()
        for i, model in enumerate(estimator.models_)
        for name, tensor in model.state_dict().items()
    }
    return document, tensors


def blueprint_of(document: dict[str, Any], registry: Registry) -> Blueprint:
    """Return the blueprint that a document describes; names resolve only in the registry."""
    configs: dict[str, Config | None] = dict.fromkeys(_COMPONENTS)
    for kind, component in document["components"].items():
        spec, _ = registry.resolve(kind, component["name"])
        configs[kind] = spec.config.from_json(component["config"])
    flow, base = configs["flow"], configs["base"]
    if flow is None or base is None:
        raise CorruptModelError("the description names no flow or no base")
    others = []
    for component in document.get("others", []):
        spec, _ = registry.resolve("flow", component["name"])
        others.append(spec.config.from_json(component["config"]))
    target = document["target"]
    return Blueprint(
        schema=Schema.from_json(document["schema"]),
        target=None if target is None else Target.from_json(target),
        flow=flow,
        base=base,
        head=configs["head"],
        bend=document.get("bend", True),
        others=tuple(others),
    )


def from_state(
    cls: type[FlowEstimator],
    document: dict[str, Any],
    tensors: dict[str, Tensor],
    registry: Registry | None,
) -> FlowEstimator:
    """Return the estimator that `to_state` described, on the CPU."""
    resolver = registry or default_registry()
    blueprint = blueprint_of(document, resolver)
    estimator = cls(**_restored(document["params"], resolver))
    if registry is not None:
        estimator.registry = registry
    estimator.blueprint_ = blueprint
    estimator.schema_ = blueprint.schema
    estimator.models_ = []
    for i in range(document["members"]):
        model = blueprint.of(i).build(resolver, seed=0)
        prefix = f"members.{i}."
        model.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
        estimator.models_.append(model.eval().requires_grad_(False))
    estimator.histories_ = [[Record.from_json(r) for r in h] for h in document["histories"]]
    estimator.interrupted_ = document["interrupted"]
    found = document.get("audit")  # files from before there were audits have none
    estimator.audit_ = None if found is None else Audit.from_json(found)
    if isinstance(estimator, NoveltyEstimator):
        known = document.get("novelty")  # files from before novelty was calibrated have none
        estimator.novelty_ = None if known is None else Novelty.from_json(known)
    if isinstance(estimator, RejectingEstimator):
        folds = document.get("rejection", [])
        estimator.rejection_ = tuple(Fold.from_json(fold) for fold in folds)
    if isinstance(estimator, IntervalEstimator | SetEstimator):
        # Files from before there was calibration have none.
        estimator.calibration_ = Calibration.from_json(document.get("calibration", {}))
        if estimator.calibration_.members > len(estimator.models_):
            raise CorruptModelError("its calibration is that of more members than it has")
    estimator.n_features_in_ = len(blueprint.schema.columns)
    estimator._n_features_out = len(blueprint.schema.numbers)
    if blueprint.schema.named:
        names = [column.name for column in blueprint.schema.columns]
        estimator.feature_names_in_ = np.array(names, dtype=object)
    if "classes_dtype" in document and blueprint.target is not None:
        labels: list[Any] = list(blueprint.target.classes)
        dtype = np.dtype(document["classes_dtype"])
        if dtype.kind == "S":
            labels = [label.encode("latin-1") for label in labels]
        estimator.classes_ = np.array(labels, dtype=dtype)
    for name in ("n_labeled_", "offset_"):
        if name in document:
            setattr(estimator, name, document[name])
    return estimator


def _params(estimator: FlowEstimator) -> dict[str, Any]:
    """Return the constructor parameters that are plain values or configs."""
    params: dict[str, Any] = {}
    for name, value in estimator.get_params(deep=False).items():
        if name == "checkpoint":
            continue
        plain = value.item() if isinstance(value, np.generic) else value
        if isinstance(plain, Config):
            if name in _COMPONENTS:
                spec, _ = estimator._registry().resolve(name, plain)
                params[name] = {"name": spec.name, "config": plain.model_dump(mode="json")}
            else:
                params[name] = {"config": plain.model_dump(mode="json")}
        elif name == "class_weight" and isinstance(plain, dict):
            pairs = [[getattr(k, "item", lambda k=k: k)(), float(v)] for k, v in plain.items()]
            params[name] = {"pairs": pairs}
        elif name == "columns" and plain is not None:
            params[name] = {"columns": columns_.to_json(plain)}
        elif plain is None or isinstance(plain, bool | int | float | str):
            params[name] = plain
    return params


def _restored(params: dict[str, Any], registry: Registry) -> dict[str, Any]:
    restored: dict[str, Any] = {}
    for name, value in params.items():
        if not isinstance(value, dict):
            restored[name] = value
        elif name in _COMPONENTS:
            spec, _ = registry.resolve(name, value["name"])
            restored[name] = spec.config.from_json(value["config"])
        elif name == "training":
            restored[name] = TrainingConfig.from_json(value["config"])
        elif name == "likelihood_weight":
            restored[name] = Schedule.from_json(value["config"])
        elif name == "class_weight":
            restored[name] = dict(value["pairs"])
        elif name == "columns":
            restored[name] = columns_.from_json(value["columns"])
        else:
            raise CorruptModelError(f"unknown parameter {name!r} in the description")
    return restored
