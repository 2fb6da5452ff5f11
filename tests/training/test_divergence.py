"""E01 to E03: steps that are not finite, gradients that are huge, rates that are absurd."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hybridflow import (
    FlowDensity,
    HybridClassifier,
    HybridRegressor,
    TrainingConfig,
)
from hybridflow.errors import TrainingDivergedError


class Poison:
    """The losses of a trainer, spoilt at some calls in training."""

    def __init__(self, trainer, spoilt, value=math.nan) -> None:
        self.clean, self.spoilt, self.value = trainer.losses, spoilt, value
        self.training = lambda: trainer.model.training
        self.calls = 0

    def __call__(self, rows, noise, smoothing, **whole):
        task, density = self.clean(rows, noise, smoothing, **whole)
        if self.training():
            self.calls += 1
            if self.calls in self.spoilt:
                density = density * self.value
        return task, density


def poisoned(trainer, spoilt, value=math.nan):
    trainer.losses = Poison(trainer, spoilt, value)
    return trainer


def everything(trainer) -> list[torch.Tensor]:
    tensors = [p.detach().clone() for p in trainer.parameters]
    for parameter in trainer.parameters:
        tensors += [v.clone() for v in trainer.optimizer.state[parameter].values()]
    return tensors


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_e01_a_step_that_is_not_finite_is_skipped(make_trainer, value):
    trainer = poisoned(make_trainer(steps=50), {4}, value)
    for _ in range(3):
        trainer.take_step()
    before, rate = everything(trainer), trainer.config.learning_rate
    trainer.take_step()
    assert all(torch.equal(a, b) for a, b in zip(before, everything(trainer), strict=True))
    assert (trainer.state.step, trainer.state.skipped, trainer.state.factor) == (4, 1, 0.5)
    trainer.state.step = trainer.state.steps // 20
    assert trainer.learning_rate() <= rate / 2
    trainer.take_step()
    assert (trainer.state.skipped, trainer.state.restarts) == (0, 0)
    assert not all(torch.equal(a, b) for a, b in zip(before, everything(trainer), strict=True))


def test_e01_a_gradient_that_is_not_finite_is_skipped(make_trainer):
    trainer = make_trainer(steps=50)
    trainer.take_step()
    before = everything(trainer)
    handle = trainer.parameters[0].register_hook(lambda gradient: gradient * math.nan)
    trainer.take_step()
    handle.remove()
    assert all(torch.equal(a, b) for a, b in zip(before, everything(trainer), strict=True))
    assert trainer.state.skipped == 1


def test_e01_five_in_a_row_roll_back_to_the_best(make_rows, make_trainer):
    trainer = make_trainer(make_rows(40), make_rows(30, seed=7), steps=60, evaluations=60)
    trainer.keep_best(math.inf)
    for _ in range(6):
        trainer.take_step()
        trainer.evaluate()
    best = {name: tensor.clone() for name, tensor in trainer.state.best.items()}
    trainer.take_step()  # away from the best
    drifted = everything(trainer)
    poisoned(trainer, set(range(1, 6)))
    for _ in range(4):
        trainer.take_step()
    assert all(torch.equal(a, b) for a, b in zip(drifted, everything(trainer), strict=True))
    assert (trainer.state.skipped, trainer.state.restarts) == (4, 0)
    trainer.take_step()
    assert (trainer.state.skipped, trainer.state.restarts) == (5, 1)
    assert trainer.state.factor == 0.5**5
    assert all(torch.equal(best[k], v) for k, v in trainer.model.state_dict().items())
    assert not trainer.optimizer.state  # its moments led away from there
    trainer.take_step()
    assert all(p.isfinite().all() for p in trainer.parameters)


def test_e01_a_run_with_a_few_bad_steps_goes_to_the_end(make_trainer):
    trainer = poisoned(make_trainer(steps=100, settled=1), {5, 30, 31, 32, 60})
    state = trainer.run()
    assert (state.step, state.restarts, state.factor) == (100, 0, 0.5**5)
    assert state.history[-1].value < state.history[0].value - 0.05


def test_e01_after_three_restarts_training_is_given_up_with_the_best_weights(make_trainer):
    trainer = poisoned(make_trainer(steps=100, evaluations=100), set(range(11, 1000)))
    with pytest.raises(TrainingDivergedError, match=r"after 3 restarts.*training__learning_rate"):
        trainer.run()
    state = trainer.state
    assert (state.step, state.restarts) == (10 + 4 * 5, 4)
    assert len(state.history) == state.step  # one at the start, none after the last
    assert all(torch.equal(state.best[k], v) for k, v in trainer.model.state_dict().items())
    assert all(v.isfinite().all() for v in trainer.model.state_dict().values())
    untouched = make_trainer(steps=100, evaluations=100)
    moved = [
        not torch.equal(a, b) for a, b in zip(trainer.parameters, untouched.parameters, strict=True)
    ]
    assert any(moved)


def test_e01_patience_does_not_run_out_in_steps_that_are_not_taken(make_rows, make_trainer):
    trainer = poisoned(
        make_trainer(make_rows(40), make_rows(30, seed=7), steps=30, evaluations=30, patience=1),
        set(range(3, 1000)),
    )
    with pytest.raises(TrainingDivergedError):
        trainer.run()


def test_e01_an_evaluation_that_is_not_finite_is_no_candidate(make_rows, make_trainer):
    trainer = make_trainer(make_rows(40), make_rows(30, seed=7), steps=10, evaluations=10)
    clean = trainer.losses

    def spoilt(rows, noise, smoothing, **whole):
        task, density = clean(rows, noise, smoothing, **whole)
        return task, density if trainer.model.training else density * math.nan

    trainer.evaluate()
    before = (trainer.state.best_step, trainer.state.best_value)
    trainer.losses = spoilt
    state = trainer.run()
    assert (state.best_step, state.best_value) == before
    assert len(state.history) == 1


def test_e02_one_gradient_of_1e30_is_clipped(make_rows, make_trainer):
    values = []
    for huge in (False, True):
        trainer = make_trainer(
            make_rows(400),
            make_rows(200, seed=7),
            head=None,
            noised=True,
            dtype=torch.float32,
            batch_size=512,
            steps=300,
            epochs=300,
            learning_rate=0.01,
            likelihood_weight=1.0,
        )
        if huge:
            poisoned(trainer, {40}, 1e30)
        state = trainer.run()
        assert (state.skipped, state.factor) == (0, 1.0)
        values.append(state.best_value)
    assert values[1] == pytest.approx(values[0], rel=0.01)


def table(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    X[:, 2] = X[:, 2].round()
    return X, X[:, 0] + 0.3 * rng.normal(size=n)


@pytest.mark.parametrize(
    ("flow", "rate"), [("spline-coupling", 1e3), ("realnvp", 1e3), ("maf", 1e3), ("realnvp", 1e30)]
)
def test_e03_an_absurd_learning_rate_never_returns_a_model_of_nan(flow, rate):
    X, y = table()
    training = TrainingConfig(steps=15, learning_rate=rate)
    for estimator, target in (
        (FlowDensity(flow, training=training, random_state=0), None),
        (HybridRegressor(flow, training=training, random_state=0), y),
        (HybridClassifier(flow, training=training, random_state=0, validation=None), y > 0),
    ):
        try:
            estimator.fit(X, target)
        except TrainingDivergedError:
            continue
        state = estimator.models_[0].state_dict()
        assert all(tensor.isfinite().all() for tensor in state.values())
        assert np.isfinite(estimator.score_samples(X)).mean() > 0.5
        if target is not None:
            assert np.isfinite(np.asarray(estimator.predict(X), dtype=float)).all()
