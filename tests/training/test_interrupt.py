"""E04: Ctrl-C keeps the best weights and leaves the process as it was."""

from __future__ import annotations

import signal
import threading
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from hybridflow import (
    FlowDensity,
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
    TrainingConfig,
)
from hybridflow.callbacks import Callback
from hybridflow.errors import InterruptedFitWarning
from hybridflow.guards import stop_on_interrupt

ESTIMATORS = (HybridClassifier, HybridRegressor, FlowDensity, FlowOutlierDetector)


def table() -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(300, 2))
    return X, (X[:, 0] > 0).astype(float)


class Interrupt(Callback):
    """Press Ctrl-C in a step, once or more often, and record what is seen."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.step, self.times = step, times
        self.last = self.ended = 0

    def on_step_end(self, state) -> None:
        self.last = state.step
        if state.step == self.step:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)

    def on_fit_end(self, state) -> None:
        self.ended += 1


def fitted(kind, interrupt, on_interrupt="keep", steps=60, **settings):
    training = TrainingConfig(steps=steps, on_interrupt=on_interrupt)
    return kind("realnvp", training=training, callbacks=(interrupt,), random_state=0, **settings)


@pytest.mark.parametrize("kind", ESTIMATORS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("on_interrupt", ["raise", "keep"])
def test_e04_the_estimator_is_usable_after_ctrl_c(kind, on_interrupt):
    X, y = table()
    interrupt = Interrupt(7)
    model = fitted(kind, interrupt, on_interrupt)
    stopped = pytest.raises(KeyboardInterrupt) if on_interrupt == "raise" else nullcontext()
    with pytest.warns(InterruptedFitWarning, match="interrupted at step 7 of 60"), stopped:
        model.fit(X, y)
    assert (interrupt.last, interrupt.ended) == (7, 1)
    assert model.interrupted_
    assert np.isfinite(model.score_samples(X)).all()
    if hasattr(model, "predict"):
        assert np.isfinite(model.predict(X)).all()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    model.set_params(callbacks=()).fit(X, y)
    assert not model.interrupted_


@pytest.mark.parametrize("step", [1, 13, 29, 48, 60])
def test_e04_the_best_weights_are_kept(make_rows, make_trainer, step):
    interrupt = Interrupt(step)
    trainer = make_trainer(
        make_rows(40),
        make_rows(30, seed=7),
        steps=60,
        learning_rate=0.05,
        patience=60,
        callbacks=(interrupt,),
    )
    with pytest.warns(InterruptedFitWarning, match=f"at step {step} of 60"):
        state = trainer.run()
    assert state.interrupted
    assert state.step == step
    values = [record.value for record in state.history]
    with torch.no_grad():
        task, density = trainer.losses(trainer.held_out, None)
    found = float(task) + trainer.density_scale * float(density)
    assert found == pytest.approx(min(values), rel=1e-12)


def test_e04_members_after_the_interrupted_one_are_not_fitted():
    X, _ = table()
    interrupt = Interrupt(7)
    model = fitted(FlowOutlierDetector, interrupt, members=3)
    with pytest.warns(InterruptedFitWarning):
        model.fit(X)
    assert len(model.models_) == len(model.histories_) == 1
    assert set(model.predict(X)) <= {-1, 1}


def test_e04_a_second_ctrl_c_is_immediate(make_trainer):
    interrupt = Interrupt(7, times=2)
    trainer = make_trainer(steps=60, callbacks=(interrupt,))
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert (trainer.state.step, interrupt.ended) == (7, 1)
    assert all(torch.equal(trainer.state.best[k], v) for k, v in trainer.model.state_dict().items())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_ctrl_c_nothing_is_said(make_trainer):
    state = make_trainer(steps=5).run()
    assert not state.interrupted


def test_the_handler_is_ours_in_the_steps_alone():
    stopped = []
    with stop_on_interrupt(lambda: stopped.append(1)):
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        signal.raise_signal(signal.SIGINT)
        assert stopped == [1]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_handler_is_restored_after_an_error():
    with pytest.raises(ZeroDivisionError), stop_on_interrupt(lambda: None):
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_caller_stays():
    def mine(number, frame) -> None: ...

    before = signal.signal(signal.SIGINT, mine)
    try:
        with stop_on_interrupt(lambda: None):
            assert signal.getsignal(signal.SIGINT) is mine
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_fit_in_another_thread_installs_no_handler():
    X, _ = table()
    seen, errors = [], []

    class Look(Callback):
        def on_step_end(self, state) -> None:
            seen.append(signal.getsignal(signal.SIGINT))

    def work() -> None:
        try:
            fitted(FlowDensity, Look(), steps=5).set_params(members=1).fit(X)
        except BaseException as error:  # of any kind: it would be lost with the thread
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []
    assert seen == [signal.default_int_handler] * 5


@pytest.mark.filterwarnings("error")
def test_the_warning_as_an_error_leaves_the_handler(make_trainer):
    trainer = make_trainer(steps=60, callbacks=(Interrupt(7),))
    with pytest.raises(InterruptedFitWarning):
        trainer.run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
