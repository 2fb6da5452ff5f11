"""How ``hybridflow serve`` starts, refuses to start, and ends."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hybridflow import HybridRegressor
from hybridflow.cli import main

Serve = Callable[..., tuple[object, str]]


@pytest.fixture
def serve(regressor: HybridRegressor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Serve:
    """Run a command that does not get as far as serving; return its exit code and message."""

    def run(*options: object) -> tuple[object, str]:
        path = tmp_path / "model.hflow"
        regressor.save(path, overwrite=True)
        with pytest.raises(SystemExit) as ended:
            main(["serve", str(path), *map(str, options)])
        return ended.value.code, capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    "option", ["--max-body=0", "--max-body=nan", "--timeout=0", "--timeout=nan", "--port=-1"]
)
def test_limits_that_cannot_be(serve: Serve, option: str) -> None:
    code, said = serve(option)
    assert code == 2
    assert option.partition("=")[0] in said


def test_a_port_that_is_taken(serve: Serve) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        code, said = serve("--port", port)
    assert code == 1
    assert said == f"error: 127.0.0.1:{port}: Address already in use\n"


def test_an_address_of_another_machine(serve: Serve) -> None:
    code, said = serve("--host", "192.0.2.1", "--port", 0)
    assert code == 1
    assert said.startswith("error: 192.0.2.1:0: ")


def test_a_file_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.hflow").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        main(["serve", str(tmp_path / "model.hflow")])
    assert ended.value.code == 1
    assert "model.hflow" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["fastapi", "uvicorn"])
def test_a_missing_library_is_named(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    code, said = serve()
    assert code == 1
    assert f'{library}, which is not installed: pip install "hybridflow[serve]"' in said


def test_interrupted_it_says_so_and_no_more(
    serving: Callable[..., Any], regressor: HybridRegressor, tmp_path: Path
) -> None:
    with serving(regressor, tmp_path) as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(30) == 130
    assert server.said[-1] == "interrupted\n"
    assert not any("Traceback" in line for line in server.said)


def test_nothing_of_mlflow_is_loaded(
    serving: Callable[..., Any], regressor: HybridRegressor, tmp_path: Path
) -> None:
    """The extra ``serve`` is enough."""
    script = tmp_path / "without.py"
    script.write_text(
        "import sys\n"
        "sys.modules.update(mlflow=None, pandas=None)\n"
        "from hybridflow.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    with serving(regressor, tmp_path, program=[str(script)]) as server:
        assert server.post({"instances": [[0.0, 0.0, 0.0]]})[0] == 200
