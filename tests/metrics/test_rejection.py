"""Risk-coverage curves by enumeration and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hybridflow.errors import InputError
from hybridflow.metrics import area_under_risk_coverage, risk_coverage_curve


def test_curve_by_hand():
    coverage, risk = risk_coverage_curve([1, 0, 3, 0], [0.4, 0.1, 0.9, 0.2])
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(risk, [0, 0, 1 / 3, 1])
    assert area_under_risk_coverage([1, 0, 3, 0], [0.4, 0.1, 0.9, 0.2]) == pytest.approx(1 / 3)


def test_ties_are_the_mean_over_all_orders():
    losses, scores = np.array([1.0, 0.0, 4.0, 2.0, 0.5]), np.array([0, 1, 1, 1, np.inf])
    orders = []
    for middle in itertools.permutations([1, 2, 3]):
        ordered = losses[[0, *middle, 4]]
        orders.append(np.cumsum(ordered) / np.arange(1, 6))
    np.testing.assert_allclose(risk_coverage_curve(losses, scores)[1], np.mean(orders, axis=0))


def test_scores_that_tell_nothing_give_the_mean_loss():
    losses = np.random.default_rng(0).random(100)
    assert area_under_risk_coverage(losses, np.zeros(100)) == pytest.approx(losses.mean())


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_best_possible_area_is_that_of_the_closed_form(share):
    """r + (1 - r) log(1 - r) for errors of share r, rejected first, as n grows."""
    n = 200_000
    losses = np.arange(n) < share * n
    expected = share + (1 - share) * np.log1p(-share)
    assert area_under_risk_coverage(losses, losses) == pytest.approx(expected, abs=5 / n**0.5 / 100)


def test_order_is_all_that_counts():
    rng = np.random.default_rng(0)
    losses, scores = rng.random(60), rng.normal(size=60)
    area = area_under_risk_coverage(losses, scores)
    assert area_under_risk_coverage(losses, np.exp(scores)) == pytest.approx(area)
    assert area_under_risk_coverage(5 * losses, scores) == pytest.approx(5 * area)


@pytest.mark.parametrize(
    ("losses", "scores", "message"),
    [
        ([0, 1], [0.1], "scores has 1 rows"),
        ([0, np.inf], [0.1, 0.2], "row 1"),
        ([0, 1], [0.1, np.nan], "scores contains NaN"),
        ([], [], "losses"),
    ],
    ids=["length", "infinite-loss", "nan-score", "empty"],
)
def test_what_cannot_be_used_is_named(losses, scores, message):
    with pytest.raises(InputError, match=message):
        risk_coverage_curve(losses, scores)
