"""Building the estimator that a bundle describes, trusting nothing in it."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor

from hybridflow.allocation import AllocationLimit
from hybridflow.errors import CorruptModelError, ModelFileError, PluginError, ResourceLimitError
from hybridflow.estimators import (
    FlowDensity,
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
)
from hybridflow.estimators.base import FlowEstimator
from hybridflow.estimators.state import from_state
from hybridflow.provenance import Component
from hybridflow.registry import Registry
from hybridflow.selftest import compare

ESTIMATORS: dict[str, type[FlowEstimator]] = {
    estimator.__name__: estimator
    for estimator in (FlowDensity, FlowOutlierDetector, HybridClassifier, HybridRegressor)
}
"""The classes that a bundle may hold, by name."""

# Building takes some times what is stored: other dtypes on the way, masks, starting values.
_FACTOR = 16
_SLACK_BYTES = 2**26
_LABEL_BYTES = 2**16


def restore(
    document: dict[str, Any],
    tensors: dict[str, Tensor],
    components: Iterable[Component],
    registry: Registry | None,
) -> tuple[FlowEstimator, dict[str, float]]:
    """Build the estimator, give it the tensors, and let it prove itself.

    Parameters
    ----------
    document : dict
        What the bundle's container holds.
    tensors : dict of str to Tensor
        All of them are used, and no others.
    components : iterable of Component
        All installed.
    registry : Registry or None
        The default one if None.

    Returns
    -------
    estimator : FlowEstimator
    differences : dict of str to float
        From `hybridflow.selftest.compare`.

    Raises
    ------
    CorruptModelError
        If description and tensors do not make a model, or not the same one.
    ResourceLimitError
        If the description asks for far more memory than the tensors have.
    ModelSelfTestError
        If the model answers its probe rows otherwise than when it was saved.
    PluginError
        If a plugin that it needs is broken.
    """
    try:
        estimator = _build(document, tensors, components, registry)
        _check_tensors(estimator, tensors)
        if document["event"] != estimator.blueprint_.event.model_dump(mode="json"):
            raise CorruptModelError("its event is not that of its columns")
        return estimator, compare(estimator, document["probe"])
    except (ModelFileError, PluginError):
        raise
    except MemoryError:
        raise ResourceLimitError("the model does not fit into memory") from None
    except Exception as error:
        # A description can be wrong in any field, and what a constructor, of a
        # plugin too, makes of that is its own affair.
        reason = f"{type(error).__name__}: {error}"
        raise CorruptModelError(f"its description makes no model ({reason:.500})") from error


def _build(
    document: dict[str, Any],
    tensors: dict[str, Tensor],
    components: Iterable[Component],
    registry: Registry | None,
) -> FlowEstimator:
    if document["estimator"] not in ESTIMATORS:
        raise CorruptModelError(f"it holds no estimator of hybridflow: {document['estimator']!r}")
    members = {name.split(".")[1] for name in tensors if name.count(".") > 1}
    count = document["members"]
    if type(count) is not int or count < 1 or members != {str(i) for i in range(len(members))}:
        raise CorruptModelError("it does not say how many members it has")
    if count != len(members):
        raise CorruptModelError("it does not have the tensors of as many members as it says")
    if np.dtype(document.get("classes_dtype", "i8")).itemsize > _LABEL_BYTES:
        raise ResourceLimitError("its labels are too long")
    stored = sum(tensor.nbytes for tensor in tensors.values())
    with AllocationLimit(_FACTOR * stored + _SLACK_BYTES):
        return from_state(
            ESTIMATORS[document["estimator"]], _pinned(document, components), tensors, registry
        )


def _pinned(document: dict[str, Any], components: Iterable[Component]) -> dict[str, Any]:
    """Return the document with components named so that no other distribution answers."""
    pinned = copy.deepcopy(document)
    for component in components:
        # The parameter may have been changed since the fit, and then is of another one.
        parameter = pinned["params"].get(component.kind)
        for field in (pinned["components"][component.kind], parameter):
            if isinstance(field, dict) and field["name"] == component.name:
                field["name"] = component.address
    return pinned


def _check_tensors(estimator: FlowEstimator, tensors: dict[str, Tensor]) -> None:
    """Compare names, shapes and dtypes: copying into a model would cast silently."""
    expected = {
        f"members.{i}.{name}": (tensor.shape, tensor.dtype)
        for i, model in enumerate(estimator.models_)
        for name, tensor in model.state_dict().items()
    }
    found = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    wrong = sorted(set(expected.items()) ^ set(found.items()), key=str)
    if wrong:
        raise CorruptModelError(f"tensor {wrong[0][0]!r} is not the one that its model has")
