"""Callbacks: the order of the hooks, errors in them, and the progress bar."""

from __future__ import annotations

import io
import re
import signal

import numpy as np
import pytest
import torch

from hybridflow import FlowDensity, TrainingConfig
from hybridflow.callbacks import Callback, ProgressBar

HOOKS = ("on_fit_start", "on_step_end", "on_validation", "on_fit_end")


class Log(Callback):
    """Record every hook with the state at that time; raise in one of them if told."""

    def __init__(self, bad: str | None = None) -> None:
        self.bad = bad
        self.seen = []

    def note(self, hook, state) -> None:
        self.seen.append((hook, state.step, len(state.history)))
        if hook == self.bad:
            raise ZeroDivisionError(hook)

    def on_fit_start(self, state) -> None:
        self.note("on_fit_start", state)

    def on_step_end(self, state) -> None:
        self.note("on_step_end", state)

    def on_validation(self, state) -> None:
        assert state.history[-1].step == state.step
        self.note("on_validation", state)

    def on_fit_end(self, state) -> None:
        self.note("on_fit_end", state)


def test_hooks_are_called_in_order_with_the_state_of_the_time(make_trainer):
    log = Log()
    make_trainer(steps=5, evaluations=2, callbacks=(log,)).run()
    assert log.seen == [
        ("on_fit_start", 0, 0),
        ("on_step_end", 1, 1),
        ("on_step_end", 2, 2),
        ("on_validation", 2, 2),
        ("on_step_end", 3, 2),
        ("on_step_end", 4, 3),
        ("on_validation", 4, 3),
        ("on_step_end", 5, 4),
        ("on_validation", 5, 4),
        ("on_fit_end", 5, 4),
    ]


def test_each_member_starts_and_ends():
    log = Log()
    X = np.random.default_rng(0).normal(size=(200, 2))
    training = TrainingConfig(steps=3)
    FlowDensity("realnvp", training=training, members=2, callbacks=(log,)).fit(X)
    hooks = [hook for hook, *_ in log.seen]
    assert hooks.count("on_fit_start") == hooks.count("on_fit_end") == 2
    half = len(hooks) // 2
    assert hooks[0] == hooks[half] == "on_fit_start"
    assert hooks[half - 1] == hooks[-1] == "on_fit_end"


@pytest.mark.parametrize("hook", HOOKS)
def test_an_error_in_a_hook_passes_and_ends_the_others(make_trainer, hook):
    other = Log()
    trainer = make_trainer(steps=5, callbacks=(other, Log(hook)))
    with pytest.raises(ZeroDivisionError, match=hook):
        trainer.run()
    assert other.seen[-1][0] == "on_fit_end"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert all(torch.equal(trainer.state.best[k], v) for k, v in trainer.model.state_dict().items())


@pytest.mark.parametrize("hook", HOOKS)
def test_an_estimator_can_be_fitted_after_an_error_in_a_hook(hook):
    X = np.random.default_rng(0).normal(size=(150, 2))
    model = FlowDensity("realnvp", training=TrainingConfig(steps=3), callbacks=(Log(hook),))
    with pytest.raises(ZeroDivisionError):
        model.fit(X)
    assert len(model.set_params(callbacks=()).fit(X).score_samples(X)) == 150


def test_callbacks_change_nothing(make_trainer):
    ends = []
    for callbacks in ((), (Callback(), Log(), ProgressBar(io.StringIO()))):
        trainer = make_trainer(steps=8, noised=True, batch_size=16, callbacks=callbacks)
        history = trainer.run().history
        ends.append((history, torch.cat([p.detach().flatten() for p in trainer.parameters])))
    assert ends[0][0] == ends[1][0]
    assert torch.equal(ends[0][1], ends[1][1])


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def plain_terminal(monkeypatch) -> None:
    """A terminal of known kind and width, whatever the tests run in."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.usefixtures("plain_terminal")
def test_the_bar_draws_on_a_terminal(make_trainer):
    stream = Terminal()
    state = make_trainer(steps=12, callbacks=(ProgressBar(stream),)).run()
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "fitting" in drawn
    assert "12/12 steps" in drawn
    assert f"loss {state.history[-1].value:.4g}" in drawn
    assert "\x1b[?25h" in stream.getvalue()  # the cursor is back


@pytest.mark.usefixtures("plain_terminal")
@pytest.mark.parametrize("hook", HOOKS)
def test_the_bar_is_closed_after_an_error(make_trainer, hook):
    stream, bar = Terminal(), ProgressBar(None)
    bar.file = stream
    with pytest.raises(ZeroDivisionError):
        make_trainer(steps=5, callbacks=(bar, Log(hook))).run()
    assert bar._progress is None
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


@pytest.mark.usefixtures("plain_terminal")
def test_the_bar_is_silent_elsewhere(make_trainer, capsys):
    stream = io.StringIO()
    make_trainer(steps=5, callbacks=(ProgressBar(stream), ProgressBar())).run()
    assert stream.getvalue() == ""
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("plain_terminal")
def test_the_bar_serves_one_member_after_another():
    stream = Terminal()
    X = np.random.default_rng(0).normal(size=(150, 2))
    training = TrainingConfig(steps=3)
    FlowDensity("realnvp", training=training, members=2, callbacks=(ProgressBar(stream),)).fit(X)
    assert stream.getvalue().count("3/3 steps") >= 2
