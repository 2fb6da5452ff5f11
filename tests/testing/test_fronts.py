"""Both fronts of the kit: the function with its report, and the decorator for pytest."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hybridflow import Config, FlowSpec, Registry, hookimpl
from hybridflow.errors import ConfigError, PluginContractError
from hybridflow.testing import (
    Check,
    CheckFailed,
    CheckSkipped,
    Outcome,
    Report,
    Result,
    check_plugin,
    checks,
    parametrize_with_checks,
)

BUILT_IN = Registry(entry_points=False)
REFERENCE = "spec_has_a_summary_and_a_reference"


class Nothing(Config):
    """Settings of the flow that changes nothing."""


def nothing(event, config):
    from hybridflow.transforms import Identity

    return Identity()


IDENTITY = FlowSpec("nothing", "The identity", Nothing, nothing, onnx=False)
BY_DESIGN = {
    REFERENCE: "it is nobody's invention",
    "context_changes_the_result": "it changes nothing",
    "wrong_context_is_refused": "it reads no context",
    "training_lowers_the_loss": "it has nothing to learn",
}


@pytest.fixture
def registry() -> Registry:
    class Plugin:
        @hookimpl
        def hybridflow_flows(self) -> list[FlowSpec]:
            return [IDENTITY]

    own = Registry(entry_points=False)
    own.register(Plugin())
    return own


@pytest.mark.parametrize(
    ("kind", "name", "fewest"),
    [("flow", "spline-coupling", 25), ("base", "normal", 8), ("head", "gaussian", 8)],
)
def test_each_kind_has_many_checks_with_names_and_descriptions(
    kind: str, name: str, fewest: int
) -> None:
    found = list(checks(BUILT_IN.resolve(kind, name)[0]))
    names = [check.name for check in found]
    assert len(found) >= fewest
    assert len(set(names)) == len(names)
    assert all(check.component == f"{kind} {name}" for check in found)
    assert all(check.name.isidentifier() and check.description.endswith(".") for check in found)


def test_checks_know_the_claims() -> None:
    def names(**claims: object) -> set[str]:
        spec = FlowSpec("nothing", "The identity", Nothing, nothing, **claims)
        return {check.name for check in checks(spec)}

    exact = names()
    assert names(inverse="none") - exact == {"inverse_is_refused_as_claimed"}
    assert names(log_det="estimated") - exact == {"estimated_ladj_is_unbiased"}
    assert exact - names(onnx=False) == {"exports_to_onnx_as_claimed"}
    assert exact - names(min_features=2) == {
        "density_integrates_to_one_on_the_line",
        "samples_of_the_line_follow_the_density",
    }
    assert not names(min_features=9) & {"density_integrates_to_one_on_the_plane"}
    assert "works_in_flow_density" not in names(supports=("circle",))


def test_check_plugin_returns_a_report(registry: Registry) -> None:
    report = check_plugin("nothing", registry=registry, expected_failures=BY_DESIGN)
    assert report.is_fine
    assert report.count(Outcome.EXPECTED_FAILURE) == len(BY_DESIGN)
    assert report.count(Outcome.PASSED) > 25
    lines = str(report).splitlines()
    assert lines[0] == "flow nothing"
    assert any("fails as expected: it changes nothing" in line for line in lines)
    assert lines[-1].endswith("4 fails as expected")


def test_check_plugin_raises_with_the_figures(registry: Registry) -> None:
    with pytest.raises(PluginContractError) as caught:
        check_plugin("nothing", registry=registry)
    message = str(caught.value)
    assert message.startswith("nothing does not pass the conformance kit\nflow nothing\n")
    for name in BY_DESIGN:
        assert any(name in line and "FAILED: " in line for line in message.splitlines())


def test_an_unexpected_pass_is_an_error(registry: Registry) -> None:
    expected = {**BY_DESIGN, "inverse_undoes_forward": "we thought so"}
    with pytest.raises(PluginContractError, match="PASSED, expected to fail: we thought so"):
        check_plugin("nothing", registry=registry, expected_failures=expected)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"inverse_undoes_foward": "why"}, "did you mean 'inverse_undoes_forward'"),
        ({REFERENCE: " "}, "needs a reason, got ' '"),
    ],
    ids=["misspelt", "no-reason"],
)
def test_bad_expectations_are_refused(
    registry: Registry, expected: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_plugin("nothing", registry=registry, expected_failures=expected)
    with pytest.raises(ConfigError, match=message):
        parametrize_with_checks([IDENTITY], expected_failures={"nothing": expected})
    with pytest.raises(ConfigError, match="'nothin' is not checked; did you mean 'nothing'"):
        parametrize_with_checks([IDENTITY], expected_failures={"nothin": {}})


def test_a_name_of_two_kinds_checks_both() -> None:
    names = {result.check.component for result in check_plugin("student-t").results}
    assert names == {"base student-t", "head student-t"}


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown flow 'nowhere'"):
        check_plugin("nowhere", registry=BUILT_IN)


def test_another_error_is_a_failure_and_a_skip_is_none() -> None:
    def crash() -> None:
        raise ZeroDivisionError("of course")

    def skip() -> None:
        raise CheckSkipped("not here")

    with pytest.raises(CheckFailed, match="flow x: crash: raised ZeroDivisionError: of course"):
        Check("flow x", "crash", "", crash).run()
    with pytest.raises(CheckSkipped, match="not here"):
        Check("flow x", "skip", "", skip).run()


def test_a_report_of_no_results_says_so() -> None:
    assert str(Report(())) == "no checks"
    check = Check("flow x", "name", "", lambda: None)
    assert not Report((Result(check, Outcome.FAILED, "why", 0.0),)).is_fine


TESTS = """
    from test_fronts_plugin import IDENTITY
    from hybridflow.testing import parametrize_with_checks

    EXPECTED = {"nothing": {
        "context_changes_the_result": "it changes nothing",
        "inverse_undoes_forward": "we thought so",
    }}

    @parametrize_with_checks([IDENTITY], expected_failures=EXPECTED)
    def test_flow(check):
        check.run()
"""
PLUGIN = """
    from hybridflow import Config, FlowSpec

    class Nothing(Config):
        pass

    def nothing(event, config):
        from hybridflow.transforms import Identity
        return Identity()

    IDENTITY = FlowSpec("nothing", "The identity", Nothing, nothing, onnx=True)
"""


def test_the_decorator_in_a_test_run(tmp_path: Path) -> None:
    (tmp_path / "test_fronts_plugin.py").write_text(textwrap.dedent(PLUGIN))
    (tmp_path / "test_mine.py").write_text(textwrap.dedent(TESTS))
    chosen = "context_changes or undoes_forward or reference or accelerator or ladj_is"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-k", chosen, "."],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    summary = done.stdout.split("short test summary info")[1]
    for line in (
        "PASSED test_mine.py::test_flow[nothing-ladj_is_the_log_determinant]",
        "FAILED test_mine.py::test_flow[nothing-spec_has_a_summary_and_a_reference]",
        "FAILED test_mine.py::test_flow[nothing-inverse_undoes_forward] - [XPASS(strict)]",
        "XFAIL test_mine.py::test_flow[nothing-context_changes_the_result] - it changes nothing",
        "no CUDA device is available",
    ):
        assert line in summary
    assert done.returncode == 1


def test_the_kit_imports_no_pytest() -> None:
    code = "import sys, hybridflow.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
