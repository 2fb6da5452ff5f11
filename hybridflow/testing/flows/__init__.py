"""Which checks a flow is put to: those that fit what its spec claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hybridflow.testing import shared
from hybridflow.testing.flows import claims, density, inverse, log_det, training
from hybridflow.testing.flows.case import FlowCase

__all__ = ["FlowCase", "flow_checks"]


def flow_checks(case: FlowCase) -> Iterator[Callable[[FlowCase], None]]:
    """Yield the checks, each a function of the case."""
    real = case.reads_real_rows
    yield from shared.CHECKS
    yield from log_det.EXACT if case.spec.log_det == "exact" else log_det.ESTIMATED
    yield from training.EVERY
    yield from claims.EVERY
    if real:
        yield from inverse.FAR
        yield from density.ON_REAL_ROWS
        yield from claims.ON_REAL_ROWS
    if case.spec.onnx:
        yield from claims.ONNX
    if not case.invertible:
        yield from inverse.WITHOUT_INVERSE
    else:
        yield from inverse.WITH_INVERSE
        yield from training.WITH_INVERSE
        yield from density.SAMPLES
        if real:
            yield from inverse.FAR_WITH_INVERSE
        if case.spec.log_det == "exact":
            yield from log_det.EXACT_WITH_INVERSE
    if case.spec.log_det == "exact":
        yield from _of_density(case)


def _of_density(case: FlowCase) -> Iterator[Callable[[FlowCase], None]]:
    if 1 in case.sizes:
        yield from density.ON_THE_LINE
    if 2 in case.sizes:
        yield from density.ON_THE_PLANE
    if case.invertible:
        if 1 in case.sizes:
            yield from density.SAMPLES_ON_THE_LINE
        if 2 in case.sizes:
            yield from density.SAMPLES_ON_THE_PLANE
