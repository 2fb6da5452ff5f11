"""Rows given y: the law of what rejection keeps, against the posterior written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

import hybridflow.estimators.sampling
from hybridflow.errors import InputError
from hybridflow.estimators.sampling import sample_given

PRIOR = np.array([0.1, 0.2, 0.3, 0.4])
LIKELIHOOD = np.array([0.9, 0.05, 0.4, 0.1])


def seeded(seed: int = 0) -> np.random.RandomState:
    return np.random.RandomState(seed)


def proposals(n: int, rng: np.random.RandomState) -> torch.Tensor:
    return torch.as_tensor(rng.choice(4, size=(n, 1), p=PRIOR), dtype=torch.float64)


def log_likelihood(rows: torch.Tensor) -> np.ndarray:
    return np.log(LIKELIHOOD)[rows[:, 0].long().numpy()]


def normals(n: int, rng: np.random.RandomState) -> torch.Tensor:
    return torch.as_tensor(rng.standard_normal((n, 1)))


@pytest.mark.parametrize("bound", [0.0, math.log(0.9), None], ids=["one", "tight", "none"])
def test_a_discrete_posterior_is_met(bound):
    drawn = sample_given(proposals, log_likelihood, 20_000, seeded(), bound=bound)
    counts = np.bincount(drawn[:, 0].long().numpy(), minlength=4)
    posterior = PRIOR * LIKELIHOOD / (PRIOR * LIKELIHOOD).sum()
    assert stats.chisquare(counts, 20_000 * posterior).pvalue > 1e-3
    assert stats.chisquare(counts, 20_000 * PRIOR).pvalue < 1e-6


@pytest.mark.parametrize("y", [0.0, 2.5])
def test_a_normal_posterior_is_met(y):
    """x ~ N(0, 1) and y given x ~ N(x, 1/4): x given y ~ N(4 y / 5, 1/5)."""
    drawn = sample_given(
        normals,
        lambda rows: stats.norm.logpdf(y, rows[:, 0].numpy(), 0.5),
        5000,
        seeded(),
        bound=None,
    )
    law = stats.norm(0.8 * y, math.sqrt(0.2))
    assert drawn.shape == (5000, 1)
    assert stats.kstest(drawn[:, 0].numpy(), law.cdf).pvalue > 1e-3


def test_draws_kept_under_a_smaller_bound_are_thinned():
    """The likelihood grows a thousandfold where the first proposals never are."""
    calls = []

    def late(n: int, rng: np.random.RandomState) -> torch.Tensor:
        calls.append(n)
        value = float(len(calls) > 5)
        return torch.full((n, 1), value, dtype=torch.float64)

    drawn = sample_given(
        late, lambda rows: math.log(1000) * rows[:, 0].numpy(), 1000, seeded(), bound=None
    )
    assert float(drawn.mean()) > 0.99


@pytest.mark.parametrize("bound", [0.0, None], ids=["mass", "density"])
@pytest.mark.parametrize("n", [0, 1, 7, 3000])
def test_as_many_rows_come_as_were_asked_for(bound, n):
    drawn = sample_given(proposals, log_likelihood, n, seeded(), bound=bound)
    assert drawn.shape == (n, 1)


def test_the_same_seed_gives_the_same_rows():
    one, two, three = (
        sample_given(proposals, log_likelihood, 50, seeded(s), bound=None) for s in (1, 1, 2)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_a_y_that_is_too_improbable_is_an_error_that_counts(monkeypatch):
    monkeypatch.setattr(hybridflow.estimators.sampling, "_MOST_PROPOSALS", 20_000)
    with pytest.raises(InputError, match=r"too improbable .* 0 of 20000 proposals .* 5 were asked"):
        sample_given(normals, lambda rows: np.full(len(rows), -800.0), 5, seeded(), bound=0.0)
