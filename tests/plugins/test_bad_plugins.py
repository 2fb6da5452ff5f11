"""Broken, hostile, clashing and unwanted plugins: the rows under P of what can go wrong."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from hybridflow.errors import (
    BrokenPluginWarning,
    ConfigError,
    DuplicatePluginError,
    PluginContractError,
    PluginError,
    PluginLoadError,
    SlowPluginWarning,
)
from hybridflow.registry import Entry, Registry

Site = Callable[..., str]


class Bad(NamedTuple):
    distribution: str
    error: type[PluginError]
    reason: str


BAD = [
    Bad("dummy-import-error", PluginLoadError, "No module named 'no_module_of_this_name'"),
    Bad("dummy-raises", PluginLoadError, "ZeroDivisionError: one / zero"),
    Bad("dummy-syntax-error", PluginLoadError, "SyntaxError"),
    Bad("dummy-exit", PluginLoadError, "SystemExit: 3"),
    Bad("dummy-mute", PluginLoadError, "Mute: its message cannot be shown"),
    Bad("dummy-half", PluginLoadError, "hybridflow_flows: OSError: no licence"),
    Bad("dummy-generator", PluginLoadError, "hybridflow_flows: OSError: halfway"),
    Bad("dummy-misspelt", PluginContractError, "did you mean 'hybridflow_flows'?"),
    Bad("dummy-unmarked", PluginContractError, "implements no hook"),
    Bad("dummy-argument", PluginContractError, "a hook takes no arguments"),
    Bad("dummy-missing", PluginContractError, "names 'plugin', which does not exist"),
    Bad("dummy-number", PluginContractError, "implements no hook"),
    Bad("dummy-class", PluginContractError, "got the class plugin"),
    Bad("dummy-not-iterable", PluginContractError, "iterable of FlowSpec, got FlowSpec"),
    Bad("dummy-none", PluginContractError, "iterable of FlowSpec, got NoneType"),
    Bad("dummy-not-a-spec", PluginContractError, "got str at position 1"),
    Bad("dummy-wrong-kind", PluginContractError, "got BaseSpec at position 0"),
    Bad("dummy-bad-name", PluginContractError, "got 'Bad Name'"),
    Bad("dummy-repeats", PluginContractError, "offers the flow 'again' twice"),
]
each_bad = pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.distribution[6:])


def alone(*paths: str, **options: bool | list[str]) -> Registry:
    """Return a registry of nothing but the plugins in some folders."""
    return Registry(builtins=False, path=paths, **options)


def statuses(registry: Registry) -> dict[str, str]:
    return {entry.name: entry.status for entry in registry.entries()}


@each_bad
def test_a_broken_plugin_is_quarantined_and_the_others_work(bad: Bad, site: Site) -> None:
    registry = alone(site("dummy-fine", bad.distribution))
    with pytest.warns(BrokenPluginWarning, match=bad.distribution) as caught:
        assert registry.resolve("flow", "fine")[0].name == "fine"
    assert len(caught) == 1
    failed = [entry for entry in registry.entries() if entry.status == "failed"]
    assert [(entry.kind, entry.distribution) for entry in failed] == [("plugin", bad.distribution)]
    assert bad.reason in failed[0].reason


@each_bad
def test_a_broken_plugin_is_reported_once(bad: Bad, site: Site) -> None:
    registry = alone(site("dummy-fine", bad.distribution))
    with pytest.warns(BrokenPluginWarning):
        registry.entries(load=True)
    registry.entries(load=True)  # a second warning would be an error here
    registry.resolve("base", "fine-base")


@each_bad
def test_using_a_broken_plugin_is_its_own_error(bad: Bad, site: Site) -> None:
    registry = alone(site(bad.distribution))
    with pytest.warns(BrokenPluginWarning), pytest.raises(bad.error) as caught:
        registry.resolve("flow", f"{bad.distribution}:anything")
    assert bad.reason in str(caught.value)
    assert "HYBRIDFLOW_PLUGINS" in str(caught.value)
    # A flow that has the name of the entry point: the same, without the address.
    with pytest.raises(bad.error, match=bad.distribution):
        registry.resolve("flow", bad.distribution.removeprefix("dummy-"))


@each_bad
def test_a_strict_registry_does_not_accept_a_broken_plugin(bad: Bad, site: Site) -> None:
    registry = alone(site("dummy-fine", bad.distribution), strict=True)
    with pytest.warns(BrokenPluginWarning), pytest.raises(PluginLoadError) as caught:
        registry.resolve("flow", "fine")
    assert bad.reason in str(caught.value)
    with pytest.raises(PluginLoadError):  # and not only the first time
        registry.resolve("flow", "fine")


def test_the_error_of_an_import_is_chained(site: Site) -> None:
    registry = alone(site("dummy-raises"))
    with pytest.warns(BrokenPluginWarning), pytest.raises(PluginLoadError) as caught:
        registry.resolve("flow", "raises")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_the_working_hook_of_a_half_broken_plugin_counts(site: Site) -> None:
    registry = alone(site("dummy-half", "dummy-misspelt"))
    with pytest.warns(BrokenPluginWarning):
        assert registry.resolve("base", "other-half")[0].name == "other-half"
    assert registry.resolve("base", "spelt")[0].name == "spelt"
    assert statuses(registry) == {
        "half": "failed",
        "other-half": "loaded",
        "misspelt": "failed",
        "spelt": "loaded",
    }


def test_a_keyboard_interrupt_passes_and_leaves_a_working_registry(site: Site) -> None:
    registry = alone(site("dummy-fine", "dummy-interrupt", "dummy-other"))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            registry.resolve("flow", "fine")
    assert statuses(registry)["interrupt"] == "not loaded"
    assert statuses(registry)["fine"] == "loaded"
    sys.modules["dummy_interrupt"] = ModuleType("dummy_interrupt")  # as if mended since
    with pytest.warns(BrokenPluginWarning, match="implements no hook"):
        assert registry.resolve("flow", "other")[0].name == "other"


def test_an_unknown_name_mentions_what_could_not_be_used(site: Site) -> None:
    path = site("dummy-fine", "dummy-raises", "dummy-other", "dummy-future")
    registry = alone(path, allow=["dummy-fine", "dummy-raises", "dummy-future"])
    with (
        pytest.warns(BrokenPluginWarning),
        pytest.raises(ConfigError, match="did you mean 'fine'") as caught,
    ):
        registry.resolve("flow", "finne")
    message = str(caught.value)
    assert "installed are fine" in message
    assert "dummy-raises 1.0 failed (ZeroDivisionError: one / zero)" in message
    assert "dummy-other 1.0 is blocked" in message
    assert "dummy-future 1.0 is incompatible (needs hybridflow>=99" in message


def test_a_slow_import_is_named_while_it_lasts(site: Site) -> None:
    registry = alone(site("dummy-slow"))
    registry.slow_after = 0.01
    with pytest.warns(SlowPluginWarning, match=r"dummy-slow 1\.0 takes more than 0\.01 s"):
        registry.resolve("flow", "slow")
    assert statuses(registry) == {"slow": "loaded"}


def test_a_slow_import_where_warnings_are_errors_is_a_broken_plugin(site: Site) -> None:
    registry = alone(site("dummy-slow"))
    registry.slow_after = 0.01

    def load() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", SlowPluginWarning)
            registry.entries(load=True)

    with pytest.warns(BrokenPluginWarning, match="SlowPluginWarning"):
        load()
    assert statuses(registry) == {"slow": "failed"}


def test_a_fast_import_leaves_no_thread_behind(site: Site) -> None:
    before = threading.active_count()
    alone(site("dummy-fine")).entries(load=True)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(60)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "order", [["dummy-twin-a", "dummy-twin-b"], ["dummy-twin-b", "dummy-twin-a"]]
)
def test_two_distributions_with_one_name_are_an_error_on_use(order: list[str], site: Site) -> None:
    paths = [site(name, folder=name) for name in order]
    registry = alone(*paths)
    entries = registry.entries(load=True)
    assert [(entry.distribution, entry.status) for entry in entries] == [
        ("dummy-twin-a", "duplicate"),
        ("dummy-twin-b", "duplicate"),
    ]
    expected = (
        "the flow 'twin' is offered by dummy-twin-a 1.0 and dummy-twin-b 1.0; "
        "write 'dummy-twin-a:twin' or 'dummy-twin-b:twin'"
    )
    with pytest.raises(DuplicatePluginError) as caught:
        registry.resolve("flow", "twin")
    assert str(caught.value) == expected
    for name in order:
        spec, config = registry.resolve("flow", f"{name}:twin")
        assert registry.provider("flow", f"{name}:twin").distribution == name
        assert spec.build.__module__ == name.replace("-", "_")
        assert registry.resolve("flow", config)[0] is spec  # a config is never ambiguous


def test_a_built_in_cannot_be_shadowed(site: Site) -> None:
    registry = Registry(path=[site("dummy-shadow")])
    entries = registry.entries(load=True)
    assert registry.provider("flow", "spline-coupling").distribution == "hybridflow"
    assert registry.provider("flow", "hybridflow:spline-coupling").distribution == "hybridflow"
    assert registry.provider("flow", "dummy-shadow:spline-coupling").distribution == "dummy-shadow"
    same = [(e.distribution, e.status, e.reason) for e in entries if e.name == "spline-coupling"]
    reason = "the name is built in; this one is 'dummy-shadow:spline-coupling'"
    assert same == [
        ("dummy-shadow", "duplicate", reason),
        ("hybridflow", "built-in", ""),
    ]


def test_one_distribution_twice_on_the_path_is_one(site: Site) -> None:
    first, second = site("dummy-fine", folder="first"), site("dummy-fine", folder="second")
    registry = alone(first, second)
    assert len(registry.entries()) == 1
    assert registry.resolve("flow", "fine")[0].name == "fine"
    assert len(registry.entries()) == 2  # its flow and its base


def test_a_plugin_for_another_version_is_not_imported(site: Site) -> None:
    registry = alone(site("dummy-future", "dummy-fine"))
    entries = {entry.name: entry for entry in registry.entries(load=True)}
    assert entries["future"].status == "incompatible"
    assert entries["future"].reason.startswith("needs hybridflow>=99, this is ")
    assert entries["fine"].status == "loaded"
    assert "dummy_future" not in sys.modules


def test_a_requirement_that_cannot_be_read_makes_a_plugin_incompatible(site: Site) -> None:
    path = site("dummy-fine")
    metadata = Path(path, "dummy_fine-1.0.dist-info", "METADATA")
    text = metadata.read_text(encoding="utf-8").replace("hybridflow<1,>=0.1", "hybridflow =>1")
    metadata.write_text(text, encoding="utf-8")
    (entry,) = alone(path).entries(load=True)
    assert entry.status == "incompatible"
    assert "cannot read the version range '=>1'" in entry.reason


@pytest.mark.parametrize("finder", ["importlib.metadata", "importlib_metadata"])
def test_a_distribution_without_metadata_is_still_listed(site: Site, finder: str) -> None:
    pytest.importorskip(finder)  # the second puts its own finder in front, for good
    path = site("dummy-fine")
    Path(path, "dummy_fine-1.0.dist-info", "METADATA").unlink()
    (entry,) = alone(path).entries()
    assert (entry.name, entry.distribution, entry.version) == ("fine", "unnamed", "unknown")


def test_only_allowed_plugins_are_imported(site: Site) -> None:
    path = site("dummy-fine", "dummy-other", "dummy-exit")
    registry = alone(path, allow=["Dummy_Fine"])
    registry.entries(load=True)
    assert statuses(registry) == {
        "exit": "blocked",
        "fine": "loaded",
        "fine-base": "loaded",
        "other": "blocked",
    }
    assert "dummy_other" not in sys.modules
    with pytest.raises(ConfigError, match=r"dummy-other 1\.0 is blocked"):
        registry.resolve("flow", "other")


def test_an_empty_allow_list_imports_nothing(site: Site) -> None:
    registry = alone(site("dummy-fine", "dummy-exit"), allow=[])
    registry.entries(load=True)
    assert set(statuses(registry).values()) == {"blocked"}
    assert not [name for name in sys.modules if name.startswith("dummy_")]


def test_a_registry_without_entry_points_sees_no_plugin(site: Site) -> None:
    site("dummy-fine")
    assert Registry(builtins=False, entry_points=False).entries(load=True) == []


def test_a_built_in_name_imports_no_plugin(site: Site) -> None:
    registry = Registry(path=[site("dummy-fine", "dummy-exit")])
    registry.resolve("flow", "spline-coupling")
    assert not [name for name in sys.modules if name.startswith("dummy_")]


def test_listing_two_hundred_plugins_reads_metadata_only(tmp_path: Path) -> None:
    for number in range(200):
        folder = tmp_path / f"bulk_{number:03}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: bulk-{number:03}\nVersion: 1.0\n"
            f"Summary: Number {number}\nRequires-Dist: hybridflow>=0.1\n",
            encoding="utf-8",
        )
        (folder / "entry_points.txt").write_text(
            f"[hybridflow]\nbulk-{number:03} = bulk_{number:03}\n", encoding="utf-8"
        )
    before = set(sys.modules)
    entries = alone(str(tmp_path)).entries()
    assert len(entries) == 200
    assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
    assert entries[7] == Entry("plugin", "bulk-007", "Number 7", "bulk-007", "1.0", "not loaded")
    assert not [name for name in set(sys.modules) - before if name.startswith("bulk_")]


def test_an_object_can_be_an_entry_point(site: Site) -> None:
    registry = alone(site("dummy-object"))
    assert registry.resolve("flow", "from-object")[0].name == "from-object"


def test_a_plugin_that_offers_nothing_is_listed_as_such(site: Site) -> None:
    registry = alone(site("dummy-empty"))
    (entry,) = registry.entries(load=True)
    assert (entry.name, entry.status, entry.reason) == ("empty", "loaded", "offers nothing")


def test_order_decides_nothing(site: Site) -> None:
    names = ["dummy-fine", "dummy-other", "dummy-twin-a", "dummy-twin-b", "dummy-half"]
    listings = []
    for seed in range(3):
        random.Random(seed).shuffle(names)
        registry = alone(*(site(name, folder=f"{seed}-{name}") for name in names))
        with pytest.warns(BrokenPluginWarning):
            listings.append(registry.entries(load=True))
    assert listings[0] == listings[1] == listings[2]
    assert len({entry.name for entry in listings[0]}) == 6


def test_threads_that_ask_at_once_share_one_import(site: Site) -> None:
    registry = alone(site("dummy-counting", "dummy-fine"))
    barrier = threading.Barrier(8)
    found: list[object] = []

    def ask() -> None:
        barrier.wait(60)
        found.append(registry.resolve("flow", "counted")[0])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert sys.modules["dummy_counting"].CALLS == [1]


def run(path: str, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {"fine": "loaded", "other": "loaded"}),
        ({"HYBRIDFLOW_PLUGINS": ""}, {"fine": "blocked", "other": "blocked"}),
        ({"HYBRIDFLOW_PLUGINS": "dummy-fine"}, {"fine": "loaded", "other": "blocked"}),
        ({"HYBRIDFLOW_PLUGINS": "dummy-fine, dummy_other,"}, {"fine": "loaded", "other": "loaded"}),
    ],
    ids=["unset", "empty", "one", "two"],
)
def test_the_allow_list_of_the_environment(
    environment: dict[str, str], expected: dict[str, str], site: Site
) -> None:
    code = (
        "import json; from hybridflow.registry import default_registry\n"
        "entries = default_registry().entries(load=True)\n"
        "print(json.dumps({e.name: e.status for e in entries}))"
    )
    done = run(site("dummy-fine", "dummy-other"), code, **environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("value", "last_line"),
    [
        ("1", "hybridflow.errors.PluginLoadError: the plugin dummy-raises 1.0"),
        ("yes", "hybridflow.errors.ConfigError: HYBRIDFLOW_STRICT must be 0 or 1, got 'yes'"),
    ],
    ids=["on", "neither"],
)
def test_the_strict_mode_of_the_environment(value: str, last_line: str, site: Site) -> None:
    code = "from hybridflow import Registry; Registry().entries(load=True)"
    done = run(site("dummy-raises"), code, HYBRIDFLOW_STRICT=value)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(last_line)


LIST = "from hybridflow.cli.plugins import app; app(['list', *{options}], standalone_mode=False)"


def test_the_command_lists_plugins_without_importing_them(site: Site) -> None:
    code = LIST.format(options=[]) + "; import sys; assert 'dummy_fine' not in sys.modules"
    done = run(site("dummy-fine", "dummy-exit"), code)
    assert done.returncode == 0, done.stderr
    assert "plugin  fine " in done.stdout
    assert "not loaded" in done.stdout
    assert "add --load" in done.stderr


def test_the_command_shows_why_a_plugin_failed(site: Site) -> None:
    done = run(site("dummy-fine", "dummy-exit"), LIST.format(options=["--load"]))
    assert done.returncode == 0, done.stderr
    assert "\n  SystemExit: 3\n" in done.stdout
    assert "not loaded" not in done.stdout
    assert done.stderr == ""
