"""What imports what: the layers of the package, and what an import must not bring in."""

from __future__ import annotations

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import hybridflow

PACKAGE = Path(__file__).resolve().parents[1] / "hybridflow"

# A part may import what stands above it.
LAYERS = [
    {"errors"},
    {"config"},
    {"specs"},
    {"hookspecs"},
    {"registry"},
    {"nets"},
    {"masked"},
    {"transforms", "laws"},
    {"calibration", "metrics"},
    {"novelty"},
    {"densities"},
    {"likelihoods"},
    {"flows", "bases", "heads"},
    {"categories", "cells", "contract", "draws", "lattice", "layout", "verdict"},
    {"column", "model", "parquet", "table"},
    {"schema"},
    {"audit", "batches", "callbacks", "distributed", "exactness", "guards", "history", "schedule"},
    {"allocation", "atomic", "filetype", "header", "provenance"},
    {"container"},
    {"training"},
    {"checkpoint"},
    {"estimators"},
    {"plots"},
    {"selftest"},
    {"restoring"},
    {"answering"},
    {"bundle"},
    {"mlflow", "serving"},
    {"tuning"},
    {"export"},
    {"testing"},
    {"cli"},
    {"__main__"},
]
# The maths: modules of plain tensor operations.
MATHS = {"nets", "masked", "transforms", "densities", "laws", "likelihoods"}
NOT_FOR_MATHS = {"registry", "hookspecs"}
# A method that imports, when it is called, what is built on its own class.
LATE = {("estimators", "bundle")}
HEAVY = ["mlflow", "optuna", "onnx", "onnxruntime", "onnxscript", "matplotlib", "pandas"]


class Import(NamedTuple):
    module: str
    late: bool
    line: int


def part(module: str) -> str:
    """Return ``transforms`` for ``hybridflow.transforms.base``, "" for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
each_module = pytest.mark.parametrize("module", MODULES)


@functools.cache
def imports(module: str) -> list[Import]:
    """Return what a module imports, types alone (``if TYPE_CHECKING``) left out."""
    return list(walk(module, ast.parse(MODULES[module].read_text(encoding="utf-8"))))


def walk(module: str, tree: ast.Module) -> Iterator[Import]:
    """Yield the imports in a syntax tree, and whether each waits for a call."""
    pending: list[tuple[ast.AST, bool]] = [(tree, False)]
    while pending:
        node, late = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, late, node.lineno) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: imports are absolute"
            assert node.module is not None
            if node.module == "hybridflow":  # each name is a part, or an attribute of the package
                names = [alias.name for alias in node.names]
                yield from (Import(f"hybridflow.{name}", late, node.lineno) for name in names)
            else:
                yield Import(node.module, late, node.lineno)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        pending += [(child, late or inside) for child in ast.iter_child_nodes(node)]


def test_every_part_has_a_layer() -> None:
    assert {part(module) for module in MODULES} - {""} <= set(RANK)


@each_module
def test_imports_go_up_the_layers(module: str) -> None:
    own = part(module)
    for found in imports(module):
        other = part(found.module)
        if found.module.partition(".")[0] != "hybridflow" or other == own:
            continue
        where = f"{module}, line {found.line}"
        if own in MATHS:
            assert other not in NOT_FOR_MATHS, f"{where}: the maths knows nothing of the registry"
        if (own, other) in LATE:
            assert found.late, f"{where}: import {other} inside the method that needs it"
        elif own in RANK and other in RANK:
            assert RANK[other] < RANK[own], f"{where}: {own} must not import {other}"


@pytest.mark.parametrize("library", HEAVY)
def test_a_heavy_library_is_imported_in_one_part(library: str) -> None:
    users = {
        part(module)
        for module in MODULES
        if any(found.module.partition(".")[0] == library for found in imports(module))
    }
    assert len(users) <= 1, f"{library} is imported in {', '.join(users)}"


def test_polars_is_for_the_command_line_and_for_giving_frames_back() -> None:
    users = {
        part(module)
        for module in MODULES
        if any(found.module.partition(".")[0] == "polars" for found in imports(module))
    }
    assert users <= {"cli", "column", "estimators", "novelty", "parquet"}
    assert all(found.late for found in imports("hybridflow.column") if found.module == "polars")


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules that a fresh process has loaded after some code."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


SLOW = {"torch", "sklearn", "scipy", "numpy", "narwhals", "polars", *HEAVY}


@pytest.mark.parametrize(
    "code",
    [
        "import hybridflow",
        "from hybridflow import Config, Event, FlowSpec, Registry, hookimpl",
        "from hybridflow.registry import Registry; assert len(Registry().entries()) > 10",
        "from hybridflow import Registry; Registry().resolve('flow', 'spline-coupling')",
        "from hybridflow import Registry; Registry().resolve('head', 'poisson')",
        "from hybridflow.cli.plugins import app; app(['list'], standalone_mode=False)",
        "from hybridflow.cli.plugins import app\n"
        "app(['show', 'spline-coupling'], standalone_mode=False)",
    ],
    ids=["package", "names", "listing", "resolving", "resolving-a-head", "list", "show"],
)
def test_what_is_light_stays_light(code: str) -> None:
    assert not loaded_by(code) & SLOW


@pytest.mark.parametrize("name", hybridflow.__all__)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert getattr(hybridflow, name) is not None
