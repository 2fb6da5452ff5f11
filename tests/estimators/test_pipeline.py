"""The estimators among other people's code: pipelines, searches, threads, containers, seeds."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hybridflow import (
    FlowDensity,
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
    TrainingConfig,
)
from hybridflow.callbacks import Callback
from hybridflow.errors import ConcurrentFitError, InputError
from hybridflow.flows import SplineCoupling
from hybridflow.training import TrainingState

FLOW = SplineCoupling(layers=1, bins=4, hidden_units=8, hidden_layers=1)
BRIEF = TrainingConfig(steps=20)
ENOUGH = TrainingConfig(steps=150, learning_rate=1e-2)

N = 300
rng = np.random.default_rng(0)
LABELS = np.arange(N) % 2
X = rng.normal(size=(N, 3)) + 1.5 * LABELS[:, None] * [1.0, -1.0, 0.0]
NUMBERS = X[:, 0] + 0.3 * rng.normal(size=N)
ESTIMATORS = [FlowDensity, FlowOutlierDetector, HybridClassifier, HybridRegressor]

each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS)


def make(estimator: Any = HybridClassifier, **parameters: Any) -> Any:
    return estimator(**{"flow": FLOW, "training": BRIEF, "random_state": 0} | parameters)


@pytest.fixture(scope="module")
def classifier() -> HybridClassifier:
    return make(training=ENOUGH).fit(X, LABELS)


@pytest.fixture(scope="module")
def regressor() -> HybridRegressor:
    return make(HybridRegressor, head="gaussian", training=ENOUGH).fit(X, NUMBERS)


# -- scikit-learn ------------------------------------------------------------


@each_estimator
def test_pipeline(estimator: Any) -> None:
    model = make_pipeline(StandardScaler(), make(estimator)).fit(X, LABELS)
    expected = make(estimator).fit(StandardScaler().fit_transform(X), LABELS)
    np.testing.assert_array_equal(
        model.score_samples(X), expected.score_samples(StandardScaler().fit_transform(X))
    )
    assert model.transform(X).shape == (N, 3)
    np.testing.assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-6)


def test_density_is_in_the_units_of_the_data() -> None:
    one = make(FlowDensity).fit(X).score_samples(X)
    other = make(FlowDensity).fit(X * [1000.0, 1.0, 1.0]).score_samples(X * [1000.0, 1.0, 1.0])
    np.testing.assert_allclose(other, one - np.log(1000.0), atol=1e-3)


@pytest.mark.parametrize("flow", ["spline-coupling", FLOW], ids=["name", "config"])
def test_grid_search(flow: Any) -> None:
    search = GridSearchCV(
        make(flow=flow, training=TrainingConfig(steps=5)),
        {"flow__layers": [1, 2], "training__learning_rate": [1e-3, 1e-2]},
        cv=2,
        n_jobs=2,
    ).fit(X, LABELS)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert best.flow.layers == search.best_params_["flow__layers"]
    assert isinstance(best.flow, SplineCoupling)
    assert flow == "spline-coupling" or best.flow.hidden_units == 8


def test_set_params_leaves_a_shared_config_alone() -> None:
    first, second = make(), make()
    first.set_params(flow__layers=3)
    assert (first.flow.layers, second.flow.layers, FLOW.layers) == (3, 1, 1)
    assert first.get_params()["flow__layers"] == 3
    assert clone(first).flow.layers == 3


def test_cross_val_predict() -> None:
    found = cross_val_predict(make(training=ENOUGH), X, LABELS, cv=3, method="predict_proba")
    assert found.shape == (N, 2)
    assert (found.argmax(axis=1) == LABELS).mean() > 0.8


def test_calibrated_classifier() -> None:
    model = CalibratedClassifierCV(make(training=ENOUGH), cv=2).fit(X, LABELS)
    found = model.predict_proba(X)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert model.score(X, LABELS) > 0.8


@each_estimator
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_set_output(estimator: Any, container: str) -> None:
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    model = make(estimator).set_output(transform=container).fit(table, LABELS)
    found = model.transform(table)
    assert isinstance(found, pd.DataFrame if container == "pandas" else pl.DataFrame)
    expected = [f"{estimator.__name__.lower()}{i}" for i in range(3)]
    assert list(found.columns) == expected
    assert model.get_feature_names_out().tolist() == expected


def test_constant_columns_have_no_latent() -> None:
    table = X.copy()
    table[:, 1] = 7.0
    with pytest.warns(UserWarning, match="constant columns"):
        model = make().fit(table, LABELS)
    assert model.transform(table).shape == (N, 2)
    assert len(model.get_feature_names_out()) == 2
    np.testing.assert_allclose(model.inverse_transform(model.transform(table)), table, atol=1e-6)


@pytest.fixture
def _routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("_routing")
@pytest.mark.parametrize("asked", [True, False])
def test_sample_weight_is_routed(asked: bool) -> None:
    weight = np.where(np.arange(N) % 4 < 2, 1.0, 0.0)
    scaler = StandardScaler().set_fit_request(sample_weight=not asked)
    model = make().set_fit_request(sample_weight=asked).set_score_request(sample_weight=False)
    pipeline = make_pipeline(scaler, model).fit(X, LABELS, sample_weight=weight)
    scaled = StandardScaler().fit(X, sample_weight=None if asked else weight).transform(X)
    alone = make().fit(scaled, LABELS, sample_weight=weight if asked else None)
    np.testing.assert_array_equal(pipeline.score_samples(X), alone.score_samples(scaled))


@pytest.mark.usefixtures("_routing")
def test_sample_weight_is_routed_through_a_search() -> None:
    model = make().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    search = GridSearchCV(model, {"flow__layers": [1, 2]}, cv=2)
    weight = np.where(np.arange(N) % 4 < 2, 1.0, 0.0)
    found = search.fit(X, LABELS, sample_weight=weight).cv_results_["mean_test_score"]
    assert np.isfinite(found).all()


def test_only_weights_are_metadata() -> None:
    requests = make().get_metadata_routing()
    assert list(requests.fit.requests) == ["sample_weight"]
    assert list(requests.inverse_transform.requests) == []


def test_class_weight_moves_the_decision() -> None:
    overlapping = X * [0.3, 0.3, 1.0]

    def positives(class_weight: Any) -> float:
        model = make(class_weight=class_weight, training=ENOUGH, validation=None)
        return model.fit(overlapping, LABELS).predict_proba(overlapping)[:, 1].mean()

    assert positives({1: 9.0}) > positives(None) + 0.1
    assert positives({0: 9.0}) < positives(None) - 0.1


# -- seeds and the caller's process ------------------------------------------


@each_estimator
def test_fit_leaves_the_process_as_it_was(estimator: Any) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the state that must not change
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads = torch.get_num_threads()
    model = make(estimator).fit(X, LABELS)
    model.score_samples(X)
    model.sample(5, random_state=3)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.get_num_threads() == threads
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


@each_estimator
def test_the_callers_default_dtype_changes_nothing(estimator: Any) -> None:
    expected = make(estimator).fit(X, LABELS)
    torch.set_default_dtype(torch.float64)
    try:
        model = make(estimator).fit(X, LABELS)
        found, latent = model.score_samples(X), model.transform(X)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_array_equal(found, expected.score_samples(X))
    np.testing.assert_array_equal(latent, expected.transform(X))


def test_the_callers_random_state_changes_nothing() -> None:
    torch.manual_seed(1)
    one = make().fit(X, LABELS).score_samples(X)
    torch.manual_seed(2)
    np.testing.assert_array_equal(make().fit(X, LABELS).score_samples(X), one)


# -- threads -----------------------------------------------------------------


def together(*calls: Any) -> list[Any]:
    """Run calls in threads of their own and return what each returned or raised."""
    results: list[Any] = [None] * len(calls)

    def run(i: int) -> None:
        try:
            results[i] = calls[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


def test_two_models_in_two_threads() -> None:
    flows = (FLOW, FLOW.replace(layers=2))
    expected = [make(flow=flow).fit(X, LABELS).score_samples(X) for flow in flows]
    found = together(
        *(lambda flow=flow: make(flow=flow).fit(X, LABELS).score_samples(X) for flow in flows)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_model_in_eight_threads(classifier: HybridClassifier) -> None:
    expected = classifier.predict_proba(X), classifier.score_samples(X)
    for found in together(
        *[lambda: (classifier.predict_proba(X), classifier.score_samples(X))] * 8
    ):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


class Waiting(Callback):
    """Holds a fit at its start until it is let go."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()

    def on_fit_start(self, state: TrainingState) -> None:
        self.started.set()
        assert self.go.wait(60)


