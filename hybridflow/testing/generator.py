"""The one generator of checks that both fronts use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

from hybridflow.registry import Registry
from hybridflow.specs import BaseSpec, FlowSpec, Spec
from hybridflow.testing.bases import BaseCase, base_checks
from hybridflow.testing.case import AnyCase, kind_of
from hybridflow.testing.check import Check
from hybridflow.testing.flows import FlowCase, flow_checks
from hybridflow.testing.heads import HeadCase, head_checks

CaseT = TypeVar("CaseT", bound=AnyCase)


def checks(spec: Spec, *, registry: Registry | None = None) -> Iterator[Check]:
    """Yield the checks that fit what a spec claims.

    A check runs by itself, in any order, and always on the same numbers.

    Parameters
    ----------
    spec : FlowSpec, BaseSpec or HeadSpec
    registry : Registry, optional
        Where the spec and the components that it works with resolve; the
        default one if not given. The spec need not be in it.

    Yields
    ------
    Check

    Examples
    --------
    >>> from hybridflow import Registry
    >>> from hybridflow.testing import checks
    >>> spec, _ = Registry(entry_points=False).resolve("flow", "nice")
    >>> [check.name for check in checks(spec) if "inverse_undoes" in check.name]
    ['inverse_undoes_forward']
    """
    if isinstance(spec, FlowSpec):
        flow = FlowCase(spec, registry)
        yield from _bound(flow, flow_checks(flow))
    elif isinstance(spec, BaseSpec):
        base = BaseCase(spec, registry)
        yield from _bound(base, base_checks(base))
    else:
        head = HeadCase(spec, registry)
        yield from _bound(head, head_checks(head))


def _bound(case: CaseT, functions: Iterable[Callable[[CaseT], None]]) -> Iterator[Check]:
    component = f"{kind_of(case.spec)} {case.spec.name}"
    for function in functions:
        summary = (function.__doc__ or "").strip().splitlines()
        yield Check(
            component,
            function.__name__,
            summary[0] if summary else "",
            partial(function, case),
        )
