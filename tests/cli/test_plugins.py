"""``hybridflow plugins list`` and ``show``."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field
from typer.testing import CliRunner

from hybridflow.cli import plugins
from hybridflow.config import Choice, Config, Float, Int
from hybridflow.errors import ConfigError
from hybridflow.hookspecs import hookimpl
from hybridflow.registry import Entry, Registry
from hybridflow.specs import FlowSpec


class Shift(Config):
    layers: Annotated[int, Field(ge=1, le=64), Int(2, 8)] = 4
    rate: Annotated[float, Field(gt=0), Float(1e-4, 0.1, log=True)] = 0.01
    kind: Annotated[Literal["a", "b"], Choice(("a", "b"))] = "a"
    hidden: tuple[int, ...] = (64,)
    bound: float | None = None


class Plugin:
    @hookimpl
    def hybridflow_flows(self) -> list[FlowSpec]:
        summary = "Moves every row by the same vector"
        return [FlowSpec("shift", summary, Shift, lambda event, config: None, reference="None")]


PAGE = """\
shift (flow, local 0)
Moves every row by the same vector

FIELD   DEFAULT  ALLOWED               SEARCH
layers  4        integer >= 1, <= 64   2 to 8
rate    0.01     number > 0            0.0001 to 0.1, log
kind    "a"      "a" or "b"            "a", "b"
hidden  [64]     list of integer       -
bound   null     number or null        -

inverse       exact
log_det       exact
supports      real
min_features  1
stable_to     10.0
onnx          True
reference     None"""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Make the command line see the built-ins and one local plugin."""
    registry = Registry(entry_points=False)
    registry.register(Plugin())
    monkeypatch.setattr(plugins, "default_registry", lambda: registry)
    return registry


def call(*arguments: str) -> str:
    done = CliRunner().invoke(plugins.app, arguments)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_a_component_is_described_in_text(registry: Registry) -> None:
    text = call("show", "shift")
    assert [line.split() for line in text.splitlines()] == [
        line.split() for line in PAGE.splitlines()
    ]
    table = text.splitlines()[3:9]
    last = ["SEARCH", "2 to 8", "0.0001 to", '"a", "b"', "-", "-"]
    assert len({line.index(cell) for line, cell in zip(table, last, strict=True)}) == 1


def test_a_component_is_described_in_json(registry: Registry) -> None:
    facts = json.loads(call("show", "flow/shift", "--json"))
    assert facts["kind"] == "flow"
    assert facts["provider"] == {"distribution": "local", "version": "0"}
    assert facts["claims"]["supports"] == ["real"]
    assert facts["schema"] == Shift.model_json_schema()
    assert facts["space"] == {
        "layers": {"type": "int", "low": 2, "high": 8, "log": False},
        "rate": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
        "kind": {"type": "choice", "options": ["a", "b"]},
    }


def test_every_component_can_be_shown(registry: Registry) -> None:
    for entry in registry.entries():
        name = f"{entry.kind}/{entry.name}"
        assert call("show", name).startswith(f"{entry.name} ({entry.kind}, ")
        assert json.loads(call("show", name, "--json"))["name"] == entry.name


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ("student-t", "write base/student-t or head/student-t"),
        ("shft", "did you mean 'shift'?"),
        ("prior/shift", "the kind is one of flow, base, head"),
        ("head/shift", "unknown head 'shift' (it names a flow)"),
        ("nowhere:shift", "unknown flow 'shift' from nowhere"),
    ],
)
def test_what_cannot_be_shown_is_a_config_error(
    registry: Registry, component: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        call("show", component)
    assert message in str(caught.value)


def test_an_address_is_a_name_too(registry: Registry) -> None:
    assert call("show", "local:shift") == call("show", "shift")


def test_the_list_has_a_line_for_each_entry(registry: Registry) -> None:
    lines = call("list").splitlines()
    assert lines[0].split() == ["KIND", "NAME", "FROM", "STATUS", "SUMMARY"]
    assert [line.split()[:2] for line in lines[1:]] == [
        [entry.kind, entry.name] for entry in registry.entries()
    ]


def test_the_list_in_json_is_the_entries(registry: Registry) -> None:
    assert [Entry(**item) for item in json.loads(call("list", "--json"))] == registry.entries()


def test_a_reason_stands_below_its_line() -> None:
    good = Entry("flow", "a", "A flow", "one", "1", "loaded")
    bad: Any = Entry("plugin", "b", "", "two", "2", "failed", "OSError: no licence")
    assert plugins.listing([bad, good, bad]).splitlines() == [
        "KIND    NAME  FROM   STATUS  SUMMARY",
        "plugin  b     two 2  failed",
        "  OSError: no licence",
        "flow    a     one 1  loaded  A flow",
        "plugin  b     two 2  failed",
        "  OSError: no licence",
    ]
