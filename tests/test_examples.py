"""The examples run, in a folder of their own, without a warning of hybridflow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(folder: Path, *arguments: str, warnings: str = "error") -> str:
    # The program beside this interpreter comes first, as in an environment that is active.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-W", warnings, *arguments],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_quickstart(tmp_path):
    out = run(tmp_path, str(ROOT / "examples" / "quickstart.py"))
    assert "the saved model predicts the same: True" in out
    assert list(tmp_path.iterdir()) == []


def test_plots(tmp_path):
    out = run(tmp_path, str(ROOT / "examples" / "plots.py"), "pictures")
    written = sorted((tmp_path / "pictures").iterdir())
    assert out.count("wrote") == len(written) == 8
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_novelty(tmp_path):
    out = run(tmp_path, str(ROOT / "examples" / "novelty.py"))
    assert "mixed up bottles" in out
    assert "Where each score is known to fail" in out


@pytest.mark.slow
def test_demo_runs_twice(tmp_path):
    arguments = (str(ROOT / "examples" / "demo.py"), "--rows", "1000", "--steps", "30")
    for _ in range(2):
        out = run(tmp_path, *arguments)
        assert "Done in" in out
        assert out.count("largest difference") == 2
    assert sorted(path.name for path in (tmp_path / "demo_output").iterdir()) == [
        "flights.hflow",
        "later.csv",
        "predicted.csv",
    ]


@pytest.mark.slow
def test_the_life_of_a_model(tmp_path):
    """Real Optuna, MLflow, servers, ONNX Runtime, and Spark where it is installed."""
    arguments = (str(ROOT / "examples" / "life.py"), "--trials", "2", "--steps", "40")
    out = run(tmp_path, *arguments, warnings="default")  # mlflow has some of its own
    assert "2 trials; 3 runs in MLflow" in out
    assert "models:/diabetes@champion is version 1" in out
    assert out.count('"log_density"') == 2
    assert "ONNX Runtime predicts 89 rows as the model does" in out
    if find_spec("pyspark") is None or shutil.which("java") is None:
        assert "left out: it needs Java" in out
    else:
        assert "89 rows, of which the model abstained on" in out
