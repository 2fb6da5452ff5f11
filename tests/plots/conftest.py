"""Small fitted models that the displays are drawn of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import train_test_split

from hybridflow import FlowOutlierDetector, HybridClassifier, HybridRegressor, TrainingConfig

QUICK = TrainingConfig(steps=20)


class Fitted(NamedTuple):
    model: HybridClassifier | HybridRegressor | FlowOutlierDetector
    X: object
    y: np.ndarray
    X_test: object
    y_test: np.ndarray


@pytest.fixture(scope="session")
def classifier() -> Fitted:
    X, y = load_iris(return_X_y=True, as_frame=True)
    labels = np.array(["setosa", "versicolor", "virginica"])[y]
    X, X_test, y, y_test = train_test_split(X, labels, test_size=0.4, random_state=0)
    model = HybridClassifier(training=QUICK, members=2, random_state=0).fit(X, y)
    return Fitted(model, X, y, X_test, y_test)


@pytest.fixture(scope="session")
def regressor() -> Fitted:
    X, X_test, y, y_test = train_test_split(
        *load_diabetes(return_X_y=True), test_size=0.4, random_state=0
    )
    model = HybridRegressor(training=QUICK, random_state=0).fit(X, y)
    return Fitted(model, X, y, X_test, y_test)


@pytest.fixture(scope="session")
def detector() -> Fitted:
    X = np.random.default_rng(0).normal(size=(400, 3))
    y = np.zeros(len(X))
    model = FlowOutlierDetector(training=QUICK, random_state=0).fit(X[:300])
    return Fitted(model, X[:300], y[:300], X[300:], y[300:])
