"""The head that reads the class-conditional base: one set of parameters, two uses."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_moons
from sklearn.model_selection import GridSearchCV

from hybridflow import HybridClassifier, TrainingConfig, load
from hybridflow.densities import ClassConditional
from hybridflow.errors import ConfigError, InputError
from hybridflow.flows import RealNVP
from hybridflow.heads import BayesHead
from hybridflow.likelihoods import Bayes, TargetBatch
from hybridflow.specs import Target

TWO = Target(kind="classification", classes=("no", "yes"))
THREE = Target(kind="classification", classes=("a", "b", "c"))


def classifier(**settings: object) -> HybridClassifier:
    settings = {"training": TrainingConfig(steps=40), "random_state": 0, "members": 1} | settings
    return HybridClassifier(RealNVP(layers=2), "class-conditional", "bayes", **settings)


def moons() -> tuple[np.ndarray, np.ndarray]:
    X, y = make_moons(300, noise=0.1, random_state=0)
    return X, y.astype(float)


@pytest.mark.parametrize("target", [TWO, THREE], ids=["two", "three"])
def test_the_law_is_the_posterior_of_the_base(target: Target) -> None:
    torch.manual_seed(0)
    base = ClassConditional(2, len(target.classes), components=2).double()
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter)
    head, z = Bayes(target, base), torch.randn(50, 2, dtype=torch.float64)
    eta = head(z)
    joint = base.class_log_prob(z).detach()
    expected = torch.softmax(joint, 1)
    assert_allclose(head.law(eta).probabilities, expected, rtol=1e-9)
    y = torch.arange(50)[:, None] % len(target.classes)
    batch = TargetBatch(y.double(), torch.ones(50, 1, dtype=torch.bool))
    assert_allclose(head.nll(eta, batch).detach(), -expected.gather(1, y)[:, 0].log(), rtol=1e-9)
    alone = torch.cat([head(row[None]) for row in z])
    assert_allclose(eta.detach(), alone.detach(), rtol=1e-12)


def test_the_base_is_no_part_of_the_head() -> None:
    base = ClassConditional(2, 2)
    head = Bayes(TWO, base)
    assert not head.state_dict()
    assert not list(head.parameters())
    (slope,) = torch.autograd.grad(head(torch.ones(1, 2)).sum(), base.mixture.means)
    assert slope.isfinite().all()
    both = copy.deepcopy(torch.nn.ModuleList([base, head]))
    assert both[1].base is both[0]


def test_extreme_latents_stay_finite() -> None:
    base = ClassConditional(4, 3)
    torch.nn.init.normal_(base.mixture.means, generator=torch.Generator().manual_seed(0))
    z = torch.full((3, 4), 1e8, requires_grad=True)
    eta = Bayes(THREE, base)(z)
    (slope,) = torch.autograd.grad(eta.sum(), z)
    assert eta.isfinite().all()
    assert slope.isfinite().all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="the target has 3 classes, but the base 2"):
        Bayes(THREE, ClassConditional(2, 2))
    with pytest.raises(InputError, match="an exposure needs a head for counts"):
        Bayes(TWO, ClassConditional(2, 2))(torch.zeros(1, 2), None, torch.zeros(1))
    X, y = moons()
    with pytest.raises(ConfigError, match="'bayes' needs base='class-conditional', got 'normal'"):
        HybridClassifier(head="bayes").fit(X, y)


def test_density_and_classes_of_a_model_agree() -> None:
    """P(y | x) is read from the parts of p(x): the head gets z as the base does."""
    X, y = moons()
    X[:, 1] += 3 * X[:, 0]  # so that the whitening turns the columns
    estimator = classifier(members=1).fit(X, y)
    estimator.calibration_ = estimator.calibration_.replace(temperature=1.0)
    model = estimator.models_[0]
    assert_array_equal(model.mixing, np.eye(2))
    x = torch.as_tensor(X)
    with torch.no_grad():
        z, ladj = model.latent(x)
        joint = model.base.class_log_prob(z) + ladj[:, None]
    assert_allclose(estimator.predict_proba(X), torch.softmax(joint, 1), rtol=1e-6, atol=1e-12)
    assert_allclose(estimator.score_samples(X), torch.logsumexp(joint, 1), rtol=1e-9)
    assert estimator.score(X, y) > 0.6


def test_a_model_is_saved_loaded_cloned_and_pickled(tmp_path) -> None:
    X, y = moons()
    estimator = classifier(members=2).fit(X, y)
    expected = estimator.predict_proba(X)
    names = {name for model in estimator.models_ for name in model.state_dict()}
    assert not any(name.startswith("head.") for name in names)
    estimator.save(tmp_path / "model.hflow")
    for again in (
        load(tmp_path / "model.hflow"),
        copy.deepcopy(estimator),
        pickle.loads(pickle.dumps(estimator)),
    ):
        assert_array_equal(again.predict_proba(X), expected)
        assert all(model.head.base is model.base for model in again.models_)


def test_a_grid_search_sets_the_components_of_the_base() -> None:
    X, y = moons()
    search = GridSearchCV(
        classifier(training=TrainingConfig(steps=5)), {"base__components": [1, 2]}, cv=2
    )
    search.fit(X[:120], y[:120])
    best = search.best_estimator_.models_[0]
    assert best.base.components == search.best_params_["base__components"]
    assert best.head.base is best.base


@pytest.mark.filterwarnings("ignore::hybridflow.errors.HybridFlowWarning")
def test_rows_without_a_label_help() -> None:
    """Three labels per moon: the other 594 rows say where the gap is."""
    gains = []
    for seed in range(3):
        X, truth = make_moons(600, noise=0.1, random_state=seed)
        rng = np.random.default_rng(seed)
        known = np.concatenate(
            [rng.choice(np.flatnonzero(truth == c), 3, replace=False) for c in (0, 1)]
        )
        y = np.full(600, np.nan)
        y[known] = truth[known]
        settings = {"training": TrainingConfig(steps=200), "random_state": 0, "members": 1}
        alone, helped = (
            HybridClassifier(base="class-conditional", head="bayes", **settings) for _ in range(2)
        )
        alone.fit(X[known], y[known])
        helped.fit(X, y)
        gains.append(helped.score(X, truth) - alone.score(X, truth))
    assert np.median(gains) > 0.02, gains


def test_the_command_line_fits_and_predicts(tmp_path) -> None:
    X, y = moons()
    table = np.column_stack([X, y])
    np.savetxt(tmp_path / "moons.csv", table, delimiter=",", header="a,b,y", comments="")
    for command in (
        "fit moons.csv --target y --task classification --flow nice --head bayes"
        " --base class-conditional --set training.steps=5 --seed 0 -o model.hflow",
        "predict model.hflow moons.csv -o answers.csv",
        "verify model.hflow",
    ):
        done = subprocess.run(
            [sys.executable, "-m", "hybridflow", *command.split()],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr


def test_the_config_has_no_settings() -> None:
    assert BayesHead.space() == {}
    with pytest.raises(ConfigError):
        BayesHead(basis="hidden")
