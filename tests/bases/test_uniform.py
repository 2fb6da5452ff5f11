"""The uniform base: exactly flat inside its box, and nothing outside."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from hybridflow import FlowDensity, TrainingConfig
from hybridflow.densities import Uniform
from hybridflow.errors import ConfigError
from hybridflow.flows import SplineAutoregressive
from hybridflow.specs import Circle, Event, Interval, Positive, Real


def box(*supports) -> Uniform:
    return Uniform(Event(shape=(len(supports),), support=supports)).double().eval()


def test_an_interval_is_its_own_box() -> None:
    base = box(Interval(low=-1.0, high=3.0), Interval(low=10.0, high=10.5))
    z = np.array([[-1.0, 10.0], [3.0, 10.5], [0.0, 10.2], [-1.01, 10.2], [0.0, 10.51], [1e8, 10]])
    expected = stats.uniform.logpdf(z, [-1, 10], [4, 0.5]).sum(1)
    assert_allclose(base.log_prob(torch.tensor(z)), expected, rtol=1e-12)
    draws = base.sample(4000, generator=torch.Generator().manual_seed(0)).numpy()
    for j, (low, width) in enumerate([(-1, 4), (10, 0.5)]):
        assert stats.kstest(draws[:, j], stats.uniform(low, width).cdf).pvalue > 1e-3
    base.initialize(torch.zeros(5, 2))  # an interval is known: rows do not move it
    assert_array_equal(base.bounds(), [[-1.0, 10.0], [3.0, 10.5]])


def test_a_circle_has_no_outside() -> None:
    base = box(Circle(period=2 * math.pi))
    for training in (False, True):
        found = base.train(training).log_prob(torch.tensor([[-9.0], [0.0], [1e8]]).double())
        assert_allclose(found, np.full(3, -math.log(2 * math.pi)), rtol=1e-12)
    draws = base.sample(1000, generator=torch.Generator().manual_seed(0))
    assert 0 <= draws.min() < draws.max() <= 2 * math.pi


def test_the_box_of_real_dimensions_covers_the_rows_with_a_margin() -> None:
    base = box(Real(), Real())
    z = torch.tensor([[0.0, 5.0], [10.0, 5.0], [99.0, 99.0]]).double()
    base.initialize(z, weight=torch.tensor([1.0, 2.0, 0.0]))
    assert_allclose(base.bounds()[0], [-1.0, 0.0])
    assert_allclose(base.bounds()[1], [11.0, 10.0])  # a constant gets a box of its own size
    assert base.log_prob(z).isfinite().tolist() == [True, True, False]


def test_training_pulls_a_row_outside_back() -> None:
    base = box(Real(), Real())
    z = torch.tensor([[0.5, 0.0], [1.5, 0.0], [-1e8, 2.0]], requires_grad=True)
    inside = -2 * math.log(2)
    expected = [inside, inside - 500, inside - 1000 * (1e8 - 1 + 1)]
    found = base.float().train().log_prob(z)
    assert_allclose(found.detach(), expected, rtol=1e-6)
    (slope,) = torch.autograd.grad(found.sum(), z)
    assert_array_equal(slope, [[0, 0], [-1000, 0], [1000, -1000]])
    found = base.eval().log_prob(z)
    assert found.tolist() == [pytest.approx(inside), -math.inf, -math.inf]
    (slope,) = torch.autograd.grad(found[0], z)
    assert_array_equal(slope, np.zeros((3, 2)))


def test_positive_dimensions_are_refused() -> None:
    with pytest.raises(ConfigError, match="'uniform': needs real, interval or circle"):
        box(Positive())


@pytest.mark.parametrize(
    ("flow", "least"),
    # The entropy is 0; one normal per column reaches -0.35.
    [("realnvp", -0.5), (SplineAutoregressive(layers=2), -0.35)],
    ids=["affine", "spline"],
)
def test_a_density_trains_on_it(flow, least: float) -> None:
    X = np.random.default_rng(0).uniform([5, 0], [6, 1], size=(600, 2))
    training = TrainingConfig(steps=80)
    model = FlowDensity(flow, "uniform", training=training, random_state=0).fit(X)
    scores = model.score_samples(X)
    known = scores[np.isfinite(scores)]
    assert len(known) > 0.97 * len(X)
    assert known.mean() > least
    assert model.score_samples(X[:1] + 1e6)[0] == -np.inf
    assert np.isfinite(model.score_samples(model.sample(50, random_state=0))).mean() > 0.97
