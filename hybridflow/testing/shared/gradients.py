"""Gradients: there for every parameter, and right."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.testing.case import READ, AnyCase, normal, weighted_sum
from hybridflow.testing.check import expect, expect_below, expect_finite

_STEP = 1e-6
_AGREEMENT = 1e-4
"""Of a gradient with a finite difference, whose own error is about 1e-8."""


def every_parameter_receives_a_gradient(case: AnyCase) -> None:
    """No parameter is left out of what training minimises."""
    module = case.ready().train()
    total = weighted_sum(case.smooth(module, case.inputs(40)))
    named = {name: part for name, part in module.named_parameters() if part.requires_grad}
    if not named:
        return
    expect(total.requires_grad, "no output depends on a parameter")
    gradients = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    unused = [
        name
        for (name, part), gradient in zip(named.items(), gradients, strict=True)
        if part.numel() and (gradient is None or not bool((gradient != 0).any()))
    ]
    expect(not unused, f"without a gradient: {', '.join(unused)}")


def gradients_match_finite_differences(case: AnyCase) -> None:
    """Gradients with respect to inputs and parameters are those of finite differences."""
    module = case.ready()
    inputs = tuple(p.clone().requires_grad_(i < READ) for i, p in enumerate(case.inputs(12)))
    leaves = [part for part in (*inputs, *module.parameters()) if part.requires_grad]
    total = weighted_sum(case.smooth(module, inputs))
    gradients = torch.autograd.grad(total, leaves, materialize_grads=True)
    for seed in range(3):
        directions = [_direction(leaf, 100 * seed + i) for i, leaf in enumerate(leaves)]
        slope = sum(
            float((gradient * along).sum())
            for gradient, along in zip(gradients, directions, strict=True)
        )
        ends = []
        with torch.no_grad():
            for move in (_STEP, -2 * _STEP, _STEP):
                for leaf, along in zip(leaves, directions, strict=True):
                    leaf += move * along
                ends.append(float(weighted_sum(case.smooth(module, inputs))))
        difference = (ends[0] - ends[1]) / (2 * _STEP)
        gap = abs(slope - difference) / max(1.0, abs(difference))
        expect_below(gap, _AGREEMENT, f"the error of a slope of {difference:.4g}")


def float32_gradients_are_finite(case: AnyCase) -> None:
    """Gradients in float32 are finite on ordinary rows, at zero and at whole numbers."""
    module = case.ready().float()
    ordinary = case.to(case.inputs(24), torch.float32)
    rows = {"ordinary rows": ordinary[0]}
    if case.reads_real_rows:
        rows["whole numbers"] = (3 * ordinary[0]).round()  # ends of boxes, knots, ties
        rows["equal entries"] = ordinary[0][:, :1].expand_as(ordinary[0])
    for what, main in rows.items():
        inputs = (main.clone().requires_grad_(), *ordinary[1:])
        leaves = [p for p in (*inputs, *module.parameters()) if p.requires_grad]
        total = weighted_sum(case.smooth(module, inputs))
        for gradient in torch.autograd.grad(total, leaves, materialize_grads=True):
            expect_finite(gradient, f"a gradient at {what}")


def _direction(leaf: Tensor, seed: int) -> Tensor:
    return normal(1, leaf.numel(), seed + 21).view(leaf.shape).to(leaf.dtype)


CHECKS = (
    every_parameter_receives_a_gradient,
    gradients_match_finite_differences,
    float32_gradients_are_finite,
)
