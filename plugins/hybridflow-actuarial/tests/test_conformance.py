"""The conformance kit on all that the plugin offers."""

from __future__ import annotations

from hybridflow_actuarial import HEADS, SKEW_T

from hybridflow.testing import Check, parametrize_with_checks


@parametrize_with_checks([*HEADS, SKEW_T])
def test_conformance(check: Check) -> None:
    check.run()
