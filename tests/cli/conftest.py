"""Running the program: in this process, or as a real one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hybridflow.cli import main

FAST = ("--set", "training.steps=20", "--set", "flow.layers=2", "--set", "flow.hidden_units=8")


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it wrote."""

    code: int
    out: bytes
    said: str

    @property
    def table(self) -> pl.DataFrame:
        """The standard output, read as CSV."""
        return pl.read_csv(io.BytesIO(self.out))


Program = Callable[..., Outcome]


@pytest.fixture
def hybridflow(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Program:
    """Run ``hybridflow ARGUMENTS`` in this process."""

    def run(*arguments: object, stdin: bytes = b"") -> Outcome:
        capfdbinary.readouterr()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        code = exit.value.code
        return Outcome(code if isinstance(code, int) else 0, out, err.decode())

    return run


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start ``python -m hybridflow ARGUMENTS`` as a process, with `extra` in its environment.

    What changes texts is not inherited. Processes that are left are killed.
    """
    started = []
    left_out = ("LANG", "LANGUAGE", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM")

    def run(
        *arguments: object, extra: Mapping[str, str] | None = None, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in left_out and not name.startswith("LC_")
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "hybridflow", *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=inherited | dict(extra or {}),
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def fast() -> tuple[str, ...]:
    """Options that make a fit a matter of a second."""
    return FAST


def numbers(rows: int = 150) -> pl.DataFrame:
    """Return a table with three features and a numeric target."""
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, rows))
    return pl.DataFrame({"a": a, "b": a + b, "c": c, "y": a - c + 0.1 * rng.normal(size=rows)})


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with numbers.csv (target y), classes.csv (target kind), and their models."""
    folder = tmp_path_factory.mktemp("cli")
    table = numbers()
    table.write_csv(folder / "numbers.csv")
    kinds = pl.when(pl.col("y") > 0).then(pl.lit("high")).otherwise(pl.lit("low"))
    table.select("a", "b", "c", kind=kinds).write_csv(folder / "classes.csv")
    for name, data, options in (
        ("regressor", "numbers.csv", ["--target", "y"]),
        ("classifier", "classes.csv", ["--target", "kind"]),
        ("density", "numbers.csv", ["--drop", "y"]),
        ("outliers", "numbers.csv", ["--drop", "y", "--task", "outliers"]),
    ):
        model = folder / f"{name}.hflow"
        with pytest.raises(SystemExit) as exit:
            main(["fit", str(folder / data), *options, "-o", str(model), "-q", *FAST])
        assert exit.value.code == 0
    return folder
