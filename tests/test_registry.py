"""Names and configs resolve to specs; the registry survives what estimators do to it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import pytest
from sklearn.base import clone

import hybridflow
from hybridflow import registry as registry_module
from hybridflow.config import Config
from hybridflow.errors import (
    ConfigError,
    DuplicatePluginError,
    PluginContractError,
    PluginLoadError,
)
from hybridflow.flows import SplineCoupling
from hybridflow.hookspecs import hookimpl
from hybridflow.registry import Entry, Provider, Registry, default_registry
from hybridflow.specs import BaseSpec, FlowSpec, HeadSpec

BUILT_IN = {
    "flow": {"glow", "maf", "nice", "realnvp", "spline-autoregressive", "spline-coupling"},
    "base": {"mixture", "normal", "student-t"},
    "head": {"categorical", "gaussian", "mixture", "poisson", "student-t"},
}


class Plain(Config):
    size: int = 1


class Other(Config):
    size: int = 2


class Stranger(Config):
    size: int = 3


def build(*parts: Any) -> Any:
    return None


class Plugin:
    """Offers a flow, a base of the same name, and a head."""

    def __init__(self, name: str = "plain", config: type[Config] = Plain) -> None:
        self.name = name
        self.config = config

    @hookimpl
    def hybridflow_flows(self) -> Iterable[FlowSpec]:
        return [FlowSpec(self.name, "A flow", self.config, build)]

    @hookimpl
    def hybridflow_bases(self) -> Iterable[BaseSpec]:
        yield BaseSpec(self.name, "A base", Other, build)

    @hookimpl
    def hybridflow_heads(self) -> Iterable[HeadSpec]:
        return (HeadSpec("head-of-tests", "A head", Plain, ("regression",), build),)


@pytest.fixture
def registry() -> Registry:
    """Return a registry of what `Plugin` offers."""
    registry = Registry(builtins=False, entry_points=False)
    registry.register(Plugin())
    return registry


def test_a_name_stands_for_its_default_config(registry: Registry) -> None:
    spec, config = registry.resolve("flow", "plain")
    assert (spec.name, config) == ("plain", Plain())
    spec, config = registry.resolve("base", "plain")
    assert (type(spec), config) == (BaseSpec, Other())


def test_a_config_finds_its_spec_and_is_kept(registry: Registry) -> None:
    given = Plain(size=9)
    spec, config = registry.resolve("flow", given)
    assert spec.name == "plain"
    assert config is given


def test_the_provider_is_known(registry: Registry) -> None:
    assert registry.provider("flow", "plain") == Provider("local", "0")
    assert registry.provider("flow", Plain()) == Provider("local", "0")
    registry.register(Plugin("more"), distribution="My_Flows", version="1.2")
    assert registry.provider("flow", "more") == Provider("my-flows", "1.2")
    assert registry.provider("flow", "my.flows:more") == Provider("my-flows", "1.2")


@pytest.mark.parametrize("kind", BUILT_IN)
def test_the_built_ins_are_there(kind: Any) -> None:
    entries = Registry(entry_points=False).entries()
    assert {entry.name for entry in entries if entry.kind == kind} >= BUILT_IN[kind]
    assert {entry.status for entry in entries} == {"built-in"}
    assert {(e.distribution, e.version) for e in entries} == {
        ("hybridflow", hybridflow.__version__)
    }


def test_a_built_in_resolves_by_name_and_config() -> None:
    registry = Registry(entry_points=False)
    by_name, config = registry.resolve("flow", "spline-coupling")
    by_config, kept = registry.resolve("flow", config)
    assert by_config is by_name
    assert type(kept) is SplineCoupling
    assert registry.provider("flow", config) == Provider("hybridflow", hybridflow.__version__)


@pytest.mark.parametrize(
    ("kind", "component", "message"),
    [
        ("flow", "plane", "unknown flow 'plane'; installed are plain; did you mean 'plain'?"),
        ("flow", "", "unknown flow ''"),
        ("flow", "nowhere:plain", "unknown flow 'plain' from nowhere; installed are plain"),
        ("flow", "os.system", "unknown flow 'os.system'"),
        ("flow", "../plain", "unknown flow '../plain'"),
        ("flow", "head-of-tests", "unknown flow 'head-of-tests' (it names a head)"),
        ("head", "plain", "unknown head 'plain' (it names a flow)"),
        ("flow", Stranger(), "Stranger is not the config of an installed flow"),
        ("flow", Other(), "Other is the config of the base 'plain', not of a flow"),
        ("flow", Plain, "a flow is a name or a config object, got <class"),
        ("flow", Plain, "write Plain()"),
        ("flow", None, "a flow is a name or a config object, got None"),
        ("flow", 3, "a flow is a name or a config object, got 3"),
        ("prior", "plain", "kind must be one of flow, base, head, got 'prior'"),
    ],
)
def test_what_cannot_be_resolved_is_a_config_error(
    registry: Registry, kind: Any, component: Any, message: str
) -> None:
    for method in (registry.resolve, registry.provider):
        with pytest.raises(ConfigError) as caught:
            method(kind, component)
        assert message in str(caught.value)


def test_an_unknown_built_in_lists_what_is_installed() -> None:
    with pytest.raises(ConfigError) as caught:
        Registry(entry_points=False).resolve("flow", "spline-copling")
    for name in BUILT_IN["flow"]:
        assert name in str(caught.value)
    assert "did you mean 'spline-coupling'?" in str(caught.value)


def test_an_empty_registry_says_so() -> None:
    with pytest.raises(ConfigError, match="unknown base 'normal'; installed are none"):
        Registry(builtins=False, entry_points=False).resolve("base", "normal")


def test_entries_are_sorted_by_name(registry: Registry) -> None:
    registry.register(Plugin("another"), distribution="second")
    assert [(entry.name, entry.kind, entry.distribution) for entry in registry.entries()] == [
        ("another", "base", "second"),
        ("another", "flow", "second"),
        ("head-of-tests", "head", "local"),
        ("head-of-tests", "head", "second"),
        ("plain", "base", "local"),
        ("plain", "flow", "local"),
    ]


def test_a_name_of_two_distributions_is_an_error_on_use(registry: Registry) -> None:
    registry.register(Plugin("another", Other), distribution="second")
    with pytest.raises(DuplicatePluginError, match="'local:head-of-tests' or 'second:head-of"):
        registry.resolve("head", "head-of-tests")
    with pytest.raises(DuplicatePluginError, match="the config Plain of a head is offered by"):
        registry.resolve("head", Plain())
    assert registry.resolve("head", "second:head-of-tests")[0].name == "head-of-tests"
    entry = next(entry for entry in registry.entries() if entry.distribution == "second")
    assert entry.status == "loaded"
    clashing = [entry for entry in registry.entries() if entry.status == "duplicate"]
    assert [(e.distribution, e.reason) for e in clashing] == [
        ("local", "second offers the name too; this one is 'local:head-of-tests'"),
        ("second", "local offers the name too; this one is 'second:head-of-tests'"),
    ]


def test_one_distribution_cannot_offer_a_name_twice(registry: Registry) -> None:
    before = registry.entries()
    with pytest.raises(DuplicatePluginError, match="local already offers the flow 'plain'"):
        registry.register(Plugin())
    assert registry.entries() == before


def test_a_built_in_name_cannot_be_registered() -> None:
    registry = Registry(entry_points=False)
    with pytest.raises(DuplicatePluginError, match="hybridflow already offers the flow 'nice'"):
        registry.register(Plugin("nice"))


def test_a_module_can_be_registered() -> None:
    module = ModuleType("module_of_tests")
    plugin = Plugin()
    module.hybridflow_flows = hookimpl(lambda: plugin.hybridflow_flows())
    registry = Registry(builtins=False, entry_points=False)
    registry.register(module)
    assert [entry.name for entry in registry.entries()] == ["plain"]


def raising() -> Iterable[FlowSpec]:
    raise OSError("no licence")


@pytest.mark.parametrize(
    ("plugin", "error", "message"),
    [
        (object(), PluginContractError, "local: implements no hook"),
        (None, PluginContractError, "local: implements no hook"),
        (Plugin, PluginContractError, "local: a plugin is a module or an instance, got the class"),
        (Plugin("Bad Name"), PluginContractError, "local: hybridflow_flows: a component's name"),
        (raising, PluginLoadError, "local: hybridflow_flows: OSError: no licence"),
    ],
    ids=["object", "none", "class", "bad-name", "raises"],
)
def test_a_broken_plugin_cannot_be_registered(
    plugin: object, error: type[Exception], message: str
) -> None:
    if plugin is raising:
        plugin = ModuleType("module_of_tests")
        plugin.hybridflow_flows = hookimpl(raising)
    registry = Registry(builtins=False, entry_points=False)
    with pytest.raises(error) as caught:
        registry.register(plugin)
    assert str(caught.value).startswith(message)
    assert registry.entries() == []


@pytest.mark.parametrize("option", ["allow", "path"])
def test_a_string_is_not_a_list_of_strings(option: str) -> None:
    with pytest.raises(ConfigError, match="take a list of strings"):
        Registry(**{option: "dummy"})


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, clone])
def test_copies_are_the_registry_itself(registry: Registry, copied: Any) -> None:
    assert copied(registry) is registry
    assert copied(default_registry()) is default_registry()


def test_the_default_registry_pickles_as_the_default() -> None:
    default = default_registry()
    assert pickle.loads(pickle.dumps(default)) is default


def test_a_registry_of_ones_own_does_not_pickle(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="only the default registry can be pickled"):
        pickle.dumps(registry)


def test_the_default_registry_is_one_object_made_on_first_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_module, "_default", None)
    first = default_registry()
    assert default_registry() is first


def test_an_entry_is_plain_data() -> None:
    entry = Entry("flow", "a", "A flow", "local", "0", "loaded")
    assert entry.reason == ""
    assert hash(entry) == hash(copy.copy(entry))
