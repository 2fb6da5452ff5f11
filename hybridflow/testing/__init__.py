"""The conformance kit: what a flow, a base or a head promises, as checks.

One generator, `checks`, with two fronts: `check_plugin` runs all checks of a
component and returns a report; `parametrize_with_checks` makes a test of each.
Which checks there are follows from what the spec claims.
"""

from hybridflow.testing.check import Check, CheckFailed, CheckSkipped
from hybridflow.testing.decorator import parametrize_with_checks
from hybridflow.testing.generator import checks
from hybridflow.testing.report import Outcome, Report, Result, check_plugin

__all__ = [
    "Check",
    "CheckFailed",
    "CheckSkipped",
    "Outcome",
    "Report",
    "Result",
    "check_plugin",
    "checks",
    "parametrize_with_checks",
]
