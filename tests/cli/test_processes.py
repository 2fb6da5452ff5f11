"""What only a real process shows: imports, signals, pipes, locales, terminals."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys

import pytest

import hybridflow as package

HEAVY = ("torch", "polars", "sklearn", "pandas", "numpy", "scipy", "safetensors")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plugins", "list"]], ids=str)
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        "import sys\nfrom hybridflow.cli import main\n"
        f"try: main({arguments!r})\n"
        f"except SystemExit as exit: print(exit.code, [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(("asked", "threads"), [(None, "1"), ("2", "2")], ids=["unset", "two"])
def test_the_maths_runs_in_one_thread_unless_asked_otherwise(tables, asked, threads):
    code = (
        "import sys\nfrom hybridflow.cli import main\n"
        f"try: main(['verify', '-q', {str(tables / 'density.hflow')!r}])\n"
        "except SystemExit: print(sys.modules['torch'].get_num_threads())"
    )
    left_out = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    if asked is not None:
        environment["OMP_NUM_THREADS"] = asked
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [threads]


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_large_output_arrives_whole(start, tables, unbuffered):
    process = start(
        *("sample", tables / "density.hflow", "-n", "5000"),
        extra={"PYTHONUNBUFFERED": unbuffered},
    )
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out.count(b"\n") == 5001


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_reader_that_goes_away_ends_it_quietly(start, tables, unbuffered):
    process = start(
        *("sample", tables / "density.hflow", "-n", "5000"),
        extra={"PYTHONUNBUFFERED": unbuffered},
    )
    assert process.stdout.readline() == b"a,b,c\n"
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait() == 141
    assert said == b""


@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "list"]], ids=" ".join)
def test_closed_output_of_texts(start, arguments):
    process = start(*arguments)
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait() == 141
    assert said == b""


def test_interrupt_saves_the_best_weights(start, tables, tmp_path):
    model = tmp_path / "m.hflow"
    # A terminal, so that the progress bar shows when the training is under way.
    screen, terminal = pty.openpty()
    process = start(
        *("fit", tables / "numbers.csv", "--target", "y", "-o", model),
        *("--set", "training.steps=1000000", "--set", "training.epochs=1000000"),
        *("--set", "training.patience=1000000"),
        stderr=terminal,
    )
    os.close(terminal)
    said = b""
    while not re.search(rb"[1-9]\d*/1000000", said):
        said += os.read(screen, 1024)
    process.send_signal(signal.SIGINT)
    while b"weights so far are saved" not in said:
        said += os.read(screen, 1024)
    os.close(screen)
    assert process.wait(timeout=120) == 130
    assert process.stdout.read() == b""
    assert b"warning: fit interrupted at step" in said
    assert b"Traceback" not in said
    assert package.load(model).interrupted_


def test_interrupt_before_there_is_anything_to_save(start, tmp_path):
    os.mkfifo(tmp_path / "never.csv")
    process = start("fit", tmp_path / "never.csv", "-o", tmp_path / "m.hflow")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    # Python itself ends with the signal if it came while something was imported: for a shell 130.
    assert process.returncode in (130, -signal.SIGINT)
    assert said == b"interrupted\n"


def test_other_locales_change_nothing(start, tables):
    outputs = set()
    for extra in (
        {"LANG": "C"},
        {"LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"},
        {"LANG": "de_DE.ISO-8859-1", "PYTHONIOENCODING": "latin-1", "TZ": "Asia/Kathmandu"},
    ):
        process = start("predict", tables / "classifier.hflow", tables / "classes.csv", extra=extra)
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
        outputs.add(out)
    assert len(outputs) == 1


def test_names_beyond_the_encoding_are_escaped(start, tables, tmp_path):
    model = tmp_path / "☂.hflow"
    model.write_bytes((tables / "density.hflow").read_bytes())
    process = start("verify", model, extra={"PYTHONIOENCODING": "ascii"})
    out, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")
    assert b"\\u2602.hflow: intact" in out


@pytest.mark.parametrize(
    "extra", [{"NO_COLOR": "1"}, {"COLUMNS": "20"}, {"TERM": "dumb"}, {}], ids=str
)
def test_help_is_plain_text_without_a_terminal(start, extra):
    process = start("fit", "--help", extra=extra)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")
    assert b"\x1b" not in out
    assert "--target" in re.sub(r"[\s│]", "", out.decode())


def test_debug_shows_the_traceback(start, tmp_path):
    process = start("inspect", tmp_path / "no.hflow", extra={"HYBRIDFLOW_DEBUG": "1"})
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"Traceback" in said
    assert b"FileNotFoundError" in said
