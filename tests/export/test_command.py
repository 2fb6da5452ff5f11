"""``hybridflow export onnx``."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridflow.cli import main

from .conftest import Exported


def run(*arguments: object) -> int:
    """Return the exit code of the program."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def test_it_writes_and_prints(
    density: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    density.estimator.save(tmp_path / "model.hflow")
    density.table.to_csv(tmp_path / "rows.csv", index=False)
    out = tmp_path / "out"
    arguments = ("export", "onnx", tmp_path / "model.hflow", "-o", out)
    asked = ("--rows", tmp_path / "rows.csv", "--outputs", "log_density", "--float32")
    assert run(*arguments, *asked) == 0
    assert sorted(path.name for path in out.iterdir()) == ["predict.onnx", "sample.onnx"]
    printed = capsys.readouterr()
    assert "log_density, tails" in printed.out
    assert "wrote" in printed.err
    assert run(*arguments) == 1
    assert "overwritten" in capsys.readouterr().err


def test_wrong_levels_are_named(
    density: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    density.estimator.save(tmp_path / "model.hflow")
    options = ("-o", tmp_path / "out", "--quantiles", "low,high")
    assert run("export", "onnx", tmp_path / "model.hflow", *options) == 1
    assert "--quantiles: expected numbers" in capsys.readouterr().err