def test_one_object_is_not_fitted_twice_at_once() -> None:
    waiting = Waiting()
    model = make(callbacks=[waiting])
    thread = threading.Thread(target=model.fit, args=(X, LABELS))
    thread.start()
    try:
        assert waiting.started.wait(60)
        with pytest.raises(ConcurrentFitError, match="being fitted in another thread; fit a clone"):
            model.fit(X, LABELS)
    finally:
        waiting.go.set()
        thread.join(60)
    np.testing.assert_array_equal(model.score_samples(X), make().fit(X, LABELS).score_samples(X))
    model.fit(X, LABELS)  # and may be fitted again


# -- callbacks, members, missing labels --------------------------------------


class Recording(Callback):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_fit_start(self, state: TrainingState) -> None:
        self.calls.append("start")

    def on_step_end(self, state: TrainingState) -> None:
        self.calls.append(f"step {state.step}")

    def on_fit_end(self, state: TrainingState) -> None:
        self.calls.append("end")


def test_callbacks_see_every_step_of_every_member() -> None:
    recording = Recording()
    make(callbacks=[recording], members=2, training=TrainingConfig(steps=3)).fit(X, LABELS)
    assert recording.calls == ["start", "step 1", "step 2", "step 3", "end"] * 2


def untempered(model: Any) -> Any:
    """Return a model whose probabilities are those of its members."""
    model.calibration_ = model.calibration_.replace(temperature=1.0)
    return model


