"""Intervals, sets and temperature of fitted estimators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import betabinom
from sklearn.base import clone
from sklearn.model_selection import KFold, ShuffleSplit

from hybridflow import HybridClassifier, HybridRegressor, TrainingConfig, load
from hybridflow.bundle import verify
from hybridflow.calibration import tempered
from hybridflow.calibration.conformal import Calibration, Conformal, Fold
from hybridflow.errors import ConfigError, CorruptModelError, InputError, UncalibratedWarning
from hybridflow.flows import RealNVP

FLOW = RealNVP(layers=2, hidden_units=8, hidden_layers=1)
QUICK = TrainingConfig(steps=60)
FALSE_ALARM = 1e-5  # of each test of a coverage
Floats = NDArray[np.float64]


def table(n: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Return rows and a number with a spread that a quick fit does not get right."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2))
    return X, 3 * X[:, 0] + np.exp(0.5 * X[:, 1]) * rng.standard_t(3, size=n)


def kinds(y: Floats) -> NDArray[np.str_]:
    return np.array(["low", "middle", "high"])[np.digitize(y, [-1.0, 1.5])]


def regressor(**parameters: object) -> HybridRegressor:
    return HybridRegressor(FLOW, training=QUICK, random_state=0, **{"members": 1} | parameters)


def classifier(**parameters: object) -> HybridClassifier:
    return HybridClassifier(FLOW, training=QUICK, random_state=0, **{"members": 1} | parameters)


@pytest.fixture(scope="module")
def shared() -> HybridRegressor:
    """Two members and 400 rows that neither has seen."""
    return regressor(members=2, calibration=0.2).fit(*table(2000))


@pytest.fixture(scope="module")
def folded() -> HybridRegressor:
    return regressor(members=3, validation=0.25).fit(*table(600))


@pytest.fixture(scope="module")
def labelled() -> HybridClassifier:
    X, y = table(2000)
    return classifier(members=2, calibration=0.2).fit(X, kinds(y))


def covered(model: HybridRegressor, coverage: float) -> float:
    X, y = table(4000, seed=1)
    lower, upper = model.predict_interval(X, coverage).T
    return float(((lower <= y) & (y <= upper)).mean())


def band(calibration: int, coverage: float) -> tuple[float, float]:
    rank = int(np.ceil((calibration + 1) * coverage - 1e-9))
    law = betabinom(4000, rank, calibration + 1 - rank)
    return law.ppf(FALSE_ALARM / 2) / 4000, law.ppf(1 - FALSE_ALARM / 2) / 4000


# -- intervals ------------------------------------------------------------


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.97])
def test_intervals_cover(shared: HybridRegressor, coverage: float) -> None:
    assert shared.calibration_.unseen
    assert shared.calibration_.output(0).rows == 400
    low, high = band(400, coverage)
    assert low <= covered(shared, coverage) <= high


def test_intervals_of_members_on_their_own_folds_cover(folded: HybridRegressor) -> None:
    folds = folded.calibration_.output(0).folds
    assert not folded.calibration_.unseen
    assert [
        (fold.members, len(fold.scores)) for fold in sorted(folds, key=lambda f: f.members)
    ] == [
        ((0,), 150),
        ((1,), 150),
        ((2,), 150),
    ]
    low, high = band(450, 0.9)  # of split-conformal; that of CV+ has no closed form
    assert low <= covered(folded, 0.9) <= high


def test_an_interval_has_the_order_of_its_coverage(shared: HybridRegressor) -> None:
    X, _ = table(20, seed=2)
    inner, outer = shared.predict_interval(X, 0.5), shared.predict_interval(X, 0.95)
    median = shared.predict_quantile(X, 0.5)
    assert (outer[:, 0] < inner[:, 0]).all()
    assert (inner[:, 0] < median).all()
    assert (median < inner[:, 1]).all()
    assert (inner[:, 1] < outer[:, 1]).all()


def test_intervals_do_not_depend_on_the_other_rows(folded: HybridRegressor) -> None:
    X, _ = table(20, seed=2)
    alone = np.concatenate([folded.predict_interval(X[i : i + 1]) for i in range(20)])
    np.testing.assert_allclose(folded.predict_interval(X), alone, rtol=1e-9)


def test_intervals_of_whole_numbers_end_on_them() -> None:
    X, y = table(400)
    model = regressor(members=2).fit(X, 3 * np.round(y))
    ends = model.predict_interval(X[:50])
    np.testing.assert_allclose(ends, 3 * np.round(ends / 3), atol=1e-9)
    assert (ends[:, 0] < ends[:, 1]).all()


def test_intervals_of_several_outputs() -> None:
    X, y = table(400)
    both = np.column_stack([y, 100 + 10 * X[:, 1]])
    both[::3, 1] = np.nan
    model = regressor(head="gaussian").fit(X, both)
    ends = model.predict_interval(X[:10], 0.8)
    assert ends.shape == (10, 2, 2)
    assert (ends[:, 0].mean() < 50) & (ends[:, 1].mean() > 50)
    assert model.predict_quantile(X[:10], [0.1, 0.5, 0.9]).shape == (10, 3, 2)
    rows = [model.calibration_.output(i).rows for i in range(2)]
    assert rows[0] == 60
    assert 30 <= rows[1] <= 50


def test_unlabelled_rows_do_not_calibrate() -> None:
    X, y = table(400)
    y[::4] = np.nan
    model = regressor(calibration=np.arange(100)).fit(X, y)
    assert model.calibration_.output(0).rows == 75


@pytest.mark.parametrize("ask", [0.9, 0.95])
def test_too_few_held_out_rows_warn_and_say_what_helps(ask: float) -> None:
    X, y = table(150)
    model = regressor().fit(X, y)
    with pytest.warns(UncalibratedWarning, match="there are 0: the intervals are infinite"):
        assert np.isinf(model.predict_interval(X, ask)).all()
    model = regressor(calibration=ShuffleSplit(1, test_size=0.2, random_state=0)).fit(X, y)
    assert np.isfinite(model.predict_interval(X, ask)).all()


def test_members_that_hold_out_the_same_rows_are_asked_together() -> None:
    X, y = table(300)
    model = regressor(members=2, validation=np.arange(60)).fit(X, y)
    (fold,) = model.calibration_.output(0).folds
    assert fold.members == (0, 1)
    assert len(fold.scores) == 60


def test_a_splitter_with_fewer_splits_than_members() -> None:
    X, y = table(300)
    model = regressor(members=3, validation=KFold(2, shuffle=True, random_state=0)).fit(X, y)
    folds = model.calibration_.output(0).folds
    assert sorted((fold.members, len(fold.scores)) for fold in folds) == [
        ((0, 2), 150),
        ((1,), 150),
    ]


def test_a_weight_counts_rows_of_the_calibration() -> None:
    X, y = table(300)
    held, weight = np.arange(100), np.ones(300)
    weight[:100] = np.random.default_rng(0).integers(0, 4, 100)
    weighted = regressor(calibration=held, validation=None).fit(X, y, sample_weight=weight)
    count = weight.astype(int)
    held = np.arange(count[:100].sum())
    again = regressor(calibration=held, validation=None).fit(
        np.repeat(X, count, axis=0), np.repeat(y, count)
    )
    np.testing.assert_allclose(
        weighted.predict_interval(X), again.predict_interval(X), rtol=1e-6, atol=1e-6
    )


def test_calibration_scores_are_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybridflow.estimators.answers._MOST", 50)
    X, y = table(400)
    model = regressor(calibration=0.5).fit(X, y)
    assert model.calibration_.output(0).rows == 50


@pytest.mark.parametrize("coverage", [0, 1.0, 90, None], ids=repr)
def test_coverage_must_be_a_share(
    shared: HybridRegressor, labelled: HybridClassifier, coverage: object
) -> None:
    X, _ = table(2)
    with pytest.raises(ConfigError, match="coverage must lie between 0 and 1"):
        shared.predict_interval(X, coverage)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="coverage must lie between 0 and 1"):
        labelled.predict_set(X, coverage)  # type: ignore[arg-type]


def test_quantiles_are_those_of_the_law(shared: HybridRegressor) -> None:
    X, _ = table(10)
    law = shared.predict_distribution(X)
    np.testing.assert_array_equal(shared.predict_quantile(X, 0.3), law.quantile(0.3))
    both = shared.predict_quantile(X, [0.1, 0.9])
    np.testing.assert_allclose(both[:, 1], law.quantile(0.9), rtol=1e-12)
    with pytest.raises(InputError, match="between 0 and 1"):
        shared.predict_quantile(X, 1.5)
    with pytest.raises(InputError, match="a number or a list"):
        shared.predict_quantile(X, [[0.5]])


# -- sets -----------------------------------------------------------------


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_sets_cover(labelled: HybridClassifier, coverage: float) -> None:
    X, y = table(4000, seed=1)
    codes = np.searchsorted(labelled.classes_, kinds(y))
    exact = labelled.predict_set(X, coverage, allow_empty=True)
    low, high = band(400, coverage)
    assert low <= exact[np.arange(4000), codes].mean() <= high
    filled = labelled.predict_set(X, coverage)
    assert filled.dtype == bool
    assert filled.any(1).all()
    np.testing.assert_array_equal(filled[exact.any(1)], exact[exact.any(1)])
    best = labelled.classes_[filled[~exact.any(1)].argmax(1)]
    np.testing.assert_array_equal(best, labelled.predict(X)[~exact.any(1)])


def test_sets_without_calibration_rows_use_the_folds_of_the_members() -> None:
    X, y = table(600)
    model = classifier(members=3).fit(X, kinds(y))
    assert len(model.calibration_.output(0).folds) == 3
    X, y = table(4000, seed=1)
    codes = np.searchsorted(model.classes_, kinds(y))
    found = model.predict_set(X, 0.8, allow_empty=True)
    low, high = band(int(model.calibration_.output(0).rows), 0.8)
    assert low <= found[np.arange(4000), codes].mean() <= high


def test_too_few_rows_give_full_sets() -> None:
    X, y = table(100)
    model = classifier().fit(X, kinds(y))
    with pytest.warns(UncalibratedWarning, match="the sets hold every class"):
        assert model.predict_set(X).all()
    assert model.temperature_ == 1


def test_several_labels_have_no_sets() -> None:
    X, y = table(300)
    model = classifier(head="multi-label").fit(X, np.column_stack([y > 0, X[:, 1] > 0]).astype(int))
    assert model.temperature_ == 1
    with pytest.raises(InputError, match="one label per row"):
        model.predict_set(X)


# -- temperature ----------------------------------------------------------


def with_temperature(model: HybridClassifier, temperature: float) -> HybridClassifier:
    """Return a copy whose probabilities are as if this temperature had been found."""
    again = clone(model)
    again.__dict__.update(model.__dict__)
    again.calibration_ = model.calibration_.replace(temperature=temperature)
    return again


def test_every_answer_uses_the_temperature(labelled: HybridClassifier) -> None:
    X, _ = table(200, seed=3)
    plain = with_temperature(labelled, 1.0)
    warm = with_temperature(labelled, 2.0)
    expected = tempered(plain.predict_log_proba(X), 2.0)
    np.testing.assert_allclose(warm.predict_log_proba(X), expected, rtol=1e-12)
    np.testing.assert_allclose(warm.predict_proba(X), np.exp(expected), rtol=1e-12)
    np.testing.assert_array_equal(warm.predict(X), plain.predict(X))
    codes = np.random.default_rng(0).integers(0, 3, 200)
    np.testing.assert_allclose(
        warm.score_joint(X, warm.classes_[codes]),
        warm.score_samples(X) + expected[np.arange(200), codes],
        rtol=1e-12,
    )


def test_sets_are_those_of_the_probabilities_before_the_temperature(
    labelled: HybridClassifier,
) -> None:
    X, _ = table(200, seed=3)
    np.testing.assert_array_equal(
        with_temperature(labelled, 3.0).predict_set(X), labelled.predict_set(X)
    )


def test_samples_follow_the_temperature(labelled: HybridClassifier) -> None:
    """A temperature of 20 draws all classes about equally often, and so do rows given a class."""
    warm = with_temperature(labelled, 20.0)
    X, y = warm.sample(3000, random_state=0)
    expected = warm.predict_proba(X).mean(0)
    shares = np.array([(y == label).mean() for label in warm.classes_])
    # Four standard errors of a share of about a third.
    np.testing.assert_allclose(shares, expected, atol=4 * np.sqrt(0.25 / 3000))
    assert np.abs(expected - 1 / 3).max() < 0.1
    given, _ = warm.sample(2000, y="low", random_state=0)
    cold, _ = labelled.sample(2000, y="low", random_state=0)
    assert np.mean(given[:, 0]) > np.mean(cold[:, 0]) + 0.3


def test_an_overconfident_model_gets_a_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels at random in the calibration rows alone make any confidence too much."""
    X, y = table(1000)
    labels = kinds(y)
    labels[:300] = np.random.default_rng(0).permutation(labels[:300])
    model = classifier(calibration=np.arange(300)).fit(X, labels)
    assert model.temperature_ > 2
    held = model.predict_log_proba(X[:300])[
        np.arange(300), np.searchsorted(model.classes_, labels[:300])
    ]
    plain = with_temperature(model, 1.0).predict_log_proba(X[:300])[
        np.arange(300), np.searchsorted(model.classes_, labels[:300])
    ]
    assert held.mean() > plain.mean()


