"""Weights count rows: whole numbers repeat, others are relative."""

from __future__ import annotations

import numpy as np
import pytest

from hybridflow import FlowDensity, HybridRegressor, TrainingConfig
from hybridflow.estimators.weights import count_rows
from hybridflow.flows import SplineCoupling

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
y = X[:, 0] + 0.1 * rng.normal(size=60)
WEIGHT = rng.uniform(0.5, 3.0, size=60)
TINY = SplineCoupling(layers=1, bins=4, hidden_units=8, hidden_layers=1)
BRIEF = TrainingConfig(steps=20)


def test_whole_numbers_stay() -> None:
    weight = np.array([0.0, 2.0, 5.0])
    assert count_rows(weight).tolist() == [0.0, 2.0, 5.0]


def test_other_weights_have_mean_one_over_the_rows_they_use() -> None:
    counted = count_rows(np.array([0.0, 0.1, 0.3]))
    assert counted.tolist() == pytest.approx([0.0, 0.5, 1.5])


def test_the_scale_of_weights_decides_nothing() -> None:
    small, large = (
        HybridRegressor(TINY, training=BRIEF, random_state=0)
        .fit(X, y, sample_weight=scale * WEIGHT)
        .predict(X)
        for scale in (1e-3 / 7, 11.3)
    )
    np.testing.assert_allclose(small, large, rtol=1e-7)


def test_a_fit_that_fails_leaves_the_earlier_one() -> None:
    model = FlowDensity(TINY, training=BRIEF, random_state=0).fit(X)
    before = model.score_samples(X)

    class StopError(Exception):
        pass

    class Raise:
        def __getattr__(self, name: str) -> None:
            raise StopError

    model.set_params(callbacks=(Raise(),))
    with pytest.raises(StopError):
        model.fit(X + 1)
    np.testing.assert_array_equal(model.score_samples(X), before)
