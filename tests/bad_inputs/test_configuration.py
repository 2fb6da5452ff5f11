"""Settings that cannot be used, and the life of an estimator: rows C of the list.

C11 and C12 (files and flags) are tested with the command line. There is no
`partial_fit`, so that nothing answers to C14.
"""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import hybridflow
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

N = 150
X = np.random.default_rng(0).normal(size=(N, 3))
LABELS = (X[:, 0] > 0).astype(int)
ESTIMATORS = [FlowDensity, FlowOutlierDetector, HybridClassifier, HybridRegressor]

each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)


def make(estimator: Any = HybridClassifier, **parameters: Any) -> Any:
    return estimator(**{"flow": FLOW, "training": BRIEF, "random_state": 0} | parameters)


@pytest.fixture(scope="module")
def fitted() -> HybridClassifier:
    return make().fit(X, LABELS)


CALLS = {
    "score_samples": lambda model, path: model.score_samples(X),
    "transform": lambda model, path: model.transform(X),
    "inverse_transform": lambda model, path: model.inverse_transform(X),
    "sample": lambda model, path: model.sample(3),
    "save": lambda model, path: model.save(path / "model.hflow"),
    "predict": lambda model, path: model.predict(X),
    "predict_proba": lambda model, path: model.predict_proba(X),
    "predict_distribution": lambda model, path: model.predict_distribution(X),
    "decision_function": lambda model, path: model.decision_function(X),
    "score": lambda model, path: model.score(X, LABELS),
    "score_joint": lambda model, path: model.score_joint(X, LABELS),
    "get_feature_names_out": lambda model, path: model.get_feature_names_out(),
}


