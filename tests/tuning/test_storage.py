"""Where studies are kept: real files, a real PostgreSQL, and what can be wrong with each."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
import sqlalchemy

from hybridflow import tune
from hybridflow.errors import ConfigError, MissingExtraError, TuningError
from hybridflow.tuning.storage import open_storage, shown


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    """The URL of a server of its own, which no other user may be root of."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    programs = shutil.which("initdb"), shutil.which("postgres")
    if None in programs:
        pytest.skip("PostgreSQL is not installed")
    initdb, server = programs
    user = None
    if os.geteuid() == 0:  # as whom PostgreSQL refuses to run
        user = "nobody"
    root = Path("/tmp") / f"hybridflow-postgres-{os.getpid()}"
    root.mkdir(mode=0o700)
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(root, account.pw_uid, account.pw_gid)
    options = {"user": user, "cwd": root, "stdout": subprocess.DEVNULL}
    process = None
    try:
        subprocess.run(
            [initdb, "-D", root / "data", "-U", "tuner", "-A", "trust", "--no-sync"],
            check=True, **options,
        )  # fmt: skip
        port = free_port()
        process = subprocess.Popen(
            [server, "-D", root / "data", "-p", str(port), "-h", "127.0.0.1", "-k", root, "-F"],
            stderr=subprocess.PIPE, text=True, **options,
        )  # fmt: skip
        for line in process.stderr:
            if "ready to accept connections" in line:
                break
        else:
            pytest.fail("PostgreSQL did not start")
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        yield f"postgresql+psycopg://tuner@127.0.0.1:{port}/postgres"
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # without waiting for clients
            process.wait(30)
            drain.join()
            process.stderr.close()
        shutil.rmtree(root)


def test_sqlite_keeps_a_study(table, quick, small, tmp_path):
    url = f"sqlite:///{tmp_path / 'study.db'}"
    options = {"space": small, "storage": url, "refit": False}
    tune(quick(), *table, trials=1, **options)
    found = tune(quick(), *table, trials=2, **options)
    assert [trial.state.name for trial in found.study.trials] == ["COMPLETE"] * 2
    assert (tmp_path / "study.db").read_bytes().startswith(b"SQLite format 3")
    found.study._storage.remove_session()


@pytest.mark.slow
@pytest.mark.parametrize("score", ["task", ("task", "likelihood")], ids=["one", "several"])
def test_postgresql_keeps_a_study_that_two_workers_share(table, quick, small, postgres, score):
    options = {"space": small, "storage": postgres, "refit": False, "score": score}
    tune(quick(), *table, trials=1, **options)
    found = tune(quick(), *table, trials=4, workers=2, **options)
    assert [trial.number for trial in found.study.trials] == [0, 1, 2, 3]
    assert all(trial.state.is_finished() for trial in found.study.trials)
    assert len({trial.user_attrs["worker"]["process"] for trial in found.study.trials}) >= 2


def test_a_line_that_was_not_written_to_its_end_is_cut_off(table, quick, small, journal):
    options = {"space": small, "storage": journal, "refit": False}
    tune(quick(), *table, trials=1, **options)
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"worker_id":"abc')
    found = tune(quick(), *table, trials=2, **options)
    assert [trial.number for trial in found.study.trials] == [0, 1]
    assert journal.read_bytes().startswith(whole + b"{")


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("nodb://x", ConfigError, "nodb://x is no URL of a database"),
        ("postgresql+psycopg://u:secret@127.0.0.1:1/x", TuningError, r"u:\*\*\*@127.*refused"),
        ("sqlite:///missing/study.db", TuningError, "unable to open database file"),
        ("missing/study.journal", FileNotFoundError, "missing/study.journal"),
        (".", ConfigError, "is a folder; name a file in it"),
        ("table.csv", ConfigError, "table.csv is no journal"),
    ],
)
def test_a_storage_that_cannot_be_is_an_error(where, error, message, tmp_path, monkeypatch):
    if "psycopg" in where:
        pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    monkeypatch.chdir(tmp_path)
    Path("table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(error, match=message) as caught:
        open_storage(where)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "driver", "package"),
    [
        ("mysql+pymysql://u:secret@h/x", "pymysql", "pymysql"),
        ("postgresql+psycopg2://u:secret@h/x", "psycopg2", "psycopg2-binary"),
        ("postgresql+psycopg://u:secret@h/x", "psycopg", r"psycopg\[binary\]"),
    ],
)
def test_a_missing_driver_is_named(url, driver, package, monkeypatch):
    monkeypatch.setitem(sys.modules, driver, None)  # as if it were not installed
    with pytest.raises(MissingExtraError, match=f'pip install "{package}"') as caught:
        open_storage(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("mysql://me:secret@host/x", "mysql://me:***@host/x"),
        ("sqlite:///study.db", "sqlite:///study.db"),
        ("study.journal", "study.journal"),
        (optuna.storages.InMemoryStorage(), "InMemoryStorage"),
    ],
)
def test_what_a_storage_is_called_holds_no_password(where, text):
    assert shown(where) == text
    if isinstance(where, str) and "@" in where:
        url = sqlalchemy.engine.make_url(where)
        assert url.render_as_string(hide_password=True) == text


def test_without_optuna_the_extra_is_named(tmp_path):
    code = (
        "import sys; sys.modules['optuna'] = None\n"
        "try:\n    from hybridflow import tune\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "hybridflow[tune]"' in done.stdout, done.stderr
