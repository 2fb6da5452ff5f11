"""Every built-in part exports, or says that it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybridflow import FlowDensity, HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.config import Config, Int
from hybridflow.errors import ExportError
from hybridflow.estimators.base import FlowEstimator
from hybridflow.export import to_onnx
from hybridflow.registry import Kind, default_registry
from hybridflow.specs import FlowSpec, HeadSpec

REGISTRY = default_registry()
BRIEF = TrainingConfig(steps=4)
X = np.random.default_rng(0).normal(size=(120, 3))
NOISE = np.random.default_rng(1).normal(size=120)
COUNTS = np.random.default_rng(2).poisson(np.exp(X[:, 0] / 2))

# Of each kind one that is fast, and one that has no graph.
ALWAYS = {"maf", "planar", "student-t", "poisson", "spline"}
NOT = {"i-resnet", "residual-flow", "planar", "quantile", "spline"}
NAMED = [(entry.kind, entry.name) for entry in REGISTRY.entries() if entry.status == "built-in"]


def smallest(config: type[Config]) -> Config:
    """Return the settings of the fewest layers: what an export takes grows with them."""
    low = {name: s.low for name, s in config.space().items() if isinstance(s, Int)}
    return config(**low)


def fitted(kind: Kind, name: str) -> FlowEstimator:
    spec, _ = REGISTRY.resolve(kind, name)
    options = {"members": 1, "training": BRIEF, "random_state": 0}
    if isinstance(spec, FlowSpec):
        return FlowDensity(smallest(spec.config), **options).fit(X)
    if not isinstance(spec, HeadSpec):
        if name == "class-conditional":
            return HybridClassifier("actnorm", name, **options).fit(X, X[:, 0] > 0)
        return FlowDensity("actnorm", name, **options).fit(X)
    base = spec.requires_base or "normal"
    if "regression" in spec.tasks:
        real = X[:, 0] + NOISE
        counted = {"poisson", "bayesian-poisson", "negative-binomial", "zero-inflated"}
        y = COUNTS if name in counted else real
        if name in ("gamma", "weibull", "log-normal"):
            y = np.exp(real)
        if name == "beta":
            y = 1 / (1 + np.exp(-real))
        return HybridRegressor("actnorm", base, name, **options).fit(X, y)
    y = {"multi-label": X[:, :2] > 0, "ordinal": np.digitize(X[:, 0], [-0.5, 0.5])}.get(
        name, X[:, 0] > 0
    )
    return HybridClassifier("actnorm", base, name, **options).fit(X, np.asarray(y).astype(int))


@pytest.mark.filterwarnings("ignore::hybridflow.errors.HybridFlowWarning")
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(kind, name, marks=[] if name in ALWAYS else pytest.mark.slow)
        for kind, name in NAMED
    ],
    ids=[f"{kind}-{name}" for kind, name in NAMED],
)
def test_it_exports_or_says_that_it_does_not(kind: Kind, name: str, tmp_path: Path) -> None:
    spec, _ = REGISTRY.resolve(kind, name)
    model = fitted(kind, name)
    model.audit_ = None  # after four steps it need not be good
    if not spec.onnx:
        with pytest.raises(ExportError, match=f"{kind} '{name}' cannot be exported"):
            to_onnx(model, tmp_path)
        assert list(tmp_path.iterdir()) == []
        return
    export = to_onnx(model, tmp_path)
    assert (tmp_path / "predict.onnx").exists()
    assert all(difference.ok for difference in export.differences)
    assert ((tmp_path / "sample.onnx").exists()) == ("sample.onnx" not in export.left_out)


def test_the_list_of_those_that_do_not_is_this() -> None:
    assert {name for kind, name in NAMED if not REGISTRY.resolve(kind, name)[0].onnx} == NOT


def test_a_target_on_a_lattice_is_refused_by_heads_that_cannot_round(tmp_path: Path) -> None:
    model = HybridRegressor("actnorm", head="student-t", members=1, training=BRIEF, random_state=0)
    model.fit(X, np.round(4 * X[:, 0]))
    with pytest.raises(ExportError, match="StudentT of a target on a lattice of step 1"):
        to_onnx(model, tmp_path)