# -- files ----------------------------------------------------------------


def test_answers_survive_a_file(
    shared: HybridRegressor, folded: HybridRegressor, labelled: HybridClassifier, tmp_path: Path
) -> None:
    X, _ = table(30, seed=4)
    for model in (shared, folded):
        model.save(tmp_path / "model.hflow")
        again = load(tmp_path / "model.hflow")
        assert again.calibration_ == model.calibration_
        np.testing.assert_array_equal(
            again.predict_interval(X, 0.8), model.predict_interval(X, 0.8)
        )
    warm = with_temperature(labelled, 1.7)
    warm.save(tmp_path / "model.hflow")
    again = load(tmp_path / "model.hflow")
    assert again.temperature_ == 1.7
    np.testing.assert_array_equal(again.predict_proba(X), warm.predict_proba(X))
    np.testing.assert_array_equal(again.predict_set(X), warm.predict_set(X))
    assert "predict_proba" in verify(tmp_path / "model.hflow").differences


def test_a_calibration_of_other_members_is_refused(shared: HybridRegressor, tmp_path: Path) -> None:
    other = clone(shared)
    other.__dict__.update(shared.__dict__)
    fold = Fold(members=(2,), scores=(0.1,))
    other.calibration_ = Calibration(outputs=(Conformal(folds=(fold,)),))
    other.save(tmp_path / "model.hflow")
    with pytest.raises(CorruptModelError, match="more members than it has"):
        load(tmp_path / "model.hflow")


@pytest.mark.parametrize("name", ["regressor", "classifier"])
def test_files_from_before_calibration_answer_with_everything(name: str) -> None:
    path = Path(__file__).parents[1] / "golden" / f"{name}-0.1.0.hflow"
    model = load(path)
    X = np.zeros((2, 3))
    ask = model.predict_interval if isinstance(model, HybridRegressor) else model.predict_set
    with pytest.warns(UncalibratedWarning):
        answer = ask(X)
    assert (np.isinf(answer) | (answer == 1)).all()
