"""Which checks a head is put to."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hybridflow.testing import shared
from hybridflow.testing.heads import law, loss
from hybridflow.testing.heads.case import HeadCase

__all__ = ["HeadCase", "head_checks"]


def head_checks(case: HeadCase) -> Iterator[Callable[[HeadCase], None]]:
    """Yield the checks, each a function of the case."""
    yield from shared.CHECKS
    yield from loss.EVERY
    yield from law.EVERY
