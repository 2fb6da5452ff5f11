"""scikit-learn's own checks, all of them, each expected failure with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from hybridflow import (
    FlowDensity,
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
    TrainingConfig,
)
from hybridflow.flows import SplineCoupling

SMALL = SplineCoupling(layers=2, bins=4, hidden_units=16, hidden_layers=1)
BRIEF = TrainingConfig(steps=60, learning_rate=1e-2)

BY_NAME = "columns of a frame are matched by name: another order is put right, not refused"

EXPECTED = {
    "check_dataframe_column_names_consistency": BY_NAME,
}


def expected_failures(estimator: Any) -> dict[str, str]:
    """Return the checks that fail on purpose."""
    return EXPECTED


@pytest.mark.filterwarnings("ignore::hybridflow.errors.HybridFlowWarning")
@parametrize_with_checks(
    [
        HybridClassifier(SMALL, training=BRIEF),
        HybridRegressor(SMALL, training=BRIEF),
        FlowDensity(SMALL, training=BRIEF),
        FlowOutlierDetector(SMALL, training=BRIEF),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)
