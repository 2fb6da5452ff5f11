"""Tuning: the best settings of an estimator, searched with Optuna."""

from __future__ import annotations

from hybridflow.tuning.progress import Progress
from hybridflow.tuning.result import TuningResult
from hybridflow.tuning.score import Score
from hybridflow.tuning.search import tune
from hybridflow.tuning.space import Space, space_of

__all__ = ["Progress", "Score", "Space", "TuningResult", "space_of", "tune"]
