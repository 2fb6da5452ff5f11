"""Which checks a base is put to: those that fit what its spec claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hybridflow.testing import shared
from hybridflow.testing.bases import density, samples
from hybridflow.testing.bases.case import BaseCase

__all__ = ["BaseCase", "base_checks"]


def base_checks(case: BaseCase) -> Iterator[Callable[[BaseCase], None]]:
    """Yield the checks, each a function of the case."""
    yield from shared.CHECKS
    yield from density.EVERY
    yield from samples.EVERY
    if case.draws_with_gradients:
        yield from samples.WITH_GRADIENTS
    if case.reads_real_rows:
        yield from density.ON_REAL_ROWS
        yield from samples.ON_REAL_ROWS