@pytest.mark.parametrize("estimator", [HybridClassifier, HybridRegressor])
def test_members_are_mixed_uniformly(estimator: Any) -> None:
    y = LABELS if estimator is HybridClassifier else NUMBERS
    model = untempered(make(estimator, members=2).fit(X, y))
    assert len(model.models_) == len(model.histories_) == 2

    def alone(i: int) -> Any:
        single = untempered(clone(model).fit(X, y))
        single.models_ = [model.models_[i]]
        return single

    singles = [alone(0), alone(1)]
    density = np.mean([np.exp(single.score_samples(X)) for single in singles], axis=0)
    assert not np.allclose(singles[0].score_samples(X), singles[1].score_samples(X), atol=1e-3)
    np.testing.assert_allclose(np.exp(model.score_samples(X)), density)
    np.testing.assert_allclose(
        model.predict_proba(X) if estimator is HybridClassifier else model.predict(X),
        np.mean(
            [
                single.predict_proba(X) if estimator is HybridClassifier else single.predict(X)
                for single in singles
            ],
            axis=0,
        ),
    )
    assert len(model.sample(7, random_state=0)[0]) == 7


def test_unlabelled_rows_train_the_density() -> None:
    y = np.where(np.arange(N) < 20, LABELS.astype(float), np.nan)
    few = make(training=ENOUGH).fit(X[:20], LABELS[:20])
    many = make(training=ENOUGH, validation=None).fit(X, y)
    assert (few.n_labeled_, many.n_labeled_) == (20, 20)
    fresh = np.random.default_rng(9)
    labels = np.arange(500) % 2
    rows = fresh.normal(size=(500, 3)) + 1.5 * labels[:, None] * [1.0, -1.0, 0.0]
    assert many.score_samples(rows).mean() > few.score_samples(rows).mean() + 0.05
    assert many.score(rows, labels) > 0.7


# -- joint scores and samples ------------------------------------------------


def test_score_joint_is_the_sum(classifier: HybridClassifier, regressor: HybridRegressor) -> None:
    chosen = classifier.predict_log_proba(X)[np.arange(N), LABELS]
    np.testing.assert_allclose(
        classifier.score_joint(X, LABELS), classifier.score_samples(X) + chosen
    )
    law = regressor.predict_distribution(X)
    np.testing.assert_allclose(
        regressor.score_joint(X, NUMBERS), regressor.score_samples(X) + law.log_prob(NUMBERS)
    )
    with pytest.raises(InputError, match=r"labels unseen in training: \[5\]"):
        classifier.score_joint(X, np.full(N, 5))
    for model in (classifier, regressor):
        with pytest.raises(InputError, match="contains NaN, first at row 3; every row needs"):
            model.score_joint(X, np.where(np.arange(N) == 3, np.nan, LABELS))


def as_pandas() -> Any:
    return pd.DataFrame(
        {
            "real": X[:, 0],
            "single": X[:, 1].astype("float32"),
            "whole": np.round(3 * X[:, 2]).astype("int16"),
            "flag": X[:, 0] > 0,
            "constant": np.full(N, 4, dtype="uint8"),
        }
    )


