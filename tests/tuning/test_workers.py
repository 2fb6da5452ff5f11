"""Several processes on one study: real ones, killed by real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import optuna
import polars as pl
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hybridflow import tune
from hybridflow.errors import ConfigError, InputError, TuningError
from hybridflow.tuning import liveness
from hybridflow.tuning.liveness import RETRY, WORKER
from hybridflow.tuning.lock import JournalLock

QUICK = [
    "--set", "flow.layers=2", "--set", "flow.hidden_units=4", "--set", "head.basis=identity",
    "--set", "training.patience=1000", "--set", "training.evaluations=20", "-q",
]  # fmt: skip

PLUGIN = """
from typing import Annotated
from hybridflow import Config, FlowSpec, hookimpl
from hybridflow.config import Int

class {name}(Config):
    layers: Annotated[int, Int(1, 3)] = 2
    hidden_units: int = 4

def build(event, config):
    from hybridflow.flows import RealNVP
    from hybridflow.flows.affine import build_coupling
    return build_coupling(event, RealNVP(layers=config.layers, hidden_units=config.hidden_units))

@hookimpl
def hybridflow_flows():
    return [FlowSpec("{name}-flow".lower(), "For tests", {name}, build)]
"""


def install(folder, name):
    """Lay out a distribution with a flow as an environment would have it."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(PLUGIN.format(name=name.capitalize()))
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hybridflow]\n{name} = {name}\n")


@pytest.fixture
def data(tmp_path, table):
    X, y = table
    path = tmp_path / "table.csv"
    pl.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": y}).write_csv(path)
    return path


