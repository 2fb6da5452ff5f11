"""The conformance kit on every built-in flow, base and head."""

from __future__ import annotations

from hybridflow import Registry
from hybridflow.registry import Kind
from hybridflow.specs import Spec
from hybridflow.testing import Check, parametrize_with_checks

BUILT_IN = Registry(entry_points=False)

EXPECTED_BASES = {
    "uniform": {
        "far_rows_have_finite_values_and_gradients": (
            "a box: the density of what lies outside is zero, and its logarithm infinite"
        ),
    },
}
EXPECTED_HEADS = {
    "bayes": {
        "context_changes_the_result": "it reads the base, which knows no context",
    },
}


def specs(kind: Kind) -> list[Spec]:
    names = [entry.name for entry in BUILT_IN.entries() if entry.kind == kind]
    return [BUILT_IN.resolve(kind, name)[0] for name in names]


@parametrize_with_checks(specs("flow"), registry=BUILT_IN)
def test_flow(check: Check) -> None:
    check.run()


@parametrize_with_checks(specs("base"), registry=BUILT_IN, expected_failures=EXPECTED_BASES)
def test_base(check: Check) -> None:
    check.run()


@parametrize_with_checks(specs("head"), registry=BUILT_IN, expected_failures=EXPECTED_HEADS)
def test_head(check: Check) -> None:
    check.run()
