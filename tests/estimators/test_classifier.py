"""HybridClassifier: logarithms of probabilities that are smaller than any float."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from hybridflow import HybridClassifier, TrainingConfig


@pytest.fixture(scope="module", params=[1, 3], ids=["one-member", "three-members"])
def fitted(request):
    """Return a classifier of rows with nearly certain labels, and rows far on either side."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    labels = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.5, 0.5])]
    training = TrainingConfig(steps=30)
    model = HybridClassifier(training=training, members=request.param, random_state=0)
    model.fit(X, labels)
    with torch.no_grad():
        for i, member in enumerate(model.models_):
            member.head.weight *= 4000.0 * (i + 1)
    return model, X[:50]


def test_log_probabilities_do_not_underflow(fitted):
    model, X = fitted
    logs = model.predict_log_proba(X)
    assert (model.predict_proba(X) == 0).any()
    assert np.isfinite(logs).all()
    assert logs.min() < -800
    np.testing.assert_allclose(logsumexp(logs, axis=1), 0, atol=1e-9)


def test_log_probabilities_are_those_of_the_mean_over_members(fitted):
    model, X = fitted
    x = torch.as_tensor(X)
    each = [torch.log_softmax(member.eta(x), 1).numpy() for member in model.models_]
    expected = (logsumexp(each, axis=0) - np.log(len(each))) / model.temperature_
    expected -= logsumexp(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(model.predict_log_proba(X), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.exp(expected), model.predict_proba(X), rtol=1e-9)


def test_the_joint_score_of_an_impossible_label_is_finite(fitted):
    model, X = fitted
    worst = model.classes_[model.predict_log_proba(X).argmin(axis=1)]
    joint = model.score_joint(X, worst) - model.score_samples(X)
    np.testing.assert_allclose(joint, model.predict_log_proba(X).min(axis=1), rtol=1e-9)
