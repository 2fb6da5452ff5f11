"""A run that is captured, written, read and continued equals one that was not stopped."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load, save

from hybridflow.callbacks import Callback
from hybridflow.checkpoint import capture, restore

RUNS = {
    "whole": {},
    "mini-batches": {"batch_size": 16},
    "noised": {"noised": True, "batch_size": 16},
    "keyed": {"noised": True, "keyed": True},
    "density": {"head": None, "noised": True, "batch_size": 16},
    "float32": {"dtype": torch.float32, "batch_size": 16, "noised": True},
}


class Capture(Callback):
    """Write a checkpoint in one hook at one step."""

    def __init__(self, hook: str, step: int) -> None:
        self.step = step
        self.written: tuple[str, bytes] | None = None
        setattr(self, hook, self.write)

    def write(self, state) -> None:
        if state.step == self.step and self.written is None:
            document, tensors = capture(self.trainer)
            self.written = json.dumps(document, allow_nan=False), save(tensors)


def resumed(fresh, written):
    document, tensors = written
    restore(fresh, json.loads(document), load(tensors))
    return fresh


def assert_same_end(one, two) -> None:
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, two.model.state_dict()[name]), name
    assert one.state.history == two.state.history
    assert (one.state.step, one.state.best_step, one.state.best_value, one.state.factor) == (
        two.state.step,
        two.state.best_step,
        two.state.best_value,
        two.state.factor,
    )
    assert torch.equal(one.generator.get_state(), two.generator.get_state())


@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize(
    ("hook", "step"),
    [
        ("on_fit_start", 0),
        ("on_step_end", 1),
        ("on_step_end", 7),
        ("on_step_end", 12),
        ("on_validation", 12),
        ("on_step_end", 23),
    ],
)
def test_a_resumed_run_ends_as_one_that_was_not_stopped(
    make_rows, make_trainer, settings, hook, step
):
    settings = {"steps": 24, "evaluations": 6, "learning_rate": 0.02, "settled": 30} | settings

    def trainer():
        return make_trainer(make_rows(75, unlabelled=30), make_rows(30, seed=7), **settings)

    stopped, watch = trainer(), Capture(hook, step)
    watch.trainer, stopped.callbacks = stopped, (watch,)
    stopped.run()
    whole = trainer()
    whole.run()
    assert_same_end(whole, stopped)  # a checkpoint changes nothing
    fresh = resumed(trainer(), watch.written)
    assert fresh.state.step == step
    fresh.run()
    assert_same_end(whole, fresh)


@pytest.mark.parametrize("step", [8, 9, 10])
def test_a_run_with_bad_steps_is_resumed(make_rows, make_trainer, step):
    """Skipped steps, the factor of the rate and the cleared moments are part of the state."""

    def trainer():
        made = make_trainer(make_rows(75), make_rows(30, seed=7), steps=30, batch_size=16)
        clean = made.losses

        def spoilt(rows, noise, smoothing, **whole):
            task, density = clean(rows, noise, smoothing, **whole)
            bad = made.model.training and 5 <= made.state.step < 11
            return task, density * float("nan") if bad else density

        made.losses = spoilt
        return made

    stopped, watch = trainer(), Capture("on_step_end", step)
    watch.trainer, stopped.callbacks = stopped, (watch,)
    stopped.run()
    assert stopped.state.restarts == 1
    fresh = resumed(trainer(), watch.written)
    fresh.run()
    assert_same_end(stopped, fresh)


def test_a_checkpoint_before_the_first_step_resumes(make_trainer):
    whole, fresh = make_trainer(steps=10), make_trainer(steps=10, seed=3)
    document, tensors = capture(whole)
    whole.run()
    restore(fresh, document, tensors)
    fresh.check_noise = whole.check_noise
    fresh.run()
    assert_same_end(whole, fresh)


def test_what_was_captured_does_not_change_with_the_run(make_trainer):
    trainer = make_trainer(steps=20, batch_size=16)
    for _ in range(5):
        trainer.take_step()
    document, tensors = capture(trainer)
    before = json.dumps(document), save(tensors)
    trainer.run()
    assert (json.dumps(document), save(tensors)) == before


def test_weights_that_are_not_dense_are_written(make_trainer):
    trainer = make_trainer(steps=20)
    matrix = next(p for p in trainer.parameters if p.ndim == 2)
    matrix.data = matrix.data.T.contiguous().T
    trainer.take_step()
    document, tensors = capture(trainer)
    fresh = resumed(make_trainer(steps=20), (json.dumps(document), save(tensors)))
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters, trainer.parameters, strict=True))
