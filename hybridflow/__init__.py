"""Models that predict, say how sure they are, and know when they are out of their depth."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Config": "hybridflow.config",
    "Categorical": "hybridflow.specs",
    "Circle": "hybridflow.specs",
    "Event": "hybridflow.specs",
    "Interval": "hybridflow.specs",
    "Positive": "hybridflow.specs",
    "Target": "hybridflow.specs",
    "FlowSpec": "hybridflow.specs",
    "BaseSpec": "hybridflow.specs",
    "HeadSpec": "hybridflow.specs",
    "hookimpl": "hybridflow.hookspecs",
    "Registry": "hybridflow.registry",
    "HybridFlowError": "hybridflow.errors",
    "HybridClassifier": "hybridflow.estimators",
    "HybridRegressor": "hybridflow.estimators",
    "FlowDensity": "hybridflow.estimators",
    "FlowOutlierDetector": "hybridflow.estimators",
    "TrainingConfig": "hybridflow.training",
    "Schedule": "hybridflow.schedule",
    "ParquetTable": "hybridflow.parquet",
    "load": "hybridflow.bundle",
    "tune": "hybridflow.tuning",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'hybridflow' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