@pytest.mark.filterwarnings("ignore::hybridflow.errors.ConstantFeatureWarning")
@pytest.mark.parametrize("convert", [lambda table: table, pl.from_pandas], ids=["pandas", "polars"])
def test_samples_look_like_the_training_table(convert: Any) -> None:
    table = convert(as_pandas())
    model = make().fit(table, LABELS)
    drawn, labels = model.sample(50, random_state=0)
    assert type(drawn) is type(table)
    assert list(drawn.columns) == list(table.columns)
    assert list(drawn.dtypes) == list(table.dtypes)
    assert set(drawn["constant"].to_list()) == {4}
    assert labels.dtype == LABELS.dtype
    assert np.isfinite(model.score_samples(drawn)).all()
    assert len(model.sample(5, y=1, random_state=0)[0]) == 5


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
def test_samples_of_an_array_have_its_type(dtype: str) -> None:
    drawn = make(FlowDensity).fit((4 * X).astype(dtype)).sample(20, random_state=0)
    assert isinstance(drawn, np.ndarray)
    assert drawn.dtype == np.dtype(dtype)
    assert drawn.shape == (20, 3)


@each_estimator
def test_samples_repeat_with_the_seed(estimator: Any) -> None:
    model = make(estimator).fit(X, LABELS)

    def draw(seed: Any) -> np.ndarray:
        drawn = model.sample(20, random_state=seed)
        return drawn[0] if isinstance(drawn, tuple) else drawn

    np.testing.assert_array_equal(draw(1), draw(1))
    assert not np.array_equal(draw(1), draw(2))
    assert not np.array_equal(draw(None), draw(None))


def test_samples_of_a_class_agree_with_weighted_ones(classifier: HybridClassifier) -> None:
    proposals, _ = classifier.sample(20_000, random_state=1)
    given, labels = classifier.sample(5_000, y=1, random_state=2)
    assert (labels == 1).all()
    weight = classifier.predict_proba(proposals)[:, 1]
    weight /= weight.sum()
    for moment in (lambda rows: rows, np.square):
        expected = weight @ moment(proposals)
        spread = moment(proposals).std(axis=0)
        error = spread * np.sqrt(1 / 5_000 + (weight**2).sum())
        assert (np.abs(moment(given).mean(axis=0) - expected) < 5 * error).all()


def test_labels_of_samples_follow_the_probabilities(classifier: HybridClassifier) -> None:
    rows, labels = classifier.sample(20_000, random_state=3)
    probability = classifier.predict_proba(rows)[:, 1]
    error = np.sqrt((probability * (1 - probability)).sum()) / len(rows)
    assert labels.mean() == pytest.approx(probability.mean(), abs=5 * error)
    sure = probability > 0.8
    assert labels[sure].mean() == pytest.approx(probability[sure].mean(), abs=0.02)


def test_samples_given_a_number(regressor: HybridRegressor) -> None:
    rows, numbers = regressor.sample(2_000, y=1.5, random_state=0)
    assert (numbers == 1.5).all()
    proposals, _ = regressor.sample(20_000, random_state=1)
    weight = np.exp(regressor.predict_distribution(proposals).log_prob(np.full(20_000, 1.5)))
    weight /= weight.sum()
    error = proposals.std(axis=0) * np.sqrt(1 / 2_000 + (weight**2).sum())
    assert (np.abs(rows.mean(axis=0) - weight @ proposals) < 5 * error).all()


# -- outliers ----------------------------------------------------------------


@pytest.mark.parametrize("contamination", [0.02, 0.1, 0.5])
def test_contamination_is_the_share_of_training_rows(contamination: float) -> None:
    model = make(FlowOutlierDetector, contamination=contamination).fit(X)
    assert (model.predict(X) == -1).sum() == round(contamination * N)
    np.testing.assert_allclose(model.decision_function(X), model.score_samples(X) - model.offset_)


def test_automatic_threshold_calls_one_new_row_in_twenty_an_outlier() -> None:
    rows = np.random.default_rng(4).normal(size=(2000, 2))
    model = make(FlowOutlierDetector, training=ENOUGH).fit(rows[:1000])
    assert (model.predict(rows[1000:]) == -1).mean() == pytest.approx(0.05, abs=0.04)
    assert model.predict([[9.0, -9.0], [0.0, 0.0]]).tolist() == [-1, 1]


@pytest.mark.parametrize("contamination", [0.0, 0.6, -1, "few", True, None, np.nan])
def test_contamination_out_of_range(contamination: Any) -> None:
    with pytest.raises(ValueError, match=r"contamination must be 'auto' or lie in \(0, 0.5\]"):
        make(FlowOutlierDetector, contamination=contamination).fit(X)


def test_latents_feed_another_model() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make_pipeline(make(FlowDensity), LogisticRegression()).fit(X, LABELS)
    assert model.score(X, LABELS) > 0.8
