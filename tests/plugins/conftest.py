"""Small plugin distributions, good and broken, built and installed for real.

Each is built into a wheel from a ``pyproject.toml`` and one module, and all
are installed by pip once per session. The fixture `site` then lays out a
folder with just those that a test names, as a fresh environment would have them.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "1.0"
description = "A plugin for tests"
dependencies = {requires}
[project.entry-points.hybridflow]
{point} = "{target}"
[tool.hatch.build.targets.wheel]
only-include = ["{module}.py"]
"""

BUILD = """
import sys
from hatchling.builders.wheel import WheelBuilder
for root in sys.argv[2:]:
    list(WheelBuilder(root).build(directory=sys.argv[1], versions=["standard"]))
"""

PART = """
from hybridflow import BaseSpec, Config, FlowSpec, HeadSpec, hookimpl

class Part(Config):
    size: int = 3

def build(event, config):
    raise NotImplementedError

def flow(name):
    return FlowSpec(name, "A flow for tests", type("Own", (Part,), {}), build)

def base(name):
    return BaseSpec(name, "A base for tests", type("Own", (Part,), {}), build)
"""


def flows(body: str) -> str:
    """Return a module whose `hybridflow_flows` has the given body."""
    return f"{PART}\n@hookimpl\ndef hybridflow_flows():\n    {body}\n"


def bases(body: str) -> str:
    """Return a further hook, to follow `flows`."""
    return f"\n@hookimpl\ndef hybridflow_bases():\n    {body}\n"


SLOW = """
import threading, warnings
for thread in threading.enumerate():
    if isinstance(thread, threading.Timer):
        thread.join(60)  # as slow as it takes for the watch to fire, whatever the machine
"""

COUNTING = """
CALLS = []
"""

SOURCES = {
    "dummy-fine": flows("return [flow('fine')]") + bases("yield base('fine-base')"),
    "dummy-other": flows("return (flow('other'),)"),
    "dummy-counting": flows("CALLS.append(1); return [flow('counted')]") + COUNTING,
    "dummy-import-error": "import no_module_of_this_name",
    "dummy-raises": "raise ZeroDivisionError('one / zero')",
    "dummy-syntax-error": "def (:",
    "dummy-exit": "raise SystemExit(3)",
    "dummy-interrupt": "raise KeyboardInterrupt",
    "dummy-mute": (
        "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\nraise Mute"
    ),
    "dummy-slow": SLOW + flows("return [flow('slow')]"),
    "dummy-misspelt": flows("return []").replace("hybridflow_flows", "hybridflow_flow")
    + bases("return [base('spelt')]"),
    "dummy-unmarked": "def hybridflow_flows():\n    return []",
    "dummy-argument": flows("return []").replace("flows():", "flows(event):"),
    "dummy-missing": flows("return []"),
    "dummy-number": "plugin = 5",
    "dummy-class": PART + "class plugin:\n    @hookimpl\n    def hybridflow_flows(self): return []",
    "dummy-object": PART + "class Plugin:\n    @hookimpl\n    def hybridflow_flows(self):\n"
    "        return [flow('from-object')]\nplugin = Plugin()",
    "dummy-not-iterable": flows("return flow('alone')"),
    "dummy-none": flows("return None"),
    "dummy-not-a-spec": flows("return [flow('first'), 'second']"),
    "dummy-wrong-kind": flows("return [base('a-base')]"),
    "dummy-bad-name": flows("return [flow('Bad Name')]"),
    "dummy-half": flows("raise OSError('no licence')") + bases("return [base('other-half')]"),
    "dummy-generator": flows("yield flow('first'); raise OSError('halfway')"),
    "dummy-repeats": flows("return [flow('again'), flow('again')]"),
    "dummy-empty": flows("return []"),
    "dummy-twin-a": flows("return [flow('twin')]"),
    "dummy-twin-b": flows("return [flow('twin')]"),
    "dummy-shadow": flows("return [flow('spline-coupling')]"),
    "dummy-future": flows("return [flow('future')]"),
}
REQUIRES = {
    "dummy-fine": ["hybridflow>=0.1,<1", "hybridflow>=9; extra == 'later'"],
    "dummy-future": ["hybridflow>=99"],
}
ATTRIBUTES = dict.fromkeys(
    ["dummy-missing", "dummy-number", "dummy-class", "dummy-object"], "plugin"
)


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all dummy distributions are installed in."""
    work = tmp_path_factory.mktemp("dummies")
    roots = [_write(work / name, name, source) for name, source in SOURCES.items()]
    wheels, target = work / "wheels", work / "site"
    _run(sys.executable, "-c", BUILD, str(wheels), *map(str, roots))
    options = "--no-deps --no-index --no-compile --no-cache-dir --disable-pip-version-check"
    files = sorted(map(str, wheels.glob("*.whl")))
    _run(sys.executable, "-m", "pip", "install", *options.split(), "--target", str(target), *files)
    return target


@pytest.fixture
def site(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., str]]:
    """Return a function that makes a folder with the named distributions and puts it first on
    the path."""

    def make(*names: str, folder: str = "site") -> str:
        target = tmp_path / folder
        target.mkdir()
        for name in names:
            module = name.replace("-", "_")
            shutil.copy(installed / f"{module}.py", target)
            shutil.copytree(
                installed / f"{module}-1.0.dist-info", target / f"{module}-1.0.dist-info"
            )
        monkeypatch.syspath_prepend(target)
        return str(target)

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield make
    for module in [name for name in sys.modules if name.startswith("dummy_")]:
        del sys.modules[module]
    importlib.invalidate_caches()


def _write(root: Path, name: str, source: str) -> Path:
    module = name.replace("-", "_")
    attribute = ATTRIBUTES.get(name)
    root.mkdir()
    (root / f"{module}.py").write_text(source, encoding="utf-8")
    (root / "pyproject.toml").write_text(
        PYPROJECT.format(
            name=name,
            module=module,
            point=name.removeprefix("dummy-"),
            target=f"{module}:{attribute}" if attribute else module,
            requires=REQUIRES.get(name, ["hybridflow"]),
        ),
        encoding="utf-8",
    )
    return root


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
