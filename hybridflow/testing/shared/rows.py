"""Rows go in, rows come out: shapes, types, layouts, and none of another's business."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.testing.case import READ, AnyCase, Inputs, Outputs
from hybridflow.testing.check import CheckSkipped, expect, expect_close, expect_finite, expect_shape

_ALONE = {torch.float64: 1e-12, torch.float32: 4e-6}
"""The last digits depend on the kernel that a matrix product chooses for a number of rows."""


def shapes_and_dtypes_are_kept(case: AnyCase) -> None:
    """Every output has one entry per row, in the dtype of the module."""
    follows = case.follow_dtype()
    for dtype in _ALONE:
        module = case.ready().to(dtype)
        for what, output in _outputs(case, module, case.to(case.inputs(5), dtype)).items():
            expect_shape(output, (5, *output.shape[1:]), what)
            expect_finite(output, what)
            if what in follows:
                expect(output.dtype == dtype, f"{what} of {dtype} rows is {output.dtype}")


def a_row_alone_is_the_row_in_a_batch(case: AnyCase) -> None:
    """What is said of a row does not depend on the rows beside it."""
    for dtype, limit in _ALONE.items():
        module, inputs = case.ready().to(dtype), case.to(case.inputs(6), dtype)
        together = _outputs(case, module, inputs)
        for i in range(6):
            alone = _outputs(case, module, tuple(part[i : i + 1] for part in inputs))
            for what, output in alone.items():
                expect_close(output[0], together[what][i], limit, f"{what}, alone, in {dtype}")


def no_gradient_crosses_rows(case: AnyCase) -> None:
    """The gradient of what is said of a row is zero in every other row."""
    module = case.ready()
    inputs = tuple(part.clone().requires_grad_(i < READ) for i, part in enumerate(case.inputs(4)))
    leaves = list(inputs[:READ])
    for what, output in case.smooth(module, inputs).items():
        if not output.requires_grad:
            continue
        gradients = torch.autograd.grad(
            output[0].sum(), leaves, retain_graph=True, materialize_grads=True
        )
        for gradient in gradients:
            others = float(gradient[1:].abs().sum())
            expect(others == 0, f"{what} of row 0 has gradient {others:.3g} in other rows")


def no_rows_give_no_rows(case: AnyCase) -> None:
    """A batch of no rows passes through."""
    module = case.ready()
    shapes = {what: out.shape[1:] for what, out in _outputs(case, module, case.inputs(2)).items()}
    none = tuple(part[:0] for part in case.inputs(2))
    for what, output in _outputs(case, module, none).items():
        expect_shape(output, (0, *shapes[what]), what)


def layout_of_the_input_does_not_matter(case: AnyCase) -> None:
    """Transposed, strided and expanded inputs give what contiguous ones give."""
    module, inputs = case.ready(), case.inputs(6)
    expected = _outputs(case, module, inputs)
    for layout, laid_out in (
        ("a transposed", tuple(part.t().contiguous().t() for part in inputs)),
        ("a strided", tuple(part.repeat_interleave(2, 0)[::2] for part in inputs)),
    ):
        for what, output in _outputs(case, module, laid_out).items():
            expect_close(output, expected[what], 1e-12, f"{what} of {layout} input")
    expanded = tuple(part[:1].expand(6, -1) for part in inputs)
    for what, output in _outputs(case, module, expanded).items():
        repeated = expected[what][:1].expand(output.shape)
        expect_close(output, repeated, 1e-12, f"{what} of an expanded input")


def input_is_not_changed(case: AnyCase) -> None:
    """The rows that are read hold afterwards what they held before."""
    module, inputs = case.ready(), case.inputs(40)
    before = [part.clone() for part in inputs]
    with torch.no_grad():
        case.evaluate(module, inputs)
        case.initialize(module, inputs, None)
    for part, (old, new) in enumerate(zip(before, inputs, strict=True)):
        expect(torch.equal(old, new), f"input {part} was changed in place")


def evaluation_repeats(case: AnyCase) -> None:
    """In evaluation mode the same rows give the same numbers, bit for bit."""
    module, inputs = case.ready(), case.inputs(5)
    first, second = (_outputs(case, module, inputs) for _ in range(2))
    for what, output in first.items():
        expect(torch.equal(output, second[what]), f"{what} changes from call to call")


def moves_to_an_accelerator(case: AnyCase) -> None:
    """On another device, the results are those of the CPU."""
    if not torch.cuda.is_available():
        raise CheckSkipped("no CUDA device is available")
    device = torch.device("cuda")
    module, inputs = case.ready(), case.inputs(5)
    expected = _outputs(case, module, inputs)
    for what, output in _outputs(case, module.to(device), case.to(inputs, device)).items():
        expect(output.device.type == "cuda", f"{what} came back on {output.device}")
        expect_close(output.cpu(), expected[what], 1e-8, f"{what} on {device}")


def _outputs(case: AnyCase, module: torch.nn.Module, inputs: Inputs) -> Outputs:
    with torch.no_grad():
        outputs: dict[str, Tensor] = case.evaluate(module, inputs)
    return outputs


CHECKS = (
    shapes_and_dtypes_are_kept,
    a_row_alone_is_the_row_in_a_batch,
    no_gradient_crosses_rows,
    no_rows_give_no_rows,
    layout_of_the_input_does_not_matter,
    input_is_not_changed,
    evaluation_repeats,
    moves_to_an_accelerator,
)
