"""Novelty as estimators answer it: p-values, rejection, abstention, reports, the detector."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import betabinom

from hybridflow import (
    FlowDensity,
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
    TrainingConfig,
    load,
)
from hybridflow.errors import ConfigError, UncalibratedWarning
from hybridflow.flows import NICE, SplineCoupling
from hybridflow.metrics import area_under_risk_coverage
from hybridflow.novelty import SCORES

SMALL = NICE(layers=2, hidden_units=8, hidden_layers=1)
BRIEF = TrainingConfig(steps=60, learning_rate=1e-2)
FAR = np.array([[30.0, -30.0], [300.0, 0.0]])


def rows(n: int, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 2))
    x[:, 1] += 0.8 * x[:, 0]
    return x


def labels(x: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=len(x))
    return (x[:, 0] + 0.5 * noise > 0).astype(int)


@pytest.fixture(scope="module")
def classifier() -> HybridClassifier:
    """One with calibration rows."""
    X = rows(2000)
    return HybridClassifier(SMALL, members=2, training=BRIEF, random_state=0).fit(X, labels(X))


@pytest.fixture(scope="module")
def regressor() -> HybridRegressor:
    """One that calibrates each member on its own fold."""
    X = rows(600)
    noise = np.random.default_rng(1).normal(size=len(X))
    model = HybridRegressor(SMALL, "normal", "gaussian", members=2, training=BRIEF, random_state=0)
    return model.fit(X, X[:, 0] + noise * 0.3)


@pytest.fixture(scope="module")
def detector() -> FlowOutlierDetector:
    return FlowOutlierDetector(SMALL, training=BRIEF, random_state=0).fit(rows(600))


# -- p-values ------------------------------------------------------------------


def test_source_and_scores(classifier: HybridClassifier, regressor: HybridRegressor) -> None:
    assert classifier.novelty_.source == "calibration"
    assert classifier.novelty_.rows == 200
    assert set(classifier.novelty_scores(rows(5))) == set(SCORES)
    assert regressor.novelty_.source == "folds"
    assert regressor.novelty_.rows == 90
    assert set(regressor.novelty_scores(rows(5))) == set(SCORES) - {"disagreement"}


def test_density_score_is_minus_the_log_density(classifier: HybridClassifier) -> None:
    X = rows(50, 3)
    np.testing.assert_allclose(
        classifier.novelty_scores(X)["density"], -classifier.score_samples(X)
    )


@pytest.mark.parametrize("score", ["combined", *SCORES])
def test_false_alarms_of_new_rows(classifier: HybridClassifier, score: str) -> None:
    """At 0.05 in the beta-binomial band of 200 and 5,000 rows; a false alarm in 10,000."""
    p = classifier.novelty_pvalue(rows(5000, 7), score)
    low, high = betabinom(5000, 10, 191).ppf([5e-5, 1 - 5e-5]) / 5000
    assert low <= (p <= 0.05).mean() <= high
    assert ((p > 0) & (p <= 1)).all()


@pytest.mark.parametrize("members", [1, 3])
def test_false_alarms_average_to_the_level(members: int) -> None:
    """Over 8 fits with folds of 150 rows: between 0.04 and 0.06, as is promised."""
    rates = []
    for seed in range(8):
        model = FlowOutlierDetector(
            NICE(layers=1, hidden_units=4, hidden_layers=1),
            members=members,
            training=TrainingConfig(steps=20),
            random_state=seed,
        ).fit(rows(750, seed))
        new = rows(2000, 100 + seed)
        rates.append([(model.novelty_pvalue(new) <= 0.05).mean(), (model.predict(new) < 0).mean()])
    # The standard deviation of one rate is 0.018 by its 150 rows, of the mean of 8 0.006.
    assert np.mean(rates, axis=0) == pytest.approx(0.05, abs=0.02)


def test_far_rows_have_the_smallest_pvalues(classifier: HybridClassifier) -> None:
    p = classifier.novelty_pvalue(np.vstack([FAR, rows(200)]))
    assert p[1] < p[0] < p[2:].min()
    assert p[0] == pytest.approx(1 / 201, rel=1e-5)


def test_a_row_alone_is_as_unusual_as_in_a_batch(regressor: HybridRegressor) -> None:
    X = np.vstack([rows(30, 5), rows(600)[:30]])
    together = regressor.novelty_pvalue(X)
    alone = [regressor.novelty_pvalue(X[[i]])[0] for i in range(len(X))]
    np.testing.assert_allclose(alone, together, rtol=1e-9)


def test_few_held_out_rows_warn_with_the_smallest_pvalue() -> None:
    X = rows(60)
    model = FlowDensity(SMALL, training=BRIEF, validation=np.arange(10), random_state=0).fit(X)
    with pytest.warns(
        UncalibratedWarning, match=r"there are 10.*smallest possible p-value is 0.091"
    ):
        p = model.novelty_pvalue(FAR)
    assert p.min() == pytest.approx(1 / 11, rel=1e-5)


def test_tables_that_hold_out_nothing_say_so() -> None:
    model = FlowDensity(SMALL, training=BRIEF, random_state=0).fit(rows(60))
    assert model.novelty_.source == "training"
    with pytest.warns(UncalibratedWarning, match="the training rows stand in"):
        assert model.novelty_pvalue(FAR).max() < 0.05


def test_weighted_calibration_rows_count_as_repeated() -> None:
    X = rows(400)
    weight = np.where(np.arange(400) % 2, 3.0, 1.0)
    held = np.arange(300, 400)
    model = FlowDensity(SMALL, training=BRIEF, calibration=held, random_state=0)
    model.fit(X, sample_weight=weight)
    assert model.novelty_.rows == 200
    p = model.novelty_pvalue(FAR)
    assert p == pytest.approx(1 / 201, rel=1e-5)


def test_unknown_score(classifier: HybridClassifier, regressor: HybridRegressor) -> None:
    with pytest.raises(ConfigError, match="did you mean 'latent'"):
        classifier.novelty_pvalue(FAR, "latnt")
    with pytest.raises(ConfigError, match="members=2 or more and calibration rows"):
        regressor.novelty_pvalue(FAR, "disagreement")


# -- rejection -----------------------------------------------------------------


def test_rejection_is_between_doubt_and_ignorance(classifier: HybridClassifier) -> None:
    X = rows(300, 9)
    score = classifier.rejection_score(X)
    raw = np.mean([law.probabilities for law in classifier._laws(classifier._read(X))], axis=0)
    doubt = 1 - raw.max(1)
    assert (score >= doubt - 1e-12).all()
    assert (score <= 0.5 + 1e-12).all()
    assert classifier.rejection_score([[300.0, 300.0]])[0] == pytest.approx(0.5)


def test_rejection_beats_confidence_on_shifted_rows(classifier: HybridClassifier) -> None:
    """Half of the rows come from where labels are a coin and the classifier is sure."""
    usual, rng = rows(1000, 11), np.random.default_rng(12)
    strange = rng.normal(size=(1000, 2)) * 0.5 + [4.0, -4.0]
    X = np.vstack([usual, strange])
    y = np.concatenate([labels(usual, 11), rng.integers(0, 2, 1000)])
    wrong = (classifier.predict(X) != y).astype(float)
    confident = -classifier.predict_proba(X).max(1)
    ours = area_under_risk_coverage(wrong, classifier.rejection_score(X))
    assert ours < 0.8 * area_under_risk_coverage(wrong, confident)
    # And costs little where nothing has shifted.
    ours = area_under_risk_coverage(wrong[:1000], classifier.rejection_score(usual))
    assert ours < 1.15 * area_under_risk_coverage(wrong[:1000], confident[:1000])


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_abstention_declines_a_share_of_usual_rows(
    classifier: HybridClassifier, alpha: float
) -> None:
    """In the beta-binomial band of 200 and 5,000 rows; a false alarm in 10,000."""
    rank = round(alpha * 200)
    low, high = betabinom(5000, rank, 201 - rank).ppf([5e-5, 1 - 5e-5]) / 5000
    assert low <= classifier.abstain(rows(5000, 13), alpha).mean() <= high


def test_abstention_of_a_regressor(regressor: HybridRegressor) -> None:
    assert regressor.abstain(FAR).all()
    assert regressor.abstain(rows(2000, 15), 0.1).mean() == pytest.approx(0.1, abs=0.06)
    score = regressor.rejection_score(FAR)
    assert (score >= 0.99).all()


def test_predictions_are_masked_where_it_abstains(
    classifier: HybridClassifier, regressor: HybridRegressor
) -> None:
    X = np.vstack([FAR, rows(20, 17)])
    for model in (classifier, regressor):
        found = model.predict_or_abstain(X)
        np.testing.assert_array_equal(found.mask, model.abstain(X))
        np.testing.assert_array_equal(found.data, model.predict(X))
    assert found.mask[:2].all()


@pytest.mark.parametrize("alpha", [0, 1, -0.1, "few", True, np.nan])
def test_levels_out_of_range(classifier: HybridClassifier, alpha: Any) -> None:
    with pytest.raises(ConfigError, match="alpha must lie between 0 and 1"):
        classifier.abstain(FAR, alpha)


def test_several_outputs_and_labels_are_masked_together() -> None:
    X = rows(300)
    several = HybridRegressor(SMALL, "normal", "gaussian", training=BRIEF, random_state=0)
    several.fit(X, np.column_stack([X[:, 0], 100 * X[:, 1]]))
    found = several.predict_or_abstain(FAR)
    assert found.shape == (2, 2)
    assert found.mask.all()
    tags = HybridClassifier(SMALL, "normal", "multi-label", training=BRIEF, random_state=0)
    tags.fit(X, np.column_stack([X[:, 0] > 0, X[:, 1] > 0]).astype(int))
    assert tags.rejection_score(FAR).shape == (2,)
    assert tags.predict_or_abstain(FAR).shape == (2, 2)


# -- the report ----------------------------------------------------------------


def test_report_names_the_column_that_is_off() -> None:
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 3)), columns=["age", "height", "weight"])
    model = FlowDensity(SMALL, training=BRIEF, random_state=0).fit(X)
    strange = pd.DataFrame([[0.0, 12.0, 0.1], [-15.0, 0.0, 0.2]], columns=X.columns)
    report = model.novelty_report(strange)
    assert [report.strangest(i, 1)[0][0] for i in range(2)] == ["height", "age"]
    assert report.contributions.min() >= 0
    np.testing.assert_array_equal(report.pvalues["combined"], model.novelty_pvalue(strange))
    assert "height" in str(report)
    assert report.to_frame().shape == (2, 4 + 5 + 3)


def test_report_of_a_flow_without_samples(
    regressor: HybridRegressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise NotImplementedError

    monkeypatch.setattr(HybridRegressor, "_draw", refuse)
    assert regressor.novelty_report(FAR).contributions is None


# -- the detector --------------------------------------------------------------


def test_recipe_has_three_flows_with_their_noise() -> None:
    model = FlowOutlierDetector(training=TrainingConfig(steps=2), random_state=0).fit(rows(300))
    flows = [model.blueprint_.of(member) for member in range(3)]
    names = [type(plan.flow).__name__ for plan in flows]
    assert names == ["RealNVP", "SplineCoupling", "NICE"]
    assert [model._training_for(plan).noise for plan in flows] == [0.2, 0.4, 0.1]
    given = FlowOutlierDetector(training=TrainingConfig(noise=0.3))
    assert given._training_for(flows[0]).noise == 0.3


def test_circles_leave_the_flows_that_take_them() -> None:
    from hybridflow import Circle

    X = rows(300)
    X[:, 1] = np.mod(X[:, 1], 24)
    model = FlowOutlierDetector(
        columns={1: Circle(period=24)}, training=TrainingConfig(steps=5), random_state=0
    ).fit(X)
    assert isinstance(model.blueprint_.flow, SplineCoupling)
    assert model.blueprint_.others == ()


def test_nested_parameters_of_the_automatic_flow() -> None:
    model = FlowOutlierDetector().set_params(flow__layers=2)
    assert isinstance(model.flow, SplineCoupling)
    assert model.flow.layers == 2


def test_decision_is_the_threshold_of_the_pvalue_with_calibration_rows() -> None:
    model = FlowOutlierDetector(SMALL, training=BRIEF, random_state=0).fit(rows(2000))
    assert model.novelty_.source == "calibration"
    new = np.vstack([rows(3000, 21), FAR])
    np.testing.assert_array_equal(model.predict(new) < 0, model.novelty_pvalue(new) <= 0.05)
    assert (model.predict(FAR) == -1).all()


def test_score_orders_as_the_density_does_far_out(detector: FlowOutlierDetector) -> None:
    ray = np.outer(np.geomspace(5, 1e4, 40), [1.0, -1.0])
    assert (np.diff(detector.score_samples(ray)) < 0).all()
    assert (np.diff(detector.log_density(ray)) < 0).all()


def test_noise_blurs_the_density() -> None:
    """Of rows N(0, 1) learned with noise 1: variance 2, by a flow that only scales."""
    X = np.random.default_rng(0).normal(size=(2000, 2))
    model = FlowOutlierDetector(
        "actnorm", members=1, training=TrainingConfig(noise=1.0), random_state=0
    ).fit(X)
    found = model.log_density(np.zeros((1, 2)))[0] - model.log_density(np.full((1, 2), 2.0))[0]
    assert found == pytest.approx(2 * 4 / 2 / 2, rel=0.1)


def test_rare_values_on_a_lattice_are_not_stretched() -> None:
    X = np.column_stack([rows(500), np.zeros(500)])
    X[:3, 2] = [1, 2, 1]
    model = FlowOutlierDetector(SMALL, members=1, training=BRIEF, random_state=0).fit(X)
    scale = model.models_[0].preprocess(model._read(np.array([[0.0, 0, 0], [0, 0, 4]])))[0][:, 2]
    assert float(scale[1] - scale[0]) == pytest.approx(1.0)


# -- files ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["classifier", "regressor", "detector"])
def test_a_saved_model_answers_the_same(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model = request.getfixturevalue(name)
    model.save(tmp_path / "m.hflow")
    again = load(tmp_path / "m.hflow")
    X = np.vstack([FAR, rows(20, 23)])
    np.testing.assert_array_equal(again.novelty_pvalue(X), model.novelty_pvalue(X))
    if name == "detector":
        np.testing.assert_array_equal(again.score_samples(X), model.score_samples(X))
        assert again.offset_ == model.offset_
    else:
        np.testing.assert_array_equal(again.abstain(X), model.abstain(X))


def test_recipe_survives_a_file(tmp_path: Path) -> None:
    model = FlowOutlierDetector(training=TrainingConfig(steps=5), random_state=0).fit(rows(300))
    model.save(tmp_path / "m.hflow")
    again = load(tmp_path / "m.hflow")
    np.testing.assert_array_equal(again.score_samples(FAR), model.score_samples(FAR))


def test_models_of_before_say_that_they_are_not_calibrated(
    classifier: HybridClassifier, detector: FlowOutlierDetector
) -> None:
    old = copy.copy(classifier)
    old.novelty_ = None
    for method in (old.novelty_pvalue, old.novelty_report, old.rejection_score, old.abstain):
        with pytest.raises(ConfigError, match="fit it again"):
            method(FAR)
    old = copy.copy(detector)
    old.novelty_ = None
    np.testing.assert_array_equal(old.score_samples(FAR), old.log_density(FAR))
