"""Displays of fitted estimators hold the answers that these give."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hybridflow import FlowDensity
from hybridflow.errors import InputError
from hybridflow.metrics import coverage_band, negative_log_likelihood, pit_values
from hybridflow.plots import (
    CoverageDisplay,
    DensityHistogramDisplay,
    LatentDisplay,
    LearningCurveDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    SamplesDisplay,
)


def test_learning_curves_are_the_histories(classifier):
    display = LearningCurveDisplay.from_estimator(classifier.model)
    assert len(display.steps) == 2
    for member, history in enumerate(classifier.model.histories_):
        assert display.steps[member].tolist() == [record.step for record in history]
        assert display.task[member].tolist() == [record.task for record in history]
        assert display.density[member].tolist() == [record.density for record in history]
        values = [record.value for record in history]
        assert values[display.lowest[member]] == min(values)
    assert len(display.axes_) == 2


def test_learning_curves_of_a_density_have_one_panel(detector):
    display = LearningCurveDisplay.from_estimator(detector.model)
    assert display.task is None
    assert len(display.axes_) == 1


def test_learning_curves_need_a_fit():
    with pytest.raises(NotFittedError):
        LearningCurveDisplay.from_estimator(FlowDensity())
    with pytest.raises(InputError, match="at least one record"):
        LearningCurveDisplay.from_predictions([[]])


def test_displays_look_into_a_pipeline(regressor):
    pipeline = make_pipeline(StandardScaler(), regressor.model)
    pipeline[0].fit(regressor.X)
    pipeline[0].scale_ = np.ones(10)
    pipeline[0].mean_ = np.zeros(10)
    display = LearningCurveDisplay.from_estimator(pipeline)
    assert len(display.density) == len(regressor.model.models_)
    latent = LatentDisplay.from_estimator(pipeline, regressor.X_test, regressor.y_test)
    direct = LatentDisplay.from_estimator(regressor.model, regressor.X_test)
    np.testing.assert_allclose(latent.points, direct.points)


def test_reliability_of_estimators(classifier, regressor):
    of_labels = ReliabilityDisplay.from_estimator(
        classifier.model, classifier.X_test, classifier.y_test
    )
    confidence = classifier.model.predict_proba(classifier.X_test).max(axis=1)
    assert of_labels.counts.sum() == len(confidence)
    assert of_labels.stated.min() >= confidence.min()
    of_numbers = ReliabilityDisplay.from_estimator(
        regressor.model, regressor.X_test, regressor.y_test, n_bins=4, random_state=0
    )
    law = regressor.model.predict_distribution(regressor.X_test)
    pit = pit_values(regressor.y_test, law, random_state=0)
    assert of_numbers.counts.tolist() == np.histogram(pit, 4, (0, 1))[0].tolist()
    assert np.isfinite(negative_log_likelihood(regressor.y_test, law))


def test_risk_of_a_classifier_is_its_error(classifier):
    X, y = classifier.X_test, classifier.y_test
    display = RiskCoverageDisplay.from_estimator(
        classifier.model, X, y, scores={"mine": np.arange(len(y))}
    )
    assert {"1 - largest probability", "-log p(x)", "mine"} <= set(display.risk)
    assert display.best[-1] == pytest.approx(1 - classifier.model.score(X, y))


def test_risk_of_a_regressor_is_its_absolute_error(regressor):
    X, y = regressor.X_test, regressor.y_test
    display = RiskCoverageDisplay.from_estimator(regressor.model, X, y)
    error = np.abs(regressor.model.predict(X) - y).mean()
    assert display.risk["predicted standard deviation"][-1] == pytest.approx(error)


def test_threshold_of_a_detector_is_drawn(detector):
    display = DensityHistogramDisplay.from_estimator(
        detector.model, {"train": detector.X, "far": detector.X + 50}
    )
    assert display.threshold == detector.model.offset_
    labels = detector.model.predict(detector.X)
    assert display.below["train"] == pytest.approx(np.mean(labels == -1))
    assert display.below["far"] == 1


def test_latent_axes_are_principal(regressor):
    display = LatentDisplay.from_estimator(regressor.model, regressor.X, regressor.y)
    z = regressor.model.transform(regressor.X)
    _, singular, axes = np.linalg.svd(z - z.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(display.axes @ axes[:2].T), np.eye(2), atol=1e-8)
    np.testing.assert_allclose(display.explained, (singular**2 / (singular**2).sum())[:2])
    np.testing.assert_allclose(display.points, (z - z.mean(axis=0)) @ display.axes.T)


def test_contours_hold_what_they_say():
    """Of a standard normal base: circles whose radii are quantiles of chi."""
    rng = np.random.default_rng(0)
    display = LatentDisplay.from_predictions(
        rng.normal(size=(50, 4)), base=rng.normal(size=(200_000, 4))
    )
    centre = display.base.mean(axis=0)
    contours = display.ax_.collections[-1]
    radii = [np.hypot(*(path.vertices - centre).T).mean() for path in contours.get_paths()]
    expected = np.sqrt(-2 * np.log(1 - np.array([0.99, 0.9, 0.5])))
    np.testing.assert_allclose(radii, expected, rtol=0.05)


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        (np.array(list("abc") * 10), "classes"),
        (np.arange(30) % 3, "classes"),
        (np.arange(30) / 7, "numbers"),
        (np.arange(30), "numbers"),
        (None, "none"),
    ],
    ids=["text", "codes", "floats", "many-integers", "none"],
)
def test_latent_is_coloured_by_labels_or_by_numbers(y, kind):
    z = np.random.default_rng(0).normal(size=(30, 2))
    display = LatentDisplay.from_predictions(z, y)
    assert (display.ax_.get_legend() is not None) == (kind == "classes")
    assert (len(display.figure_.axes) == 2) == (kind == "numbers")


@pytest.mark.parametrize(
    ("z", "settings", "message"),
    [
        (np.zeros((9, 0)), {}, "at least two rows and two dimensions"),
        (np.zeros((9, 1)), {}, "at least two rows and two dimensions"),
        (np.zeros((9, 3)), {"y": [1]}, "y has shape"),
        (np.zeros((9, 3)), {"base": np.zeros((5, 2))}, "base has shape"),
    ],
    ids=["no-column", "one-column", "y", "base"],
)
def test_latent_names_what_it_cannot_use(z, settings, message):
    with pytest.raises(InputError, match=message):
        LatentDisplay.from_predictions(z, **settings)


def test_samples_are_those_of_the_model(classifier):
    display = SamplesDisplay.from_estimator(
        classifier.model,
        classifier.X,
        columns=[0, "petal width (cm)"],
        n_samples=50,
        random_state=3,
    )
    X, _ = classifier.model.sample(50, random_state=3)
    assert [v.name for v in display.variables] == ["sepal length (cm)", "petal width (cm)"]
    np.testing.assert_array_equal(display.variables[1].samples, X["petal width (cm)"])
    np.testing.assert_array_equal(display.variables[0].data, classifier.X["sepal length (cm)"])


class Interval(RegressorMixin, BaseEstimator):
    """Covers y from 0 up to ten times the coverage."""

    def predict_interval(self, X, coverage):
        return np.column_stack([np.zeros(len(X)), np.full(len(X), 10 * coverage)])


class Sets(ClassifierMixin, BaseEstimator):
    """The sets of two rows over the labels a, b, c."""

    classes_ = np.array(["a", "b", "c"])

    def predict_set(self, X, coverage):
        return np.array([[True, False, True], [False, True, False]])


def test_coverage_of_intervals():
    display = CoverageDisplay.from_estimator(
        Interval(),
        np.zeros((4, 1)),
        [1.0, 8.0, 9.5, -1.0],
        coverage=0.8,
        groups=["u", "u", "v", "v"],
    )
    assert display.share.tolist() == [1.0, 0.0, 0.5]
    assert display.coverage == 0.8


def test_coverage_of_sets():
    display = CoverageDisplay.from_estimator(Sets(), np.zeros((2, 1)), ["c", "a"])
    assert display.share.tolist() == [0.5]
    unknown = CoverageDisplay.from_estimator(Sets(), np.zeros((2, 1)), ["z", "b"])
    assert unknown.share.tolist() == [0.5]


def test_coverage_takes_an_interval_a_row():
    with pytest.raises(InputError, match=r"expected \(3, 2\): draw one output at a time"):
        CoverageDisplay.from_estimator(Interval(), np.zeros((2, 1)), [1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="sets of shape"):
        CoverageDisplay.from_estimator(Sets(), np.zeros((3, 1)), ["a", "b", "c"])


def test_coverage_of_fitted_estimators_knows_their_calibration_rows(regressor):
    model, X, y = regressor.model, regressor.X_test, regressor.y_test
    display = CoverageDisplay.from_estimator(model, X, y, groups=X[:, 1] > 0, coverage=0.8)
    interval = model.predict_interval(X, 0.8)
    covered = (interval[:, 0] <= y) & (y <= interval[:, 1])
    assert display.groups == ("False", "True", "all rows")
    assert display.share[-1] == covered.mean()
    band = coverage_band(len(y), 0.8, n_calibration=int(model.calibration_.output(0).rows))
    assert (display.lower[-1], display.upper[-1]) == band
