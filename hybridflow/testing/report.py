"""Running all checks of a component, from Python."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import get_args

from hybridflow.errors import ConfigError, PluginContractError, closest
from hybridflow.registry import Kind, Registry, default_registry
from hybridflow.specs import Spec
from hybridflow.testing.check import Check, CheckFailed, CheckSkipped
from hybridflow.testing.generator import checks


class Outcome(Enum):
    """How a check ended."""

    PASSED = "passed"
    SKIPPED = "skipped"
    EXPECTED_FAILURE = "fails as expected"
    FAILED = "FAILED"
    UNEXPECTED_PASS = "PASSED, expected to fail"

    @property
    def is_fine(self) -> bool:
        """Whether a plugin may be published with it."""
        return self not in (Outcome.FAILED, Outcome.UNEXPECTED_PASS)


@dataclass(frozen=True)
class Result:
    """How one check ended.

    Parameters
    ----------
    check : Check
    outcome : Outcome
    message : str
        What failed, or why it was skipped or expected.
    seconds : float
    """

    check: Check
    outcome: Outcome
    message: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """How all checks of a component ended; printed, a table.

    Parameters
    ----------
    results : tuple of Result
    """

    results: tuple[Result, ...]

    @property
    def is_fine(self) -> bool:
        """Whether every check passed, was skipped, or failed as expected."""
        return all(result.outcome.is_fine for result in self.results)

    def count(self, outcome: Outcome) -> int:
        """Return how many checks ended in one way."""
        return sum(result.outcome is outcome for result in self.results)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        width = max((len(result.check.name) for result in self.results), default=0)
        component = None
        for result in self.results:
            if result.check.component != component:
                component = result.check.component
                yield component
            line = (
                f"  {result.check.name:<{width}}  {result.seconds:5.1f} s  {result.outcome.value}"
            )
            yield f"{line}: {result.message}" if result.message else line
        counts = [f"{self.count(each)} {each.value}" for each in Outcome if self.count(each)]
        yield ", ".join(counts) or "no checks"


def check_plugin(
    name: str,
    *,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> Report:
    """Put a flow, base or head to all checks that fit it.

    Parameters
    ----------
    name : str
        Name in the registry, or ``"distribution:name"``. All kinds of
        components of that name are checked.
    registry : Registry, optional
        The default one if not given.
    expected_failures : mapping of str to str, optional
        Names of checks that fail, each with the reason. One that passes all
        the same is an error, and so is a name that is no check.

    Returns
    -------
    Report

    Raises
    ------
    PluginContractError
        If a check fails, or passes that was expected to fail; the message is
        the report.
    ConfigError
        If nothing has that name, or an expected failure names no check.

    Examples
    --------
    >>> from hybridflow.testing import check_plugin
    >>> report = check_plugin("normal")
    >>> report.is_fine
    True
    """
    known = default_registry() if registry is None else registry
    found = [check for spec in _named(name, known) for check in checks(spec, registry=known)]
    expected = expected_failures or {}
    check_expectations(expected, {check.name for check in found})
    report = Report(tuple(run(found, expected)))
    if not report.is_fine:
        raise PluginContractError(f"{name} does not pass the conformance kit\n{report}")
    return report


def run(found: Iterable[Check], expected: Mapping[str, str]) -> Iterator[Result]:
    """Run checks one after the other."""
    for check in found:
        start = time.perf_counter()
        outcome, message = _outcome(check, expected.get(check.name))
        yield Result(check, outcome, message, time.perf_counter() - start)


def check_expectations(expected: Mapping[str, str], names: set[str]) -> None:
    """Refuse expected failures without a reason, or of what is no check.

    Raises
    ------
    ConfigError
        Naming the entry, and the check that may be meant.
    """
    for name, reason in expected.items():
        if name not in names:
            raise ConfigError(
                f"expected_failures: {name!r} is no check of this component{closest(name, names)}"
            )
        if not (isinstance(reason, str) and reason.strip()):
            raise ConfigError(f"expected_failures: {name!r} needs a reason, got {reason!r}")


def _outcome(check: Check, reason: str | None) -> tuple[Outcome, str]:
    try:
        check.run()
    except CheckSkipped as skipped:
        return Outcome.SKIPPED, str(skipped)
    except CheckFailed as failure:
        if reason is not None:
            return Outcome.EXPECTED_FAILURE, reason
        message = str(failure).removeprefix(f"{check.component}: {check.name}: ")
        return Outcome.FAILED, message
    if reason is not None:
        return Outcome.UNEXPECTED_PASS, reason
    return Outcome.PASSED, ""


def _named(name: str, registry: Registry) -> list[Spec]:
    found: list[Spec] = []
    errors: list[ConfigError] = []
    for kind in get_args(Kind):
        try:
            found.append(registry.resolve(kind, name)[0])
        except ConfigError as error:
            errors.append(error)
    if not found:
        raise ConfigError("; ".join(str(error) for error in errors))
    return found
