"""Weights that cannot be used, and what weights mean: one test for each row W of the list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from hybridflow import (
    FlowDensity,
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
    TrainingConfig,
)
from hybridflow.errors import ConfigError, InputError
from hybridflow.flows import SplineCoupling

FLOW = SplineCoupling(layers=1, bins=4, hidden_units=8, hidden_layers=1)
BRIEF = TrainingConfig(steps=20)

N = 90
X = np.random.default_rng(0).normal(size=(N, 3))
LABELS = (X[:, 0] > 0).astype(int)
ONES = np.ones(N)

each_estimator = pytest.mark.parametrize(
    "estimator", [FlowDensity, FlowOutlierDetector, HybridClassifier, HybridRegressor]
)


def fit(estimator: Any, weight: Any, **parameters: Any) -> Any:
    model = estimator(FLOW, training=BRIEF, random_state=0, **parameters)
    return model.fit(X, LABELS, sample_weight=weight)


def with_weight(row: int, value: float) -> np.ndarray:
    weight = ONES.copy()
    weight[row] = value
    return weight


@each_estimator
def test_w01_negative(estimator: Any) -> None:
    with pytest.raises(
        InputError, match=r"Negative values .*sample_weight.* got -2, first at row 4"
    ):
        fit(estimator, with_weight(4, -2.0))


@each_estimator
@pytest.mark.parametrize(
    ("value", "named"), [(np.nan, "NaN"), (np.inf, "infinity")], ids=["NaN", "inf"]
)
def test_w02_not_finite(estimator: Any, value: float, named: str) -> None:
    with pytest.raises(InputError, match=f"sample_weight contains {named}.*first at row 4"):
        fit(estimator, with_weight(4, value))


@each_estimator
def test_w03_all_zero(estimator: Any) -> None:
    with pytest.raises(InputError, match="must contain at least one non-zero number"):
        fit(estimator, 0 * ONES)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (ONES[:-1], r"shape == \(89,\), expected \(90,\)"),
        (ONES[:, None], "must be 1D array or scalar, got 2D array"),
        (ONES.astype(str), "must hold numbers"),
        (ONES * 1j, "must hold numbers"),
        ([None] * N, "sample_weight contains NaN"),
        (ONES * 1e300, "rescale it"),
    ],
    ids=["short", "2-D", "text", "complex", "None", "huge"],
)
def test_w04_shape_and_type(weight: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(HybridClassifier, weight)


def test_containers_of_weights() -> None:
    weight = np.arange(N) % 3 + 1.0
    expected = fit(FlowDensity, weight).score_samples(X)
    for given in (pd.Series(weight), pl.Series(weight), torch.tensor(weight), weight.tolist()):
        np.testing.assert_array_equal(fit(FlowDensity, given).score_samples(X), expected)
    np.testing.assert_array_equal(
        fit(FlowDensity, 1.0).score_samples(X), fit(FlowDensity, None).score_samples(X)
    )


@each_estimator
@pytest.mark.parametrize("tied", [False, True], ids=["continuous", "tied"])
def test_w05_zero_weight_is_a_removed_row(estimator: Any, tied: bool) -> None:
    rows = np.round(2 * X) if tied else X
    kept = np.arange(N) % 4 != 0

    def model() -> Any:
        return estimator(FLOW, training=BRIEF, random_state=0)

    zero = model().fit(rows, LABELS, sample_weight=kept.astype(float))
    removed = model().fit(rows[kept], LABELS[kept])
    np.testing.assert_allclose(
        zero.score_samples(rows), removed.score_samples(rows), atol=1e-3, rtol=0
    )
    if hasattr(zero, "predict"):
        np.testing.assert_allclose(zero.predict(rows), removed.predict(rows), atol=1e-3, rtol=0)


def test_w05_weight_two_is_a_repeated_row() -> None:
    weight = np.where(np.arange(N) % 3 == 0, 2.0, 1.0)
    again = np.concatenate([np.arange(N), np.flatnonzero(weight == 2)])
    weighted = fit(HybridClassifier, weight)
    repeated = HybridClassifier(FLOW, training=BRIEF, random_state=0).fit(X[again], LABELS[again])
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), atol=1e-3, rtol=0
    )
    np.testing.assert_allclose(
        weighted.score_samples(X), repeated.score_samples(X), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({0: 1.0, 5: 2.0}, r"names 5, but the classes are \[0, 1\]"),
        ("blanced", "got 'blanced'; did you mean 'balanced'"),
        ([1.0, 2.0], "must be a dict, 'balanced' or None"),
        ({0: -1.0}, "of 0 must be finite and >= 0, got -1.0"),
        ({0: float("nan")}, "of 0 must be finite"),
        ({0: "heavy"}, "of 0 must be finite"),
        ({0: 0.0, 1: 0.0}, "leaves no labelled row a positive weight"),
    ],
    ids=["unknown class", "unknown word", "list", "negative", "NaN", "text", "all zero"],
)
def test_w06_class_weight(class_weight: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(HybridClassifier, None, class_weight=class_weight)
