"""The documentation tells the truth: its code runs, and it names all that there is."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import hybridflow
from hybridflow import audit, errors, hookspecs, specs
from hybridflow.cli import failures

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/benchmarks").glob("*.md")),
]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "hybridflow").rglob("*.py")
)
HOOKS = [hook for hook in vars(hookspecs).values() if hasattr(hook, "hybridflow_spec")]
ERRORS = [
    name
    for name, item in vars(errors).items()
    if isinstance(item, type) and item.__module__ == errors.__name__
]
COMMANDS = [
    *[(verb,) for verb in ("fit", "predict", "score", "sample", "inspect", "verify", "tune")],
    ("serve",),
    ("export", "onnx"),
    ("plugins", "list"),
    ("plugins", "show"),
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start(2)))
        for match in FENCE.finditer(text)
    ]


def run_shell(block: Block, page: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, (
        f"{page.name}, line {block.line + 1}: exit code {done.returncode}\n{done.stderr}"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks marked ``python`` or ``bash`` run in order, one namespace and folder a page."""
    monkeypatch.chdir(tmp_path)
    if page.stem == "mlflow":  # this machine may be busy, and the database is not dead
        monkeypatch.setattr("hybridflow.mlflow.courier.LONGEST_WAIT", 120.0)
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page):
        if block.language == "python":
            # Empty lines in front make a traceback show the line of the page.
            code = "\n" * block.line + block.code
            exec(compile(code, str(page), "exec", dont_inherit=True), namespace)
        elif block.language == "bash":
            run_shell(block, page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_languages(page: Path) -> None:
    """A fence without a known language would be skipped in silence."""
    opened = re.findall(r"^```(\S.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    known = {"python", "bash", "sh", "text", "toml", "json", "{toctree}", "{include}", "{math}"}
    assert {language.split(" ")[0] for language in opened} <= known


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    # Without the module's own `from __future__ import annotations`, as a user would paste them.
    names = {key: value for key, value in vars(module).items() if key != "annotations"}
    result = doctest.testmod(module, globs=names)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples of {name} fail"


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)
def test_hook_is_documented(hook: Any) -> None:
    signature = f"def {hook.__name__}{inspect.signature(hook)}".replace("'", "")
    assert signature in (ROOT / "docs/plugins.md").read_text(encoding="utf-8")


def test_documented_hooks_exist() -> None:
    text = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    assert set(re.findall(r"def (hybridflow_\w+)", text)) == {hook.__name__ for hook in HOOKS}


@pytest.mark.parametrize("spec", [specs.FlowSpec, specs.BaseSpec, specs.HeadSpec])
def test_spec_fields_are_documented(spec: Any) -> None:
    text = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    missing = [field.name for field in dataclasses.fields(spec) if f"`{field.name}`" not in text]
    assert not missing


@pytest.mark.parametrize("name", ERRORS)
def test_error_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs/errors.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in hybridflow.__all__ if name != "__version__"])
def test_public_name_is_in_the_reference(name: str) -> None:
    listed = (ROOT / "docs/api/index.rst").read_text(encoding="utf-8").split()
    assert any(entry == name or entry.endswith(f".{name}") for entry in listed)


def test_defaults_in_the_text_are_those_of_the_code() -> None:
    concepts, design = ((ROOT / f"docs/{name}.md").read_text() for name in ("concepts", "design"))
    training = hybridflow.TrainingConfig()
    assert f"`training__settled` ({training.settled:g};" in concepts
    assert f"`training.settled` ({training.settled:g})" in design
    assert f"({training.weight_decay:g} times the learning rate)" in design
    assert f"- Up to {audit.SMALL} distinct rows" in concepts
    assert f"| up to {audit.SMALL} distinct (`SMALL`)" in design


@pytest.mark.parametrize("name", sorted({name.split(".")[1] for name in MODULES if "." in name}))
def test_part_is_in_the_layout(name: str) -> None:
    """The page about the design names each module and package."""
    layout = (ROOT / "docs/design.md").read_text(encoding="utf-8").split("## Layout")[1]
    path = ROOT / "hybridflow" / name
    assert (f"{name}/" if path.is_dir() else f"{name}.py") in layout


def test_built_in_components_are_documented() -> None:
    text = (ROOT / "docs/components.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE))
    entries = hybridflow.Registry(entry_points=False).entries()
    assert documented == {entry.name for entry in entries}


def test_exit_codes_are_documented() -> None:
    documented = re.findall(r"^\| (\d+) \|", (ROOT / "docs/cli.md").read_text(), re.MULTILINE)
    named = [value for name, value in vars(failures).items() if name.isupper()]
    assert sorted(map(int, documented)) == sorted([0, 2, *named])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_options_are_documented(command: tuple[str, ...]) -> None:
    """Each option that ``--help`` lists is in the page of the command line."""
    text = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "from hybridflow.cli import main; main()", *command, "--help"],
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", done.stdout)) - {"--help"}
    assert f"`{' '.join(command)}`" in text
    assert not {option for option in options if f"`{option}" not in text}


@pytest.mark.slow
def test_sphinx_builds_without_warnings(tmp_path: Path) -> None:
    ignore = shutil.ignore_patterns("_build", "generated")
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=ignore)
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", "html"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
