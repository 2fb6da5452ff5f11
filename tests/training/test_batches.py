"""Batches: labels in each, every row in an epoch, and the noise on tied cells."""

from __future__ import annotations

import pytest
import torch

from hybridflow.batches import Batches, keyed_noise, levels, uniform_noise

TABLES = {
    "all-labelled": (1000, 0, 256),
    "multiple": (512, 0, 128),
    "one-more": (257, 0, 256),
    "nearly-two": (511, 0, 256),
    "half": (1000, 500, 256),
    "one-unlabelled": (1000, 1, 64),
    "one-label": (1000, 999, 64),
    "three-labels": (1000, 997, 64),
    "no-label": (500, 500, 64),
    "one-row-each": (7, 3, 1),
    "fewer-than-a-batch": (5, 2, 64),
}


@pytest.mark.parametrize(("n", "unlabelled", "size"), TABLES.values(), ids=TABLES)
def test_an_epoch_visits_every_row_with_labels_in_each_batch(make_rows, n, unlabelled, size):
    rows = make_rows(n, unlabelled)
    batches = Batches(rows, size, torch.Generator().manual_seed(0))
    labelled = rows.targets.labelled
    epochs = []
    for _ in range(3):
        seen = torch.zeros(n, dtype=torch.int64)
        sizes = []
        for _ in range(batches.count):
            drawn = batches.draw()
            assert labelled[drawn].any() or unlabelled == n
            seen += torch.bincount(drawn, minlength=n)
            sizes.append(len(drawn))
        assert batches.position == 0
        assert (seen >= 1).all()
        assert (seen[~labelled] == 1).all()
        if unlabelled == n or n - unlabelled >= batches.count:
            assert (seen == 1).all()
        else:
            counts = seen[labelled].tolist()
            assert max(counts) - min(counts) <= 1
        assert max(sizes) - min(sizes) <= 2
        assert n < size or min(sizes) >= size - 1
        assert max(sizes) < 2 * size + 2
        epochs.append(batches.order.tolist())
    assert n - unlabelled < 10 or epochs[0] != epochs[1] != epochs[2]


def test_rows_without_targets_are_all_visited(make_rows):
    rows = make_rows(100)
    batches = Batches(
        type(rows)(rows.x, None, rows.weight, rows.task_weight), 30, torch.Generator()
    )
    seen = torch.cat([batches.draw() for _ in range(batches.count)])
    assert seen.sort().values.tolist() == list(range(100))


def test_labels_are_spread_evenly(make_rows):
    rows = make_rows(1000, unlabelled=700)
    batches = Batches(rows, 100, torch.Generator().manual_seed(0))
    counts = [int(rows.targets.labelled[batches.draw()].sum()) for _ in range(20)]
    assert counts == [30] * 20


def test_the_same_generator_gives_the_same_batches(make_rows):
    rows = make_rows(300, unlabelled=100)
    first, second = (Batches(rows, 64, torch.Generator().manual_seed(3)) for _ in range(2))
    for _ in range(9):
        assert torch.equal(first.draw(), second.draw())


def test_rows_are_taken_together(make_rows):
    rows = make_rows(20, unlabelled=4)
    some = rows[torch.tensor([5, 0, 5])]
    assert len(some) == 3
    for part, whole in (
        (some.x, rows.x),
        (some.weight, rows.weight),
        (some.task_weight, rows.task_weight),
        (some.targets.values, rows.targets.values),
        (some.targets.observed, rows.targets.observed),
    ):
        assert torch.equal(part, whole[[5, 0, 5]])


def test_levels_are_ranks_within_a_column():
    x = torch.tensor([[3.0, 0.5], [1.0, 0.5], [3.0, -2.0], [2.0, 0.5]])
    assert levels(x).tolist() == [[2, 1], [0, 1], [2, 0], [1, 1]]


def test_keyed_noise_is_equal_for_equal_cells_and_uniform_over_levels():
    x = torch.arange(3000, dtype=torch.float64)[:, None].repeat(2, 2)
    noise = keyed_noise(torch.Generator().manual_seed(0), levels(x))
    assert torch.equal(noise[:3000], noise[3000:])
    assert not torch.equal(noise[:, 0], noise[:, 1])
    assert ((noise >= 0) & (noise < 1)).all()
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(noise.var()) == pytest.approx(1 / 12, abs=0.01)


def test_uniform_noise_is_fresh_for_every_cell():
    generator = torch.Generator().manual_seed(0)
    first, second = (uniform_noise(generator, 50, 3, torch.device("cpu")) for _ in range(2))
    assert first.shape == (50, 3)
    assert torch.cat([first, second]).unique().numel() == 300
