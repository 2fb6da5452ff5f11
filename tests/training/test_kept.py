"""Fits that are kept in a folder go on after they were killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import hybridflow
from hybridflow import FlowDensity, HybridRegressor, ParquetTable, TrainingConfig
from hybridflow.callbacks import Callback
from hybridflow.container import read_container
from hybridflow.errors import CheckpointWarning, ConfigError, CorruptModelError

BRIEF = TrainingConfig(steps=30, evaluations=6)
KILLS = Path(__file__).with_name("kills.py")


def rows(n: int = 200, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2)).cumsum(1)


def density(folder, **more) -> FlowDensity:
    settings = {"training": BRIEF, "members": 1, "random_state": 0, "checkpoint": folder} | more
    return FlowDensity("realnvp", **settings)


class Stop(Callback):
    """Ends a fit with an error at a step, as a crash would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, state) -> None:
        if state.step == self.step:
            raise RuntimeError("crash")


def environment() -> dict[str, str]:
    package = str(Path(hybridflow.__file__).parents[1])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def same(one, two) -> bool:
    return all(
        torch.equal(tensor, b.state_dict()[name])
        for a, b in zip(one.models_, two.models_, strict=True)
        for name, tensor in a.state_dict().items()
    )


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_e06_fits_killed_at_random_instants_end_as_one_in_peace(tmp_path, kills):
    """Weights and histories of two members, bit for bit, and every file left behind is whole."""
    seed = int.from_bytes(os.urandom(4))
    done = subprocess.run(
        [sys.executable, KILLS, tmp_path, str(kills), str(seed)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] >= kills
    assert found["fits"] >= 1
    assert found["different"] == [], f"seed {seed}"


@pytest.mark.parametrize("step", [1, 14, 30])
def test_a_fit_that_crashed_goes_on_and_takes_no_step_twice(tmp_path, step):
    with pytest.raises(RuntimeError, match="crash"):
        density(tmp_path, callbacks=(Stop(step),)).fit(rows())
    seen = []

    class Note(Callback):
        def on_step_end(self, state) -> None:
            seen.append(state.step)

    resumed = density(tmp_path, callbacks=(Note(),)).fit(rows())
    assert seen[0] == step - step % 5 + (1 if step % 5 else -4)  # an evaluation every 5 steps
    assert same(resumed, density(None).fit(rows()))


def test_a_finished_fit_is_found_again(tmp_path):
    first = density(tmp_path, members=2).fit(rows())
    again = density(tmp_path, members=2, callbacks=(Stop(1),)).fit(rows())
    assert same(first, again)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "member-0.safetensors",
        "member-1.safetensors",
    ]


def test_members_in_processes_of_their_own_are_kept_too(tmp_path):
    first = density(tmp_path, members=2, n_jobs=2).fit(rows())
    assert len(list(tmp_path.iterdir())) == 2
    assert same(first, density(tmp_path, members=2).fit(rows()))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({}, "rows"),
        ({"training": BRIEF.model_copy(update={"steps": 40})}, "settings"),
        ({"random_state": 1}, "settings"),
        ({"flow__layers": 3}, "settings"),
    ],
    ids=["rows", "steps", "seed", "flow"],
)
def test_a_folder_of_another_fit_is_refused(tmp_path, change, part):
    density(tmp_path).fit(rows())
    before = (tmp_path / "member-0.safetensors").read_bytes()
    other = density(tmp_path).set_params(**change)
    with pytest.raises(ConfigError, match=f"holds a run with other .*{part}.* than this fit"):
        other.fit(rows(seed=0 if change else 1))
    assert (tmp_path / "member-0.safetensors").read_bytes() == before


