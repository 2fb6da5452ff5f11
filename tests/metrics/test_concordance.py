"""The order of predictions against the order that is known, pair by pair."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from hybridflow import HybridRegressor, TrainingConfig
from hybridflow.errors import InputError
from hybridflow.metrics import concordance, concordance_index


def by_pairs(lower, upper, predicted, weight) -> float:
    """Return the index by its definition, one pair after the other."""
    right = total = 0.0
    for i, j in itertools.permutations(range(len(lower)), 2):
        tie = upper[i] == lower[j] and lower[i] == upper[i] and lower[j] < upper[j]
        if upper[i] < lower[j] or tie:
            total += weight[i] * weight[j]
            if predicted[i] < predicted[j]:
                right += weight[i] * weight[j]
            elif predicted[i] == predicted[j]:
                right += 0.5 * weight[i] * weight[j]
    return right / total


@pytest.mark.parametrize("block", [16, 2**22])
@pytest.mark.parametrize("censored", ["right", "left", "interval", "none"])
def test_it_is_its_definition(monkeypatch, block, censored):
    monkeypatch.setattr(concordance, "_BLOCK", block)
    rng = np.random.default_rng(0)
    lower = rng.integers(0, 12, 60).astype(float)
    some = rng.random(60) < (0 if censored == "none" else 0.4)
    upper = lower.copy()
    if censored == "right":
        upper[some] = np.inf
    elif censored == "left":
        lower[some] = -np.inf
    elif censored == "interval":
        upper[some] += 3
    predicted, weight = rng.integers(0, 9, 60), rng.random(60)
    found = concordance_index(lower, upper, predicted, sample_weight=weight)
    assert found == pytest.approx(by_pairs(lower, upper, predicted, weight), rel=1e-12)


def test_its_ends_are_perfect_wrong_and_chance():
    time = np.arange(10.0)
    assert concordance_index(time, time, time) == 1
    assert concordance_index(time, time, -time) == 0
    assert concordance_index(time, time, np.ones(10)) == 0.5


def test_without_a_pair_there_is_no_order():
    with pytest.raises(InputError, match="no two rows can be compared"):
        concordance_index([1.0, 2.0], [np.inf, np.inf], [1.0, 2.0])


def test_a_regressor_scores_a_censored_y_by_it():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    time = np.exp(X[:, 0] + 0.2 * rng.normal(size=300))
    died = rng.random(300) < 0.7
    y = pl.DataFrame({"died": died, "months": time})
    model = HybridRegressor(
        head="log-normal", training=TrainingConfig(steps=60), members=1, random_state=0
    ).fit(X, y)
    upper = np.where(died, time, np.inf)
    expected = concordance_index(time, upper, model.predict(X))
    assert model.score(X, y) == expected > 0.7
    weight = died.astype(float) + 0.5
    weighted = concordance_index(time, upper, model.predict(X), sample_weight=weight)
    assert model.score(X, y, sample_weight=weight) == weighted
