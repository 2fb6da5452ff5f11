"""The loss against its written formula, computed row by row in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from hybridflow.batches import Rows
from hybridflow.likelihoods import TargetBatch
from hybridflow.model import HybridModel


def latent(model: HybridModel, row: torch.Tensor) -> np.ndarray:
    return model.latent(row[None])[0][0].detach().numpy()


def log_density(model: HybridModel, row: torch.Tensor) -> float:
    """Return log p(x) by the autograd Jacobian of the whole map."""
    jacobian = torch.autograd.functional.jacobian(lambda x: model.latent(x[None])[0][0], row)
    log_det = np.linalg.slogdet(jacobian.numpy())[1]
    return stats.norm.logpdf(latent(model, row)).sum() + log_det


def eta(model: HybridModel, row: torch.Tensor) -> np.ndarray:
    weight, bias = (p.detach().numpy() for p in (model.head.weight, model.head.bias))
    return weight @ (model.mixing.numpy() @ latent(model, row)) + bias


def written(model: HybridModel, rows: Rows, noise: torch.Tensor | None) -> tuple[float, float]:
    """Return the task and the density term, one row after the other."""
    task = density = task_total = total = 0.0
    for i in range(len(rows)):
        noisy = rows.x[i].clone()
        if noise is not None:
            noisy[2] += float(noise[i, 2]) - 0.5
        density -= float(rows.weight[i]) * log_density(model, noisy)
        total += float(rows.weight[i])
        if not rows.targets.observed[i]:
            continue
        y, predictor = float(rows.targets.values[i]), eta(model, rows.x[i])
        if len(predictor) == 3:
            log_prob = predictor[int(y)] - np.log(np.exp(predictor).sum())
        else:
            spread = 2.0 * (1e-3 + math.log1p(math.exp(predictor[1])))
            log_prob = stats.norm.logpdf(y, 1.0 + 2.0 * predictor[0], spread)
        task -= float(rows.task_weight[i]) * log_prob
        task_total += float(rows.task_weight[i])
    return task / task_total, density / total


def values(trainer, rows: Rows, noise: torch.Tensor | None) -> tuple[float | None, float]:
    """Return both terms as the trainer computes them."""
    with torch.no_grad():
        task, density = trainer.losses(rows, noise)
    return None if task is None else float(task), float(density)


@pytest.mark.parametrize("head", ["categorical", "gaussian"])
@pytest.mark.parametrize("noised", [False, True], ids=["one-view", "two-views"])
@pytest.mark.parametrize("unlabelled", [0, 5], ids=["labelled", "partly-labelled"])
def test_both_terms_are_those_of_the_formula(make_rows, make_trainer, head, noised, unlabelled):
    rows = make_rows(12, unlabelled)
    trainer = make_trainer(rows, head=head, noised=noised, away=0.3)
    noise = torch.rand(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    task, density = values(trainer, rows, noise if noised else None)
    expected = written(trainer.model, rows, noise if noised else None)
    assert (task, density) == pytest.approx(expected, rel=1e-10)


def test_the_formula_sees_the_noise(make_rows, make_trainer):
    rows = make_rows(12)
    trainer = make_trainer(rows, noised=True, away=0.3)
    clean = values(trainer, rows, torch.full((12, 3), 0.5, dtype=torch.float64))
    noisy = values(trainer, rows, torch.full((12, 3), 0.9, dtype=torch.float64))
    assert clean[0] == pytest.approx(noisy[0], rel=1e-12)  # the task sees clean rows
    assert abs(clean[1] - noisy[1]) > 1e-2


@pytest.mark.parametrize("weight", [0.0, 0.3, 3.0])
def test_the_value_is_the_task_plus_the_density_per_dimension(make_trainer, weight):
    trainer = make_trainer(likelihood_weight=weight, away=0.3, steps=1)
    trainer.evaluate()
    record = trainer.state.history[-1]
    assert record.value == pytest.approx(record.task + weight / 3 * record.density, rel=1e-12)


def test_a_density_has_no_task(make_trainer):
    trainer = make_trainer(head=None, likelihood_weight=1.0, away=0.3, steps=1)
    trainer.evaluate()
    record = trainer.state.history[-1]
    assert record.task is None
    assert record.value == pytest.approx(record.density / 3, rel=1e-12)


def test_rows_without_any_label_have_the_density_term_alone(make_rows, make_trainer):
    rows = make_rows(12, unlabelled=12)
    task, density = values(make_trainer(make_rows(), away=0.3), rows, None)
    assert task is None
    assert math.isfinite(density)


def test_what_stands_in_an_unlabelled_cell_is_never_read(make_rows, make_trainer):
    rows = make_rows(12, unlabelled=4)
    cells = torch.where(rows.targets.observed, rows.targets.values, math.nan)
    blank = Rows(rows.x, TargetBatch(cells, rows.targets.observed), rows.weight, rows.task_weight)
    trainer = make_trainer(make_rows(), away=0.3)
    assert values(trainer, blank, None) == values(trainer, rows, None)
    trainer.losses(blank, None)[0].backward()
    assert all(p.grad.isfinite().all() for p in trainer.model.parameters() if p.grad is not None)


@pytest.mark.parametrize("noised", [False, True], ids=["one-view", "two-views"])
def test_a_weight_is_a_repetition(make_rows, make_trainer, noised):
    rows = make_rows(12, unlabelled=3)
    times = torch.tensor([1, 2, 3] * 4)
    once = Rows(rows.x, rows.targets, times.double(), times * rows.task_weight)
    twice = Rows(rows.x, rows.targets, torch.ones(12).double(), rows.task_weight)
    repeated = twice[torch.repeat_interleave(torch.arange(12), times)]
    ends = []
    for table in (once, repeated):
        trainer = make_trainer(
            make_rows(), noised=noised, away=0.3, keyed=True, steps=30, learning_rate=1e-2
        )
        same = make_trainer(table, noised=noised, keyed=True, steps=30, learning_rate=1e-2)
        same.model.load_state_dict(trainer.model.state_dict())
        state = same.run()
        ends.append((same.model.state_dict(), [record.value for record in state.history]))
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-9)
    for name, tensor in ends[0][0].items():
        torch.testing.assert_close(tensor, ends[1][0][name], rtol=1e-6, atol=1e-8)


def test_the_pull_scales_the_gradient_of_the_task_in_the_flow_and_nothing_else(
    make_rows, make_trainer
):
    rows = make_rows(30)
    gradients, terms = [], []
    for settled in (1, 20):
        trainer = make_trainer(rows, away=0.3, settled=settled)
        trainer.losses(rows, None)[0].backward()
        parts = (trainer.model.flow, trainer.model.head)
        gradients.append(
            [torch.cat([p.grad.flatten() for p in part.parameters()]) for part in parts]
        )
        terms.append(values(trainer, rows, None))
    share = trainer.pull
    assert 0 < share < 0.2
    assert terms[0] == terms[1]
    assert gradients[0][0].norm() > 1e-3
    torch.testing.assert_close(gradients[1][0], share * gradients[0][0], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients[1][1], gradients[0][1], rtol=1e-12, atol=0)
