"""One step: the learning rate, the clipped gradient, the groups of parameters."""

from __future__ import annotations

import math

import pytest
import torch

from hybridflow.training import gradient_norm


def rates(trainer) -> list[float]:
    found = []
    for step in range(trainer.state.steps + 1):
        trainer.state.step = step
        found.append(trainer.learning_rate())
    return found


def test_the_learning_rate_warms_up_and_falls_to_zero(make_trainer):
    found = rates(make_trainer(steps=100, warmup=0.1, learning_rate=0.5))
    assert found[:11] == pytest.approx([0.05 * step for step in range(11)])
    assert max(found) == found[10] == 0.5
    assert found[55] == pytest.approx(0.25)
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[32] == pytest.approx(0.25 * (1 + math.cos(math.pi * 22 / 90)))
    assert found[100] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
def test_few_steps_have_a_learning_rate_that_is_positive(make_trainer, steps, warmup):
    found = rates(make_trainer(steps=steps, warmup=warmup, learning_rate=0.5))
    assert all(0 <= rate <= 0.5 for rate in found)
    assert max(found) == 0.5


def test_the_optimiser_takes_the_rate_of_the_step_and_the_share_of_the_group(make_trainer):
    trainer = make_trainer(steps=50, learning_rate=0.01, settled=600)
    for _ in range(7):
        trainer.take_step()
        for group in trainer.optimizer.param_groups:
            assert group["lr"] == pytest.approx(trainer.learning_rate() * group["share"])


def test_matrices_of_flow_and_head_decay_and_nothing_else_does(make_trainer):
    trainer = make_trainer(settled=100, weight_decay=0.25)
    flow = {id(p) for p in trainer.model.flow.parameters()}
    seen = 0
    for group in trainer.parameter_groups():
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.25 if parameter.ndim >= 2 else 0.0)
            share = trainer.share if id(parameter) in flow else 1.0
            assert group["share"] == pytest.approx(share)
            seen += 1
    assert seen == len(list(trainer.model.parameters()))
    assert len(trainer.parameter_groups()) == 4


@pytest.mark.parametrize(
    ("steps", "batches", "spread"),
    [(300, 1, 1.0), (1200, 1, 0.25), (1200, 10, 0.5), (600, 10, 1.0)],
    ids=["short", "many steps", "many passes", "few passes"],
)
def test_a_long_run_spreads_its_decay(make_rows, make_trainer, steps, batches, spread):
    rows = make_rows(64 * batches)
    trainer = make_trainer(rows, rows, steps=steps, weight_decay=0.2, batch_size=64)
    assert max(1, trainer.batches.count) == batches
    assert trainer.decay() == pytest.approx(0.2 * spread)


def test_a_base_does_not_decay(make_trainer):
    trainer = make_trainer(weight_decay=0.25)
    trainer.model.base.register_parameter("means", torch.nn.Parameter(torch.zeros(2, 3)))
    trainer.parameters = list(trainer.model.parameters())
    decays = [
        group["weight_decay"]
        for group in trainer.parameter_groups()
        if any(p is trainer.model.base.means for p in group["params"])
    ]
    assert decays == [0.0]


@pytest.mark.parametrize(("head", "n"), [(None, 60), ("categorical", 700)])
def test_a_density_and_a_large_table_learn_at_the_full_rate(make_rows, make_trainer, head, n):
    trainer = make_trainer(make_rows(n), head=head, settled=200)
    assert {group["share"] for group in trainer.parameter_groups()} == {1.0}


def test_the_share_of_the_flow_grows_with_the_weight_of_the_rows(make_rows, make_trainer):
    pulls = []
    for n in (50, 100, 200, 400):
        rows = make_rows(n)
        rows.weight.fill_(1.0)
        pulls.append(make_trainer(rows, settled=100).pull)
    assert 0 < pulls[0] < pulls[1] < pulls[2] < pulls[3] == 1
    rows = make_rows(50)
    rows.weight.fill_(2.0)
    assert make_trainer(rows, settled=100).pull == pulls[1]


def test_the_flow_learns_at_the_fifth_power_of_the_rows_per_column(make_rows, make_trainer):
    rows = make_rows(60)
    rows.weight.fill_(1.0)
    per_column = 60 / rows.x.shape[1]
    trainer = make_trainer(rows, settled=2 * per_column)
    assert trainer.share == pytest.approx(1 / 32)


def test_the_decay_of_a_step_is_that_of_adamw(make_trainer):
    """One step from known gradients, against the update written out."""
    trainer = make_trainer(steps=1, learning_rate=0.01, weight_decay=0.5, settled=1, away=0.3)
    before = [p.detach().clone() for p in trainer.parameters]
    trainer.take_step()
    for parameter, old in zip(trainer.parameters, before, strict=True):
        gradient = parameter.grad
        decay = 0.5 if parameter.ndim >= 2 else 0.0
        expected = old * (1 - 0.01 * decay) - 0.01 * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("clip", [1e-3, 1e6], ids=["clipped", "whole"])
def test_the_gradient_is_clipped_as_a_whole(make_trainer, clip):
    whole = make_trainer(away=0.3, clip=1e9)
    trainer = make_trainer(away=0.3, clip=clip)
    for each in (whole, trainer):
        each.take_step()
    raw = torch.cat([p.grad.flatten() for p in whole.parameters])
    found = torch.cat([p.grad.flatten() for p in trainer.parameters])
    expected = raw * min(1.0, clip / float(raw.norm()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e30])
def test_the_norm_of_a_gradient_is_finite_where_its_square_is_not(dtype, size):
    parameters = [torch.nn.Parameter(torch.zeros(n, dtype=dtype)) for n in (2, 3, 1)]
    parameters[0].grad = torch.tensor([3.0, 0.0], dtype=dtype) * size
    parameters[1].grad = torch.tensor([0.0, 4.0, 12.0], dtype=dtype) * size
    assert float(gradient_norm(parameters)) == pytest.approx(13 * size, rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_norm_of_a_gradient_that_is_not_finite_is_not(bad):
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, bad])
    assert not gradient_norm([parameter]).isfinite()


@pytest.mark.parametrize(
    ("n", "steps", "epochs", "planned"),
    [(60, 2000, 5, 5), (60, 3, 5, 3), (640, 2000, 5, 50), (700, 2000, 5, 50), (640, 7, 5, 7)],
)
def test_planned_steps_are_bounded_by_both_limits(
    make_rows, make_trainer, n, steps, epochs, planned
):
    trainer = make_trainer(make_rows(n), steps=steps, epochs=epochs, batch_size=64)
    assert trainer.state.steps == planned
    assert trainer.run().step == planned


def test_a_step_works_where_the_caller_has_switched_gradients_off(make_trainer):
    ends = []
    for enabled in (True, False):
        trainer = make_trainer(steps=5)
        with torch.set_grad_enabled(enabled):
            trainer.run()
            assert torch.is_grad_enabled() is enabled
        ends.append(torch.cat([p.detach().flatten() for p in trainer.parameters]))
    assert torch.equal(*ends)


def test_a_flow_beside_a_head_never_stands_quite_still(make_rows, make_trainer):
    trainer = make_trainer(make_rows(20), settled=1000)
    assert trainer.pull < 1e-5
    assert trainer.share == 0.01
