"""The data-dependent start."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.testing.case import TRAINING_ROWS, AnyCase, Inputs
from hybridflow.testing.check import expect_close, expect_finite

_SAME = 1e-9


def initialize_counts_a_weight_as_repetition(case: AnyCase) -> None:
    """A row of weight two does what the row does twice, and a weight of zero removes it."""
    rows = case.inputs(TRAINING_ROWS, seed=7)
    generator = torch.Generator().manual_seed(5)
    counts = torch.randint(0, 4, (TRAINING_ROWS,), generator=generator)
    repeated = tuple(part.repeat_interleave(counts, 0) for part in rows)
    _expect_same_start(case, (rows, counts.double()), (repeated, None), "repeated rows")


def initialize_ignores_the_order_of_rows(case: AnyCase) -> None:
    """The start is that of the same rows in another order."""
    rows = case.inputs(TRAINING_ROWS, seed=7)
    order = torch.randperm(TRAINING_ROWS, generator=torch.Generator().manual_seed(5))
    shuffled = tuple(part[order] for part in rows)
    _expect_same_start(case, (rows, None), (shuffled, None), "shuffled rows")


def initialize_survives_a_constant_column(case: AnyCase) -> None:
    """A column of one value, and a table of one row, leave finite numbers."""
    rows = case.inputs(TRAINING_ROWS, seed=7)
    constant = rows[0].clone()
    constant[:, 0] = constant[0, 0]
    for what, start in (
        ("a constant column", (constant, *rows[1:])),
        ("one row", tuple(part[:1] for part in rows)),
    ):
        module = case.build()
        with torch.no_grad():
            case.initialize(module, start, None)
            outputs = case.evaluate(module, tuple(part[:5] for part in start))
        for name, output in outputs.items():
            expect_finite(output, f"{name} of the rows of {what}")


def _expect_same_start(
    case: AnyCase,
    one: tuple[Inputs, Tensor | None],
    other: tuple[Inputs, Tensor | None],
    what: str,
) -> None:
    outputs = []
    for rows, weight in (one, other):
        module = case.build()
        with torch.no_grad():
            case.initialize(module, rows, weight)
            outputs.append(case.evaluate(module, case.inputs(8)))
    for name, output in outputs[0].items():
        expect_close(outputs[1][name], output, _SAME, f"{name} after a start from {what}")


CHECKS = (
    initialize_counts_a_weight_as_repetition,
    initialize_ignores_the_order_of_rows,
    initialize_survives_a_constant_column,
)
