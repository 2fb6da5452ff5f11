"""Samples inside what was seen, rejection by calibrated chances, tags of several outputs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import get_tags

from hybridflow import FlowDensity, HybridClassifier, HybridRegressor, TrainingConfig, load
from hybridflow.calibration import tempered
from hybridflow.laws import CategoricalLaw

QUICK = TrainingConfig(steps=30)


def test_samples_of_steps_stay_in_the_range_that_was_seen(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 25, 400),
            "hours": rng.choice([0.5, 1.0, 1.5, 7.5], 400),
            "free": rng.normal(size=400),
        }
    )
    model = FlowDensity(training=QUICK, members=1, random_state=0).fit(table)
    model.save(tmp_path / "model.hflow")
    for fitted in (model, load(tmp_path / "model.hflow")):
        drawn = fitted.sample(20_000, random_state=0)
        assert (drawn["age"].min(), drawn["age"].max()) == (18, 24)
        assert (drawn["hours"].min(), drawn["hours"].max()) == (0.5, 7.5)
        assert drawn["free"].abs().max() > table["free"].abs().max()


@pytest.fixture(scope="module")
def bold() -> HybridClassifier:
    """Return a classifier of noisy labels, whose temperature is set by hand."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    labels = (X[:, 0] + rng.normal(size=400) > 0).astype(int)
    model = HybridClassifier(training=QUICK, members=2, random_state=0).fit(X, labels)
    model.calibration_ = model.calibration_.replace(temperature=3.0)
    return model


def test_rejection_is_by_the_chances_that_are_predicted(bold):
    X = np.random.default_rng(1).normal(size=(50, 2))
    seen = []
    calibrated = bold._calibrated

    def spy(laws):
        seen.append(calibrated(laws))
        return seen[-1]

    bold._calibrated = spy
    bold.rejection_score(X)
    del bold._calibrated
    ((law,),) = seen
    assert isinstance(law, CategoricalLaw)
    np.testing.assert_allclose(law.probabilities, bold.predict_proba(X), rtol=1e-12)
    usual = 1 - bold.predict_proba(X).max(axis=1)
    score = bold.rejection_score(X)
    assert (score >= usual - 1e-12).all()
    assert (score <= 0.5 + 1e-12).all()


def test_each_member_is_judged_by_its_calibrated_chances(bold):
    X = np.random.default_rng(2).normal(size=(5, 2))
    laws = bold._laws(bold._read(X))
    (law,) = bold._calibrated([laws[1]])
    expected = np.exp(tempered(laws[1].log_probabilities, 3.0))
    np.testing.assert_allclose(law.probabilities, expected, rtol=1e-12)


def test_tags_say_who_takes_several_outputs():
    assert get_tags(HybridRegressor()).target_tags.multi_output
    assert not get_tags(HybridClassifier()).target_tags.multi_output
    several = get_tags(HybridClassifier(head="multi-label"))
    assert several.target_tags.multi_output
    assert several.classifier_tags.multi_label
    get_tags(HybridClassifier(head="no such head"))