@pytest.fixture
def start(tmp_path):
    """Start ``hybridflow tune``; processes that are left are killed."""
    started = []

    def run(*arguments, extra=()):
        path = os.pathsep.join([*map(str, extra), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            [sys.executable, "-m", "hybridflow", "tune", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def only_study(journal):
    storage = JournalStorage(JournalFileBackend(str(journal)))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def running(journal, process, least=0):
    """Wait for a trial that runs while at least so many are complete, and return it."""
    while process.poll() is None:
        time.sleep(0.05)
        if not journal.exists() or not journal.read_bytes().count(b"\n") > 3:
            continue
        trials = only_study(journal).get_trials(deepcopy=False)
        complete = sum(trial.state == TrialState.COMPLETE for trial in trials)
        for trial in trials:
            alive = trial.state == TrialState.RUNNING and WORKER in trial.user_attrs
            if alive and trial.params and complete >= least:
                return trial
    pytest.fail(f"it ended before: {process.communicate()}")


def lost(study):
    return [trial for trial in study.trials if liveness.was_lost(trial)]


def test_a_killed_worker_loses_one_trial_and_another_takes_its_place(data, journal, start):
    command = start(
        data, "--target", "y", "--trials", 5, "--workers", 2, "--storage", journal, *QUICK,
        "--set", "training.steps=500",
    )  # fmt: skip
    victim = running(journal, command, least=1)
    assert victim.user_attrs[WORKER]["process"] != command.pid
    os.kill(victim.user_attrs[WORKER]["process"], signal.SIGKILL)
    out, said = command.communicate(timeout=300)
    assert command.returncode == 0, said
    assert 'target = "y"' in out
    study = only_study(journal)
    assert [trial.number for trial in lost(study)] == [victim.number]
    again = [trial for trial in study.trials if RETRY in trial.user_attrs]
    assert [trial.params for trial in again] == [victim.params]
    assert sum(liveness.counts(trial) for trial in study.trials) == 5
    assert all(trial.state.is_finished() for trial in study.trials)


@pytest.mark.slow
def test_a_killed_search_goes_on_also_with_another_plugin(data, journal, start, tmp_path):
    site = tmp_path / "site"
    install(site, "first")
    arguments = [
        data, "--target", "y", "--trials", 3, "--storage", journal, "--search",
        "flow=first-flow,realnvp", "--set", "head.basis=identity",
        "--set", "training.patience=1000", "--set", "training.steps=500", "-q",
    ]  # fmt: skip
    command = start(*arguments, extra=[site])
    victim = running(journal, command, least=1)
    command.send_signal(signal.SIGKILL)
    command.communicate()
    before = [trial.number for trial in only_study(journal).trials]

    install(site, "second")
    command = start(*arguments, extra=[site])
    _, said = command.communicate(timeout=300)
    assert command.returncode == 0, said
    study = only_study(journal)
    assert before == list(range(len(before)))
    assert [trial.number for trial in lost(study)] == [victim.number]
    assert sum(liveness.counts(trial) for trial in study.trials) == 3
    flows = {
        trial.distributions["flow"].choices for trial in study.trials if "flow" in trial.params
    }
    assert flows == {("first-flow", "realnvp")}


@pytest.mark.slow
def test_workers_end_with_the_command_that_started_them(data, journal, start):
    command = start(
        data, "--target", "y", "--trials", 5, "--workers", 2, "--storage", journal, *QUICK,
        "--set", "training.steps=1000000",
    )  # fmt: skip
    worker = running(journal, command).user_attrs[WORKER]["process"]
    command.send_signal(signal.SIGKILL)
    command.communicate()  # which also waits for the workers: they hold the same streams
    for _ in range(200):
        if not liveness.is_alive(worker) or is_zombie(worker):
            return
        time.sleep(0.05)
    pytest.fail("a worker outlived its command")


def is_zombie(process):
    """Return whether a process has ended and waits for a parent to take note of it."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
def test_ctrl_c_keeps_the_trials_and_queues_what_was_running(data, journal, start):
    command = start(
        data, "--target", "y", "--trials", 5, "--workers", 2, "--storage", journal, *QUICK,
        "--set", "training.steps=1000000",
    )  # fmt: skip
    running(journal, command)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=120)
    assert command.returncode == 130
    assert "the same command goes on" in said
    trials = only_study(journal).trials
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]
    assert [trial for trial in trials if trial.state == TrialState.WAITING]


def test_callbacks_of_several_workers_run_here_one_at_a_time(table, quick, small, journal):
    seen = []
    found = tune(
        quick(), *table, trials=4, workers=2, space=small, storage=journal,
        callbacks=[lambda study, trial: seen.append((os.getpid(), trial.number))],
    )  # fmt: skip
    assert sorted(seen) == [(os.getpid(), number) for number in range(4)]
    processes = {trial.user_attrs[WORKER]["process"] for trial in found.study.trials}
    assert os.getpid() not in processes
    assert found.estimator.predict(table[0]).shape == (260,)


def test_what_cannot_be_sent_to_a_worker_is_refused(table, quick, small, journal, registry):
    with pytest.raises(ConfigError, match=r"cannot be sent to other processes.*use workers=1"):
        tune(quick(registry=registry), *table, workers=2, space=small, storage=journal)


def test_bad_data_in_a_worker_are_the_error_of_the_call(table, quick, journal):
    X, y = table
    with pytest.raises(InputError):
        tune(quick(head="poisson"), X, y, workers=2, storage=journal)


def test_a_worker_without_its_storage_is_an_error(table, quick, small, tmp_path, monkeypatch):
    from hybridflow.tuning import plan

    open_storage = plan.open_storage
    here = tmp_path / "here.journal"
    monkeypatch.setattr(plan, "open_storage", lambda where: open_storage(here))
    with pytest.raises(TuningError, match=r"a worker cannot go on: .*No such file"):
        tune(quick(), *table, workers=2, space=small, storage=tmp_path / "gone" / "x.journal")


HOLDER = """
import sys, time
from pathlib import Path
from hybridflow.tuning.lock import JournalLock
JournalLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_a_lock_is_free_when_its_holder_is_killed(journal):
    journal.touch()
    command = [sys.executable, "-c", HOLDER, str(journal)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        lock = JournalLock(journal)
        lock._shared.grace_period = None  # it would be waited for without end
        waiting = threading.Thread(target=lock.acquire, daemon=True)
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        holder.kill()
        waiting.join(60)
        assert not waiting.is_alive()
    lock.release()
    assert list(journal.parent.iterdir()) == [journal]


def test_a_lock_of_another_machine_is_respected(journal):
    journal.touch()
    of_another = journal.with_name(f"{journal.name}.lock")
    of_another.write_text("another machine")
    lock = JournalLock(journal)
    waiting = threading.Thread(target=lock.acquire, daemon=True)
    waiting.start()
    waiting.join(0.5)
    assert waiting.is_alive()
    of_another.unlink()
    waiting.join(60)
    assert not waiting.is_alive()
    lock.release()


@pytest.mark.parametrize(
    ("mark", "started", "gone"),
    [
        ({"host": "here", "process": "own", "time": 0}, 0, False),
        ({"host": "here", "process": "own", "time": 1000}, 0, True),
        ({"host": "here", "process": "dead", "time": 0}, 0, True),
        ({"host": "elsewhere", "process": "dead", "time": 0}, 0, False),
        ({"host": "elsewhere", "process": "dead", "time": 1000}, 0, True),
        (None, 0, False),
        (None, 1000, True),
    ],
    ids=["alive", "silent", "dead", "elsewhere", "silent elsewhere", "beginning", "never began"],
)
def test_who_is_gone(mark, started, gone):
    """Times are seconds ago."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    now = time.time()
    attrs = {}
    if mark is not None:
        hosts = {"here": liveness.this_host(), "elsewhere": "another"}
        processes = {"own": os.getpid(), "dead": ended.pid}
        attrs[WORKER] = {
            "host": hosts[mark["host"]],
            "process": processes[mark["process"]],
            "time": now - mark["time"],
        }
    trial = optuna.trial.create_trial(state=TrialState.RUNNING, user_attrs=attrs)
    trial.datetime_start = np.datetime64(int((now - started) * 1e6), "us").item()
    assert liveness.is_lost(trial, now) is gone


def test_settings_that_are_lost_again_and_again_are_given_up():
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.5})
    for lives in range(1 + liveness.RETRIES):
        trial = study.ask()
        assert trial.suggest_float("x", 0, 1) == 0.5
        assert trial.user_attrs.get(RETRY, 0) == lives
        assert liveness.give_up(study, study.trials[-1])
        assert not liveness.give_up(study, study.trials[trial.number])  # somebody was faster
    assert len(study.trials) == 1 + liveness.RETRIES
    assert [liveness.counts(trial) for trial in study.trials] == [False] * liveness.RETRIES + [True]


def test_a_heartbeat_goes_on_until_the_trial_is_taken_away(monkeypatch):
    monkeypatch.setattr(liveness, "BEAT", 0.01)
    study = optuna.create_study()
    trial = study.ask()
    with liveness.Heartbeat(trial, "command") as heart:
        first = study.trials[0].user_attrs[WORKER]["time"]
        while study.trials[0].user_attrs[WORKER]["time"] == first:
            time.sleep(0.01)
        study.tell(0, state=TrialState.FAIL)
        heart._thread.join(10)
        assert not heart._thread.is_alive()
