"""One model trained by several real processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import hybridflow
from hybridflow.container import read_container
from hybridflow.distributed import Group, current, joined

WORKER = Path(__file__).with_name("worker.py")
LIMIT = 240


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    package = str(Path(hybridflow.__file__).parents[1])
    path = os.pathsep.join([package, *filter(None, [kept.get("PYTHONPATH")])])
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path} | more


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(case: str, folder: Path, size: int) -> list[tuple[int, str]]:
    """Run a job, and return the exit code of each rank and what it said."""
    folder.mkdir(exist_ok=True)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = [
        subprocess.Popen(
            [sys.executable, WORKER, case, folder],
            env=environment(
                **({} if size == 1 else address | {"RANK": str(rank), "WORLD_SIZE": str(size)})
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        said = [process.communicate(timeout=LIMIT)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_container(path)[1]


def furthest(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of any number, relative where it is large."""
    assert one.keys() == two.keys()
    return max(
        float(((a.double() - b.double()).abs() / (1 + a.double().abs())).max())
        for a, b in ((one[name], two[name]) for name in one)
        if a.numel()
    )


@pytest.mark.parametrize(
    ("case", "size"),
    [
        pytest.param("classifier", 3, id="classifier, unequal parts"),
        pytest.param("regressor", 2, id="regressor", marks=pytest.mark.slow),
        pytest.param("file", 2, id="a file in parts", marks=pytest.mark.slow),
        pytest.param("tiny", 3, id="fewer rows than ranks", marks=pytest.mark.slow),
    ],
)
def test_ranks_train_the_model_of_one_process(tmp_path, case, size):
    """40 steps in float64: the weights agree to 1e-6, and all ranks have the same, bit for bit."""
    for number in (1, size):
        ended = run(case, tmp_path / str(number), number)
        assert [code for code, _ in ended] == [0] * number, ended
    alone = weights(tmp_path / "1" / "0.hflow")
    ranks = [weights(tmp_path / str(size) / f"{rank}.hflow") for rank in range(size)]
    assert furthest(alone, ranks[0]) < 1e-6
    for other in ranks[1:]:
        assert all(torch.equal(tensor, ranks[0][name]) for name, tensor in other.items())


def test_ranks_with_other_rows_are_refused(tmp_path):
    for code, said in run("rows", tmp_path, 2):
        assert code == 1
        assert "of 2: the ranks of this job have different rows, weights or seeds" in said
        assert "random_state=0" in said


@pytest.mark.slow
def test_ranks_with_other_seeds_are_refused(tmp_path):
    for code, said in run("seeds", tmp_path, 2):
        assert code == 1
        assert "have different rows, weights or seeds" in said


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("jobs", "n_jobs=2: in a distributed job all ranks work on one member at a time"),
        ("batches", "which ranks that see parts of a batch cannot share"),
    ],
)
def test_what_ranks_cannot_share_is_refused(tmp_path, case, message):
    for code, said in run(case, tmp_path, 2):
        assert code == 1
        assert f"ConfigError: {message}" in said or message in said


def test_a_killed_rank_ends_the_others_with_one_clear_error(tmp_path):
    (killed, _), (code, said) = run("killed", tmp_path, 2)
    assert killed == -9
    assert code == 1
    assert "LostProcessError: another rank of the distributed job failed or was killed" in said
    assert not list(tmp_path.glob("*.hflow"))


@pytest.mark.slow
def test_one_rank_keeps_checkpoints_and_all_resume(tmp_path):
    assert [code for code, _ in run("checkpoint", tmp_path, 2)] == [0, 0]
    first = [weights(tmp_path / f"{rank}.hflow") for rank in range(2)]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["member-0.safetensors"]
    ended = run("checkpoint", tmp_path, 2)  # only what comes after the last step
    assert [code for code, _ in ended] == [0, 0], ended
    for rank in range(2):
        resumed = weights(tmp_path / f"{rank}.hflow")
        assert all(torch.equal(tensor, first[rank][name]) for name, tensor in resumed.items())


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*command, "-m", "hybridflow", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_the_command_line_under_torchrun(tmp_path):
    """One rank talks and saves, and the model is that of one process."""
    rng = np.random.default_rng(0)
    data = tmp_path / "rows.csv"
    a, b = rng.normal(size=(2, 300))
    pl.DataFrame({"a": a, "b": b, "y": a - b + rng.normal(size=300)}).write_csv(data)
    settings = ["--target", "y", "--set", "training.steps=30", "--dtype", "float64"]
    done = torchrun("fit", data, *settings, "-o", tmp_path / "two.hflow")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("saved:") == 1
    alone = subprocess.run(
        [sys.executable, "-m", "hybridflow", "fit", data, *settings, "-o", tmp_path / "one.hflow"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert alone.returncode == 0, alone.stderr
    assert furthest(weights(tmp_path / "one.hflow"), weights(tmp_path / "two.hflow")) < 1e-6
    refused = torchrun("fit", data, *settings, "-o", tmp_path / "two.hflow")
    assert refused.returncode == 1
    assert "--force" in refused.stderr


def test_without_a_job_the_group_is_of_one(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with joined() as group:
        assert group == current() == Group()
        assert group.alone
        assert group.first


@pytest.mark.parametrize(("n", "size"), [(0, 2), (1, 3), (7, 3), (64, 2), (10, 10)])
def test_shares_are_all_rows_once(n, size):
    shares = [Group(rank, size).share(n) for rank in range(size)]
    assert torch.cat(shares).tolist() == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
