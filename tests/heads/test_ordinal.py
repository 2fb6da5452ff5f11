"""Classes with an order: cutpoints, the order of y, and what scikit-learn expects of columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.metrics import get_scorer, log_loss

import hybridflow
from hybridflow import HybridClassifier, TrainingConfig
from hybridflow.errors import ConfigError
from hybridflow.heads import OrdinalHead
from hybridflow.likelihoods import Ordinal, TargetBatch
from hybridflow.likelihoods.links import PROBABILITY_LINKS
from hybridflow.specs import Target

TOLERANCES = {"logit": stats.logistic, "probit": stats.norm, "cloglog": stats.gumbel_l}
SIZES = ["small", "medium", "large", "huge"]
RNG = np.random.default_rng(3)
X = RNG.normal(size=(250, 2))
SCORE = X[:, 0] + 0.3 * RNG.logistic(size=250)
LABELS = np.array(SIZES)[np.digitize(SCORE, [-0.8, 0.3, 1.2])]
UNUSED = ["small", "tiny", "medium", "large", "huge"]
ORDERED: dict[str, Any] = {
    "series": pd.Series(pd.Categorical(LABELS, categories=UNUSED, ordered=True)),
    "categorical": pd.Categorical(LABELS, categories=UNUSED, ordered=True),
    "polars": pl.Series(LABELS, dtype=pl.Enum(UNUSED)),
}


def likelihood(k: int, link: str = "logit", order: tuple[int, ...] = ()) -> Ordinal:
    target = Target(kind="classification", classes=tuple(range(k)), order=order)
    made = Ordinal(target, PROBABILITY_LINKS[link]).double()
    torch.nn.init.normal_(made.raw_gaps, generator=torch.Generator().manual_seed(1))
    return made


def batch(codes: np.ndarray) -> TargetBatch:
    values = torch.as_tensor(codes, dtype=torch.float64)[:, None]
    return TargetBatch(values, torch.ones_like(values, dtype=torch.bool))


@pytest.mark.parametrize("link", PROBABILITY_LINKS)
@pytest.mark.parametrize("k", [2, 3, 7])
def test_probabilities_are_differences_of_the_cdf(link: str, k: int) -> None:
    made = likelihood(k, link)
    eta = torch.linspace(-3, 3, 11, dtype=torch.float64)[:, None]
    cuts = np.concatenate([[-np.inf, 0], np.cumsum(made.gaps().detach().numpy()), [np.inf]])
    cdf = TOLERANCES[link].cdf(cuts - eta.numpy())
    law = made.law(eta)
    assert_allclose(law.probabilities, np.diff(cdf, axis=1), rtol=1e-9, atol=1e-14)
    assert_allclose(np.exp(law.log_probabilities).sum(1), 1, rtol=1e-13)


@pytest.mark.parametrize("link", PROBABILITY_LINKS)
def test_a_larger_eta_moves_every_class_up(link: str) -> None:
    eta = torch.linspace(-30, 30, 61, dtype=torch.float64)[:, None]
    below = np.cumsum(likelihood(5, link).law(eta).probabilities, 1)[:, :-1]
    assert (np.diff(below, axis=0) <= 1e-15).all()


def test_cutpoints_increase_whatever_is_learned() -> None:
    made = likelihood(6)
    for raw in (-1e4, -40.0, 0.0, 1e4):
        torch.nn.init.constant_(made.raw_gaps, raw)
        assert (made.gaps() > 0).all()
        log = made.log_probabilities(torch.tensor([[0.3]]))
        assert torch.isfinite(log).all()


@pytest.mark.parametrize("link", PROBABILITY_LINKS)
def test_training_starts_from_the_frequencies(link: str) -> None:
    counts = np.array([300, 1, 0, 500, 199])
    y, made = batch(np.repeat(np.arange(5), counts)), likelihood(5, link)
    made.initialize(y, torch.ones(1000))
    law = made.law(made.start(y, torch.ones(1000))[None])
    assert_allclose(law.probabilities[0], counts / 1000, atol=3e-4)
    assert (law.probabilities > 0).all()


def test_order_permutes_the_columns() -> None:
    order = (2, 0, 3, 1)
    plain, moved = likelihood(4), likelihood(4, order=order)
    eta = torch.tensor([[0.4], [-2.0]], dtype=torch.float64)
    assert_allclose(
        moved.law(eta).probabilities[:, order], plain.law(eta).probabilities, rtol=1e-15
    )
    y, weight = np.repeat(np.arange(4), [5, 20, 30, 45]), torch.ones(100)
    for made, codes in ((plain, y), (moved, np.array(order)[y])):
        made.initialize(batch(codes), weight)
    starts = [plain.start(batch(y), weight), moved.start(batch(np.array(order)[y]), weight)]
    assert_array_equal(*starts)
    assert_array_equal(plain.raw_gaps.detach(), moved.raw_gaps.detach())


def test_a_thousand_classes() -> None:
    y = batch(RNG.integers(0, 1000, 3000))
    made = likelihood(1000)
    made.initialize(y, torch.ones(3000))
    eta = torch.full((3000, 1), 1e8, dtype=torch.float64, requires_grad=True)
    loss = made.nll(eta, y).sum()
    (gradient,) = torch.autograd.grad(loss, eta)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()


def test_one_class_has_no_order() -> None:
    with pytest.raises(ConfigError, match=r"at least two classes, got \[0\]"):
        likelihood(1)


def test_order_names_every_class_once() -> None:
    with pytest.raises(ConfigError, match="order names each of the 3 classes once"):
        Target(kind="classification", classes=("a", "b", "c"), order=(0, 1, 1))


def classifier(y: Any) -> HybridClassifier:
    head = OrdinalHead(basis="identity")
    return HybridClassifier(
        "nice", head=head, training=TrainingConfig(steps=250, learning_rate=0.02), random_state=0
    ).fit(X, y)


@pytest.mark.parametrize("y", ORDERED.values(), ids=ORDERED)
def test_the_order_of_y_is_that_of_its_categories(y: Any, tmp_path: Path) -> None:
    model = classifier(y)
    assert_array_equal(model.classes_, sorted(SIZES))  # as scikit-learn has them
    probabilities = model.predict_proba(X)
    by_size = probabilities[:, [sorted(SIZES).index(size) for size in SIZES]]
    place = by_size @ np.arange(4)
    truth = np.array([SIZES.index(label) for label in LABELS])
    assert stats.spearmanr(place, truth).statistic > 0.8
    assert (model.predict(X) == LABELS).mean() > 0.6
    model.save(tmp_path / "sizes.hflow")
    loaded = hybridflow.load(tmp_path / "sizes.hflow")
    assert_array_equal(loaded.predict_proba(X), probabilities)


def test_scorers_of_scikit_learn_read_the_right_columns() -> None:
    model = classifier(ORDERED["series"])
    found = get_scorer("neg_log_loss")(model, X, ORDERED["series"])
    assert_allclose(found, -log_loss(LABELS, model.predict_proba(X), labels=sorted(SIZES)))
    own = model.predict_log_proba(X)[np.arange(250), np.searchsorted(sorted(SIZES), LABELS)]
    assert_allclose(found, own.mean(), rtol=1e-9)


def test_labels_without_an_order_of_their_own_are_sorted() -> None:
    for y in (LABELS, pd.Series(pd.Categorical(LABELS)), np.digitize(SCORE, [0.0, 1.0])):
        head = classifier(y).models_[0].head
        order = head.likelihood.order  # type: ignore[union-attr]
        assert_array_equal(order, np.arange(len(order)))
