"""The name of y: where it comes from, and that a file keeps it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

import hybridflow
from hybridflow import (
    Config,
    FlowDensity,
    FlowSpec,
    HybridClassifier,
    HybridRegressor,
    Registry,
    TrainingConfig,
    hookimpl,
)
from hybridflow.errors import IncompatibleModelError, MissingPluginError
from hybridflow.transforms import Identity

BRIEF = TrainingConfig(steps=3)
X = np.random.default_rng(0).normal(size=(120, 2))
NAMED = {
    "pandas": (lambda y: pd.Series(y, name="price"), "price"),
    "polars": (lambda y: pl.Series("price", y), "price"),
    "pandas-unnamed": (pd.Series, "y"),
    "pandas-numbered": (lambda y: pd.Series(y, name=3), "y"),
    "polars-unnamed": (pl.Series, "y"),
    "numpy": (np.asarray, "y"),
    "list": (lambda y: y.tolist(), "y"),
}


@pytest.mark.parametrize("estimator", [HybridClassifier, HybridRegressor])
@pytest.mark.parametrize(("container", "name"), NAMED.values(), ids=NAMED)
def test_the_target_has_the_name_of_y(estimator, container, name, tmp_path):
    y = (X[:, 0] > 0).astype(int) if estimator is HybridClassifier else X[:, 0] + 0.5
    model = estimator("nice", training=BRIEF, random_state=0).fit(X, container(y))
    assert model.blueprint_.target.names == (name,)
    model.save(tmp_path / "m.hflow")
    assert hybridflow.load(tmp_path / "m.hflow").blueprint_.target.names == (name,)


class Nothing(Config):
    """No parameters."""


class Plugin:
    """A plugin that is registered and not installed."""

    @hookimpl
    def hybridflow_flows(self):
        """Offer the identity."""
        return [FlowSpec("nothing", "The identity", Nothing, lambda event, config: Identity())]


def test_load_resolves_names_in_the_registry_that_it_is_given(tmp_path):
    registry = Registry(entry_points=False)
    registry.register(Plugin())
    path = tmp_path / "m.hflow"
    # A base that is trained, since the identity has nothing to train.
    model = FlowDensity("nothing", "mixture", training=BRIEF, registry=registry).fit(X)
    model.save(path)
    with pytest.raises(MissingPluginError, match="nothing"):
        FlowDensity.load(path)
    again = FlowDensity.load(path, registry=registry)
    assert np.array_equal(again.score_samples(X), model.score_samples(X))
    with pytest.raises(IncompatibleModelError, match="holds a FlowDensity"):
        HybridClassifier.load(path, registry=registry)
