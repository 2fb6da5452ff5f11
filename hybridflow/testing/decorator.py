"""The front for pytest: one test per check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hybridflow.errors import ConfigError, closest
from hybridflow.registry import Registry
from hybridflow.specs import Spec
from hybridflow.testing.check import CheckFailed
from hybridflow.testing.generator import checks
from hybridflow.testing.report import check_expectations

if TYPE_CHECKING:
    import pytest


def parametrize_with_checks(
    specs: Iterable[Spec],
    *,
    registry: Registry | None = None,
    expected_failures: Mapping[str, Mapping[str, str]] | None = None,
) -> pytest.MarkDecorator:
    """Turn a test that takes ``check`` into one test per check of each spec.

    The ids are the name of the component and of the check, as in
    ``test_flows[asinh-inverse_undoes_forward]``.

    Parameters
    ----------
    specs : iterable of FlowSpec, BaseSpec or HeadSpec
    registry : Registry, optional
        Where the components that they work with resolve.
    expected_failures : mapping of str to mapping of str to str, optional
        By name of the component, the checks that fail, each with the reason.
        They are marked ``xfail(strict=True)``: one that passes fails the test.

    Returns
    -------
    pytest.MarkDecorator

    Raises
    ------
    ConfigError
        If an expected failure names no component or no check of it, or gives
        no reason.

    Examples
    --------
    >>> from hybridflow import Registry
    >>> from hybridflow.testing import parametrize_with_checks
    >>> spec, _ = Registry(entry_points=False).resolve("base", "normal")
    >>> @parametrize_with_checks([spec])
    ... def test_my_base(check):
    ...     check.run()
    """
    import pytest

    expected = expected_failures or {}
    cases = [(spec, list(checks(spec, registry=registry))) for spec in specs]
    known = {spec.name for spec, _ in cases}
    for name, reasons in expected.items():
        if name not in known:
            raise ConfigError(f"expected_failures: {name!r} is not checked{closest(name, known)}")
        names = {check.name for spec, found in cases if spec.name == name for check in found}
        check_expectations(reasons, names)
    parameters = []
    for spec, found in cases:
        reasons = expected.get(spec.name, {})
        for check in found:
            marks = (
                [pytest.mark.xfail(reason=reasons[check.name], strict=True, raises=CheckFailed)]
                if check.name in reasons
                else []
            )
            parameters.append(pytest.param(check, id=f"{spec.name}-{check.name}", marks=marks))
    return pytest.mark.parametrize("check", parameters)