def test_a_damaged_checkpoint_is_refused(tmp_path):
    density(tmp_path).fit(rows())
    path = tmp_path / "member-0.safetensors"
    spoilt = bytearray(path.read_bytes())
    spoilt[len(spoilt) // 2] ^= 4
    path.write_bytes(spoilt)
    with pytest.raises(CorruptModelError, match="member-0"):
        density(tmp_path).fit(rows())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoint": 3}, "checkpoint must be the path of a folder or None, got 3"),
        ({"checkpoint": __file__}, "checkpoint must be a folder, and .* is a file"),
        ({"random_state": None}, "random_state is None; pass a whole number: random_state=0"),
        ({"random_state": np.random.RandomState(0)}, "needs a fit that can be repeated"),
    ],
    ids=["number", "file", "no seed", "random state"],
)
def test_what_cannot_be_kept_is_refused(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        density(tmp_path).set_params(**change).fit(rows())


def test_a_table_that_is_read_in_parts_is_refused(tmp_path):
    import polars as pl

    path = tmp_path / "rows.parquet"
    pl.DataFrame(rows(2000), schema=["a", "b"]).write_parquet(path, row_group_size=50)
    with pytest.raises(ConfigError, match="read in parts cannot be kept"):
        density(tmp_path / "kept").fit(ParquetTable(path, buffer=1000))


def test_e07_a_folder_that_takes_no_file_is_one_error_before_training(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OSError, match="file"):
        density(file / "kept", callbacks=(Stop(1),)).fit(rows())


def test_e08_a_write_that_fails_later_warns_once_and_the_model_comes(tmp_path, monkeypatch):
    from hybridflow import checkpoint

    written, write = [], checkpoint.write_container

    def full(path, *arguments):
        if len(written) == 3:
            raise OSError(28, "No space left on device", str(path))
        written.append(path.name)
        write(path, *arguments)

    monkeypatch.setattr(checkpoint, "write_container", full)
    with pytest.warns(CheckpointWarning, match="No space left on device") as told:
        model = density(tmp_path).fit(rows())
    assert len([w for w in told if w.category is CheckpointWarning]) == 1
    assert same(model, density(None).fit(rows()))
    document, _ = read_container(tmp_path / "member-0.safetensors")
    assert document["run"]["step"] == 10


def test_e08_a_folder_that_vanished_is_made_again(tmp_path):
    class Remove(Callback):
        def on_step_end(self, state) -> None:
            if state.step == 12:
                (tmp_path / "kept" / "member-0.safetensors").unlink()
                (tmp_path / "kept").rmdir()

    density(tmp_path / "kept", callbacks=(Remove(),)).fit(rows())
    document, _ = read_container(tmp_path / "kept" / "member-0.safetensors")
    assert document["run"]["step"] == 30


def test_e05_sigterm_is_obeyed_after_the_step_is_kept(tmp_path):
    script = textwrap.dedent(
        f"""
        import sys
        import numpy as np
        from hybridflow import FlowDensity, TrainingConfig
        from hybridflow.callbacks import Callback

        class Tell(Callback):
            def on_step_end(self, state):
                if state.step == 3:
                    print("ready", flush=True)

        X = np.random.default_rng(0).normal(size=(200, 2))
        slow = TrainingConfig(steps=10**6, evaluations=1, patience=10**6)
        FlowDensity("realnvp", training=slow, random_state=0, callbacks=(Tell(),),
                    validation=0.2, checkpoint={str(tmp_path)!r}).fit(X)
        """
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == -signal.SIGTERM
        finally:
            process.kill()
    document, _ = read_container(tmp_path / "member-0.safetensors")
    assert document["run"]["step"] >= 3


def test_the_folder_is_not_written_into_the_model(tmp_path):
    model = density(tmp_path / "kept").fit(rows())
    model.save(tmp_path / "model.hflow")
    assert b"kept" not in (tmp_path / "model.hflow").read_bytes()
    assert hybridflow.load(tmp_path / "model.hflow").checkpoint is None


def test_the_command_line_goes_on_from_a_checkpoint(tmp_path):
    import polars as pl

    from hybridflow.cli.app import app

    a, b = rows().T
    pl.DataFrame({"a": a, "y": b}).write_csv(tmp_path / "rows.csv")
    kept = str(tmp_path / "kept")
    command = ["fit", str(tmp_path / "rows.csv"), "--target", "y", "--checkpoint", kept]
    command += ["--set", "training.steps=20", "--members", "1", "-o"]
    for name in ("one", "two"):
        done = CliRunner().invoke(app, [*command, str(tmp_path / f"{name}.hflow")])
        assert done.exit_code == 0, done.output
    one, two = (read_container(tmp_path / f"{name}.hflow")[1] for name in ("one", "two"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert isinstance(hybridflow.load(tmp_path / "one.hflow"), HybridRegressor)
