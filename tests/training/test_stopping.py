"""Early stopping, the best weights, and the history."""

from __future__ import annotations

import json
import math

import pytest
import torch

from hybridflow.errors import HybridFlowError
from hybridflow.training import Record


def value(trainer) -> float:
    """Return the loss of the trainer's model on the rows it checks."""
    with torch.no_grad():
        task, density = trainer.losses(trainer.held_out or trainer.rows, trainer.check_noise)
    return trainer.density_scale * float(density) + (0.0 if task is None else float(task))


def contradicting(make_rows):
    """Return rows and held-out rows of one class each, not the same."""
    rows, held_out = make_rows(40), make_rows(40)
    rows.targets.values.fill_(0)
    held_out.targets.values.fill_(2)
    return rows, held_out


@pytest.mark.parametrize("head", ["categorical", None])
@pytest.mark.parametrize("noised", [False, True], ids=["clean", "noised"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_returned_model_is_the_best_of_the_history(make_rows, make_trainer, head, noised, seed):
    trainer = make_trainer(
        make_rows(25),
        make_rows(30, seed=7),
        head=head,
        noised=noised,
        seed=seed,
        steps=120,
        learning_rate=0.1,
        batch_size=16,
        settled=8,
        average=0.0,
        patience=40,
    )
    state = trainer.run()
    values = [record.value for record in state.history]
    assert value(trainer) == pytest.approx(min(values), rel=1e-12)
    assert state.best_value == min(values)
    assert state.best_step == state.history[values.index(min(values))].step
    assert min(values) < values[-1]  # or this proves nothing


def test_the_untrained_model_is_a_candidate(make_rows, make_trainer):
    """Every step away from it makes the held-out rows less probable."""
    rows, held_out = contradicting(make_rows)
    trainer = make_trainer(rows, held_out, likelihood_weight=0.0, learning_rate=0.03, steps=80)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    state = trainer.run()
    assert state.best_step == 0 < state.step
    assert all(torch.equal(before[k], v) for k, v in trainer.model.state_dict().items())


def test_patience_ends_training_early(make_rows, make_trainer):
    rows, held_out = contradicting(make_rows)
    trainer = make_trainer(
        rows, held_out, likelihood_weight=0.0, steps=200, epochs=200, evaluations=20, patience=3
    )
    state = trainer.run()
    assert (state.best_step, state.step) == (0, 3 * 10)


def test_without_held_out_rows_training_goes_to_the_end_and_keeps_the_last_weights(make_trainer):
    trainer = make_trainer(steps=60, learning_rate=0.3, patience=1, settled=1)
    state = trainer.run()
    assert state.step == state.best_step == 60
    assert value(trainer) == pytest.approx(state.history[-1].value, rel=1e-12)


def test_evaluations_are_spread_evenly_and_the_last_is_at_the_end(make_trainer):
    steps = [r.step for r in make_trainer(steps=100, evaluations=7).run().history]
    assert steps == [*range(0, 99, 14), 100]


def test_more_evaluations_than_steps_is_one_per_step(make_trainer):
    state = make_trainer(steps=5, evaluations=40).run()
    assert [record.step for record in state.history] == [0, 1, 2, 3, 4, 5]


def test_held_out_rows_are_only_looked_at(make_rows, make_trainer):
    """Other held-out rows give other values and the same path of the weights."""
    paths, values = [], []
    for seed in (7, 8):
        trainer = make_trainer(
            make_rows(40), make_rows(30, seed=seed), noised=True, steps=30, batch_size=16
        )
        weights = []
        trainer.callbacks = (Spy(lambda t=trainer, w=weights: w.append(flat(t))),)
        state = trainer.run()
        paths.append(torch.stack(weights))
        values.append([record.value for record in state.history])
    assert torch.equal(*paths)
    assert values[0] != values[1]


def flat(trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in trainer.parameters])


class Spy:
    """A callback that calls a function after each step."""

    def __init__(self, function) -> None:
        self.function = function

    def on_fit_start(self, state) -> None: ...
    def on_validation(self, state) -> None: ...
    def on_fit_end(self, state) -> None: ...
    def on_step_end(self, state) -> None:
        self.function()


@pytest.mark.parametrize("head", ["categorical", None])
def test_the_history_is_plain_json(make_trainer, head):
    history = make_trainer(head=head, steps=30, learning_rate=0.03).run().history
    written = json.dumps([record.model_dump() for record in history], allow_nan=False)
    assert [Record(**record) for record in json.loads(written)] == history
    assert [Record.from_json(record) for record in json.loads(written)] == history
    assert all(math.isfinite(record.value) for record in history)


def test_a_record_is_strict():
    with pytest.raises(HybridFlowError, match="step"):
        Record(step="one", value=1.0, task=None, density=1.0, learning_rate=0.1)
