"""Members in processes of their own: the same models, callbacks, Ctrl-C, limits of time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from hybridflow import (
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
    Registry,
    TrainingConfig,
)
from hybridflow.callbacks import Callback
from hybridflow.errors import ConfigError

QUICK = TrainingConfig(steps=30)


def table() -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(400, 3))
    X[:, 2] = X[:, 2].round()
    return X, X[:, 0] + X[:, 1] ** 2


def weights(model) -> list[torch.Tensor]:
    return [tensor for member in model.models_ for tensor in member.state_dict().values()]


@pytest.mark.parametrize("kind", [HybridRegressor, FlowOutlierDetector], ids=lambda k: k.__name__)
def test_members_side_by_side_are_those_of_one_process_bit_for_bit(kind):
    X, y = table()
    one = kind("realnvp", training=QUICK, members=3, random_state=0).fit(X, y)
    two = kind("realnvp", training=QUICK, members=3, random_state=0, n_jobs=2).fit(X, y)
    assert len(two.models_) == 3
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(two), strict=True))
    assert one.histories_ == two.histories_
    np.testing.assert_array_equal(one.score_samples(X), two.score_samples(X))
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    assert not any(p.requires_grad for m in two.models_ for p in m.parameters())
    assert not any(m.training for m in two.models_)


def test_a_categorical_table_goes_over_whole():
    X, y = table()
    cells = np.array([*X.T, np.where(X[:, 0] > 0, "a", None)], dtype=object).T
    labels = np.where(y > 0.5, "yes", "no")
    settings = {"training": QUICK, "members": 2, "random_state": 0}
    one = HybridClassifier(**settings).fit(cells, labels)
    two = HybridClassifier(**settings, n_jobs=-1).fit(cells, labels)
    np.testing.assert_array_equal(one.predict_proba(cells), two.predict_proba(cells))


def test_callbacks_need_one_process():
    X, y = table()
    model = HybridRegressor(training=QUICK, n_jobs=2, callbacks=(Callback(),))
    with pytest.raises(ConfigError, match=r"callbacks= would run in other processes.*n_jobs=1"):
        model.fit(X, y)
    model.set_params(members=1).fit(X, y)  # one member needs no other process


def test_plugins_registered_by_hand_need_one_process():
    X, y = table()
    with pytest.raises(ConfigError, match=r"registered by hand.*n_jobs=1"):
        HybridRegressor(training=QUICK, n_jobs=2, registry=Registry()).fit(X, y)


@pytest.mark.parametrize("wrong", [0, 1.5, True, "2"])
def test_what_is_no_number_of_processes_is_refused(wrong):
    X, y = table()
    with pytest.raises(ConfigError, match="n_jobs must be a whole number"):
        HybridRegressor(n_jobs=wrong).fit(X, y)


def test_errors_of_a_member_are_its_own():
    X, y = table()
    model = HybridRegressor("planar", training=QUICK.replace(memory="reversible"), n_jobs=2)
    with pytest.raises(ConfigError, match="memory"):
        model.fit(X, y)


def test_a_limit_of_time_holds():
    X, y = table()
    endless = TrainingConfig(steps=10_000_000, patience=10_000_000, evaluations=10)
    model = HybridRegressor(
        training=endless, members=2, n_jobs=2, time_limit=1.0, random_state=0
    ).fit(X, y)
    assert all(0 < history[-1].step < 100_000 for history in model.histories_)


def test_members_go_with_their_held_out_rows_where_one_between_them_did_not_begin(monkeypatch):
    class Pool(joblib.Parallel):
        """Ctrl-C came when the first and the third member had begun, but not the second."""

        def __call__(self, tasks):
            first, _, third = [function(*arguments) for function, arguments, _ in tasks]
            return [first, None, third]

    monkeypatch.setattr(joblib, "Parallel", Pool)
    X, y = table()
    settings = {"training": QUICK, "members": 3, "random_state": 0}
    some = HybridRegressor("realnvp", **settings, n_jobs=2).fit(X, y)
    every = HybridRegressor("realnvp", **settings).fit(X, y)
    assert some.histories_ == every.histories_[:1]


SCRIPT = """
    import numpy as np, signal, warnings
    from hybridflow import FlowDensity, TrainingConfig
    from hybridflow.errors import LostProcessError

    signal.signal(signal.SIGINT, signal.default_int_handler)
    X = np.random.default_rng(0).normal(size=(400, 2))
    training = TrainingConfig(steps=1_000_000, patience=1_000_000, on_interrupt="{what}")
    model = FlowDensity(training=training, members=3, n_jobs=2, random_state=0)
    warnings.simplefilter("ignore")
    try:
        model.fit(X)
    except KeyboardInterrupt:
        print("raised")
    except LostProcessError as error:
        raise SystemExit(str(error))
    print(model.interrupted_, len(model.models_), np.isfinite(model.score_samples(X)).all())
"""


def workers_at_work(parent: int) -> list[int]:
    """Return the worker processes that ignore Ctrl-C, as they do once they fit a member."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            command = (status.parent / "cmdline").read_bytes()
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (FileNotFoundError, ProcessLookupError):
            continue
        ignores = int(lines["SigIgn"], 16) >> (signal.SIGINT - 1) & 1
        if int(lines["PPid"]) == parent and b"popen_loky" in command and ignores:
            found.append(int(lines["Pid"]))
    return found


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="looks at processes in /proc"
)


@contextmanager
def fitting(what: str) -> Iterator[subprocess.Popen[str]]:
    """Run a fit that does not end, up to where two members are being fitted."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT.format(what=what))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, all of which Ctrl-C reaches
    )
    try:
        while process.poll() is None and len(workers_at_work(process.pid)) < 2:
            time.sleep(0.05)
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@needs_proc
@pytest.mark.parametrize(("what", "said"), [("keep", ""), ("raise", "raised\n")])
def test_ctrl_c_keeps_the_best_weights_of_the_members_that_began(what, said):
    with fitting(what) as process:
        os.killpg(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert out == f"{said}True 2 True\n"


@needs_proc
def test_a_process_that_is_killed_ends_the_fit():
    with fitting("keep") as process:
        os.kill(workers_at_work(process.pid)[0], signal.SIGKILL)
        _, told = process.communicate(timeout=120)
        assert not workers_at_work(process.pid)
    assert process.returncode == 1
    assert "a process that fitted a member ended without an answer" in told
    assert "n_jobs=1" in told
