"""The joint masses of categorical columns, against enumeration, formulas and simulation."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch

from hybridflow import Categorical, FlowDensity, TrainingConfig
from hybridflow.categories import Categories

SIZES, OPEN = [2, 3, 4], [False, True, True]


def randomised(sizes: list[int], open: list[bool], seed: int = 0) -> Categories:
    """Return masses with dependence, in float64."""
    generator = torch.Generator().manual_seed(seed)
    categories = Categories(sizes, open, hidden_units=12).double()
    with torch.no_grad():
        for parameter in categories.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return categories


def every_row(sizes: list[int], extra: list[bool]) -> torch.Tensor:
    """Return each combination of codes, with the one of unseen levels where asked for."""
    ranges = [range(size + more) for size, more in zip(sizes, extra, strict=True)]
    return torch.tensor(list(itertools.product(*ranges)))


# -- masses ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "open"),
    [(SIZES, OPEN), ([3], [True]), ([2, 2], [False, False]), ([1, 40], [True] * 2)],
)
def test_masses_add_up_to_one_with_those_of_unseen_levels(
    sizes: list[int], open: list[bool]
) -> None:
    categories = randomised(sizes, open)
    total = categories.log_prob(every_row(sizes, open)).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-12)


def test_it_starts_with_independent_smoothed_frequencies() -> None:
    codes = torch.tensor([[0, 0, 0], [1, 0, 1], [1, 1, 1], [1, 2, 3]])
    weight = torch.tensor([1.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    categories = Categories(SIZES, OPEN).double()
    categories.initialize(codes, weight)
    # Of variable 1 the levels 1 and 2 were seen once, of variable 2 the levels 0 and 3.
    unseen = (2 + 1) / (5 + 2)
    first = math.log(4.5 / 6)
    second = math.log((1 - unseen) * 3.5 / 6.5)
    third = math.log((1 - unseen) * 3.5 / 7)
    found = categories.log_prob(torch.tensor([[1, 0, 1], [1, 3, 1], [1, 3, 4]]))
    expected = [
        first + second + third,
        first + math.log(unseen) + third,
        first + 2 * math.log(unseen),
    ]
    np.testing.assert_allclose(found.detach(), expected, atol=1e-12)


def test_weights_count_as_repeated_rows() -> None:
    codes, weight = torch.tensor([[0, 1], [1, 0], [1, 2]]), torch.tensor([1.0, 3.0, 2.0])
    once, again = (Categories([2, 3], [True] * 2).double() for _ in range(2))
    once.initialize(codes, weight.double())
    again.initialize(codes.repeat_interleave(weight.int(), 0), torch.ones(6).double())
    for name in ("frequency", "unseen", "bias"):
        torch.testing.assert_close(getattr(once, name), getattr(again, name))


def test_a_variable_reads_those_before_it_only() -> None:
    categories = randomised(SIZES, OPEN)
    rows = every_row(SIZES, [False] * 3)
    logits = categories._logits(rows)
    for j, group in enumerate(categories.groups):
        changed = rows.clone()
        changed[:, j:] = 0
        torch.testing.assert_close(categories._logits(changed)[:, group], logits[:, group])
    # And it does read them: the conditional of the last one is not the same in all rows.
    assert logits[:, categories.groups[2]].std(0).min() > 0.01


def test_samples_follow_the_masses() -> None:
    categories = randomised(SIZES, OPEN)
    n = 40_000
    drawn = categories.sample(n, torch.Generator().manual_seed(0))
    rows = every_row(SIZES, [False] * 3)
    known = categories.log_prob(rows).exp()
    expected = (known / known.sum()).detach().numpy()
    counts = np.array([(drawn == row).all(1).sum().item() for row in rows])
    assert counts.sum() == n  # known levels alone
    deviation = np.sqrt(expected * (1 - expected) / n)
    assert (np.abs(counts / n - expected) < 4.5 * deviation + 1e-9).all()


# -- what networks read ------------------------------------------------------


def test_context_is_centred() -> None:
    rng = np.random.default_rng(0)
    codes = torch.as_tensor(np.column_stack([rng.integers(0, k, 200) for k in (2, 5, 40)]))
    weight = torch.as_tensor(rng.integers(1, 4, 200)).double()
    categories = Categories([2, 5, 40], [True] * 3).double()
    categories.initialize(codes, weight)
    mean = (weight[:, None] * categories.encode(codes)).sum(0) / weight.sum()
    np.testing.assert_allclose(mean.detach(), 0.0, atol=1e-12)


@pytest.mark.parametrize(("levels", "width"), [(2, 2), (16, 16), (17, 5), (100, 10), (5000, 16)])
def test_many_levels_are_embedded(levels: int, width: int) -> None:
    categories = Categories([levels], [True]).double()
    assert categories.width == width
    assert categories.encode(torch.tensor([[0], [levels - 1]])).shape == (2, width)


def test_an_unseen_level_is_read_as_the_average_row() -> None:
    categories = randomised([2, 40], [True, True])
    categories.initialize(torch.tensor([[0, 3], [1, 7]]), torch.ones(2).double())
    np.testing.assert_array_equal(categories.encode(torch.tensor([[2, 40]])).detach(), 0.0)
    assert categories.encode(torch.tensor([[1, 7]])).abs().min() > 0


# -- learned -----------------------------------------------------------------


@pytest.fixture(scope="module")
def joint() -> np.ndarray:
    """Masses of two and three levels and an exclusive or of sorts."""
    a = np.array([0.7, 0.3])
    b_given_a = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    c_given = np.array([[0.9, 0.1, 0.8], [0.2, 0.95, 0.5]])  # of c = 0
    masses = np.empty((2, 3, 2))
    masses[..., 0] = a[:, None] * b_given_a * c_given
    masses[..., 1] = a[:, None] * b_given_a * (1 - c_given)
    return masses


def test_a_table_of_levels_alone_is_learned(joint: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    n = 6000
    cells = np.array(list(np.ndindex(joint.shape)))
    rows = cells[rng.choice(12, n, p=joint.ravel())]
    model = FlowDensity(
        columns=dict.fromkeys(range(3), Categorical()),
        training=TrainingConfig(steps=400),
        members=1,
        random_state=0,
    ).fit(rows)
    assert model.models_[0].event.features == 0
    found = model.score_samples(cells)
    truth = joint.ravel()
    divergence = (truth * (np.log(truth) - found)).sum()
    margins = [joint.sum(axis=tuple({0, 1, 2} - {j})) for j in range(3)]
    independent = functools.reduce(np.multiply, np.ix_(*margins)).ravel()
    assert (truth * np.log(truth / independent)).sum() > 0.2  # what there is to learn
    assert 0 < divergence < 0.012
    drawn = np.asarray(model.sample(20_000, random_state=0), dtype=int)
    share = np.array([(drawn == cell).all(1).mean() for cell in cells])
    np.testing.assert_allclose(share, np.exp(found), atol=0.015)