@each_estimator
@pytest.mark.parametrize("call", CALLS)
def test_c01_before_fit(estimator: Any, call: str, tmp_path: Path) -> None:
    model = make(estimator)
    if not hasattr(model, call):
        return
    with pytest.raises(NotFittedError):
        CALLS[call](model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@each_estimator
def test_c02_unknown_parameter(estimator: Any) -> None:
    with pytest.raises(TypeError, match="flaw"):
        estimator(flaw="maf")
    with pytest.raises(ConfigError, match=r"invalid parameter 'flaw'.*did you mean 'flow'"):
        make(estimator).set_params(flaw="maf")
    with pytest.raises(ConfigError, match=r"unknown parameter.*did you mean 'layers'"):
        make(estimator).set_params(flow__layer=3)
    with pytest.raises(ConfigError, match="device has no parameters of its own"):
        make(estimator).set_params(device__index=3)


@each_estimator
def test_c03_unknown_component(estimator: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        make(estimator, flow="splin-coupling").fit(X, LABELS)
    assert "unknown flow 'splin-coupling'" in str(caught.value)
    assert "did you mean 'spline-coupling'" in str(caught.value)
    with pytest.raises(ConfigError, match=r"unknown base 'gauss'; installed are .*normal"):
        make(estimator, base="gauss").fit(X, LABELS)


@pytest.mark.parametrize("layers", [0, -1, 1.5, "8", None, True])
def test_c04_layers_out_of_range(layers: Any) -> None:
    with pytest.raises(ConfigError, match="layers"):
        SplineCoupling(layers=layers)
    with pytest.raises(ConfigError, match="layers"):
        make().set_params(flow__layers=layers)


@pytest.mark.parametrize("value", [-0.1, np.inf, np.nan, "1", True, None])
def test_c05_likelihood_weight(value: Any) -> None:
    for estimator in (HybridClassifier, HybridRegressor):
        with pytest.raises(ConfigError, match="likelihood_weight must be a finite number >= 0"):
            make(estimator, likelihood_weight=value).fit(X, LABELS)


def test_c06_head_for_another_task() -> None:
    with pytest.raises(
        ConfigError, match="head 'poisson' is for regression, not for classification"
    ):
        make(head="poisson").fit(X, np.where(LABELS == 1, "a", "b"))
    with pytest.raises(
        ConfigError, match="'categorical' is for classification, not for regression"
    ):
        make(HybridRegressor, head="categorical").fit(X, X[:, 0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_c07_no_gpu() -> None:
    for device in ("cuda", "cuda:7"):
        with pytest.raises(ConfigError, match=f"no CUDA device for device='{device}'; use device="):
            make(device=device).fit(X, LABELS)
    model = make(device="auto").fit(X, LABELS)
    assert model.models_[0].step.device.type == "cpu"


@pytest.mark.parametrize("device", ["tpu", "cpu:x", "", None, 3, "meta", "mps"])
def test_c07_no_such_device(device: Any) -> None:
    with pytest.raises(ConfigError, match="device must be 'cpu', 'cuda', 'cuda:N' or 'auto'"):
        make(device=device).fit(X, LABELS)


def test_c08_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="no device 'cuda:7'; there are 'cuda:0', 'cuda:1'"):
        make(device="cuda:7").fit(X, LABELS)


LOAD_WITHOUT_GPU = """
import sys
import numpy as np
import hybridflow, torch
assert not torch.cuda.is_available()
model = hybridflow.load(sys.argv[1])
np.save(sys.argv[3], model.score_samples(np.load(sys.argv[2])))
"""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_c09_from_gpu_to_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(device="cuda").fit(X, LABELS)
    assert model.models_[0].step.device.type == "cuda"
    assert model.predict(X).shape == (N,)
    model.sample(3, y=1, random_state=0)
    expected = model.score_samples(X)
    model.save(tmp_path / "model.hflow")
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    files = [str(tmp_path / name) for name in ("model.hflow", "x.npy", "scores.npy")]
    subprocess.run([sys.executable, "-c", LOAD_WITHOUT_GPU, *files], check=True)
    np.testing.assert_allclose(np.load(files[2]), expected, atol=1e-4)
    np.testing.assert_allclose(hybridflow.load(files[0]).score_samples(X), expected, atol=1e-4)


@pytest.mark.parametrize("seed", ["zero", 1.5, -1, np.random.default_rng(0)])
def test_c10_invalid_seed(seed: Any, fitted: HybridClassifier) -> None:
    with pytest.raises(ConfigError, match=r"random_state: .*pass a whole number"):
        make(random_state=seed).fit(X, LABELS)
    with pytest.raises(ConfigError, match=r"random_state: .*pass a whole number"):
        fitted.sample(3, random_state=seed)


@each_estimator
def test_c10_the_same_seed_gives_the_same_bits(estimator: Any) -> None:
    seeds = [3, np.int64(3), np.random.RandomState(3)]
    scores = [make(estimator, random_state=s).fit(X, LABELS).score_samples(X) for s in seeds]
    np.testing.assert_array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])
    other = make(estimator, random_state=4).fit(X, LABELS).score_samples(X)
    assert not np.array_equal(scores[0], other)
    make(estimator, random_state=None).fit(X, LABELS)


@each_estimator
def test_c13_refit_on_other_columns(estimator: Any) -> None:
    names = ["a", "b", "c"]
    again = make(estimator).fit(pd.DataFrame(X, columns=names), LABELS)
    again.fit(X[:, :2], X[:, 2] > 1)
    fresh = make(estimator).fit(X[:, :2], X[:, 2] > 1)
    assert again.n_features_in_ == 2
    assert not hasattr(again, "feature_names_in_")
    assert sorted(vars(again)) == sorted(vars(fresh))
    np.testing.assert_array_equal(again.score_samples(X[:, :2]), fresh.score_samples(X[:, :2]))


@each_estimator
def test_c15_number_of_samples(estimator: Any) -> None:
    model = make(estimator).fit(X, LABELS)

    def rows(drawn: Any) -> np.ndarray:
        return drawn[0] if isinstance(drawn, tuple) else drawn

    assert rows(model.sample(0)).shape == (0, 3)
    for wrong in (-1, 1.5, "3", True, None):
        with pytest.raises(ConfigError, match="n_samples must be a whole number >= 0"):
            model.sample(wrong)
    with pytest.raises(ConfigError, match="do not fit into memory; draw at most"):
        model.sample(10**9)
    if estimator in (HybridClassifier, HybridRegressor):
        assert rows(model.sample(0, y=1)).shape == (0, 3)
        with pytest.raises(ConfigError, match="do not fit into memory"):
            model.sample(10**9, y=1)


def test_c15_sample_of_an_unknown_class(fitted: HybridClassifier) -> None:
    with pytest.raises(InputError, match=r"y=7 is not a class of the model; known are \[0, 1\]"):
        fitted.sample(3, y=7)


def through_joblib(model: Any) -> Any:
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@each_estimator
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model)), through_joblib],
    ids=["deepcopy", "pickle", "joblib"],
)
def test_c16_copies(estimator: Any, copied: Any) -> None:
    model = make(estimator).fit(X, LABELS)
    twin = copied(model)
    np.testing.assert_array_equal(twin.score_samples(X), model.score_samples(X))
    np.testing.assert_array_equal(twin.transform(X), model.transform(X))
    twin.fit(X[:, :2], LABELS)  # a copy is a model of its own
    assert model.score_samples(X).shape == (N,)


@each_estimator
def test_c16_clone(estimator: Any) -> None:
    model = make(estimator).fit(X, LABELS)
    twin = clone(model)
    assert twin.get_params(deep=False) == model.get_params(deep=False)
    with pytest.raises(NotFittedError):
        twin.score_samples(X)
    np.testing.assert_array_equal(twin.fit(X, LABELS).score_samples(X), model.score_samples(X))


def scores_of(model: Any, rows: np.ndarray) -> np.ndarray:
    return model.score_samples(rows)


def fitted_scores(model: Any, rows: np.ndarray, y: np.ndarray) -> np.ndarray:
    return model.fit(rows, y).score_samples(rows)


def test_c16_several_processes(fitted: HybridClassifier) -> None:
    large = np.resize(X, (20_000, 3))  # beyond a megabyte, joblib hands on a read-only map
    pool = joblib.Parallel(n_jobs=2, max_nbytes=100_000)
    expected = fitted.score_samples(large)
    for found in pool(joblib.delayed(scores_of)(fitted, large) for _ in range(2)):
        np.testing.assert_array_equal(found, expected)
    expected = fitted.score_samples(X)
    for found in pool(joblib.delayed(fitted_scores)(clone(fitted), X, LABELS) for _ in range(2)):
        np.testing.assert_array_equal(found, expected)
