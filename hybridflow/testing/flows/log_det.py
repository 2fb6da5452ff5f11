"""The log-determinant against the autograd Jacobian in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hybridflow.testing.case import CONTEXT, normal
from hybridflow.testing.check import expect_below, expect_close
from hybridflow.testing.flows.case import FlowCase
from hybridflow.testing.supports import rows_on

_LIMITS = {torch.float64: 1e-8, torch.float32: 1e-4}
_COPIES = 4000
_CONFIDENCE = 5.0
"""Standard errors that the mean of an unbiased estimate may be off."""

Direction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def ladj_is_the_log_determinant(case: FlowCase) -> None:
    """`forward` returns the log-determinant of its autograd Jacobian."""
    for features in case.sizes:
        flow = case.sized(features, CONTEXT)
        x, context = rows_on(case.kind, 5, features, 2), normal(5, CONTEXT, 4)
        expected = log_determinant(flow, x, context)
        for dtype, limit in _LIMITS.items():
            with torch.no_grad():
                _, ladj = flow.to(dtype)(x.to(dtype), context.to(dtype))
            what = f"ladj of {features} features in {dtype} from the Jacobian's"
            expect_close(ladj.double(), expected, limit, what)


def ladj_of_the_inverse_is_its_log_determinant(case: FlowCase) -> None:
    """`inverse` returns the log-determinant of its own autograd Jacobian."""
    flow = case.ready()
    x, context = case.inputs(5)
    with torch.no_grad():
        z, _ = flow(x, context)
        _, ladj = flow.inverse(z, context)
    limit = 1e-8 if case.spec.inverse == "exact" else 1e-5
    expected = log_determinant(flow.inverse, z, context)
    expect_close(ladj, expected, limit, "ladj of the inverse from the Jacobian's")


def estimated_ladj_is_unbiased(case: FlowCase) -> None:
    """The mean of many estimates is the log-determinant, within its confidence bound."""
    for features in case.sizes[-2:]:
        flow = case.sized(features, CONTEXT)
        x, context = rows_on(case.kind, 1, features, 2), normal(1, CONTEXT, 4)
        expected = float(log_determinant(flow, x, context))
        flow.train()
        with torch.no_grad():
            _, ladj = flow(x.expand(_COPIES, -1), context.expand(_COPIES, -1))
        error = abs(float(ladj.mean()) - expected)
        allowed = _CONFIDENCE * float(ladj.std()) / math.sqrt(_COPIES) + 1e-6
        expect_below(error, allowed, f"the bias of ladj of {features} features")


def log_determinant(direction: Direction, x: Tensor, context: Tensor) -> Tensor:
    """Return log|det J| of each row, one autograd pass per feature."""
    leaf = x.clone().requires_grad_()
    image, _ = direction(leaf, context)
    rows = [
        torch.autograd.grad(image[:, j].sum(), leaf, retain_graph=True)[0]
        for j in range(x.shape[1])
    ]
    determinant: Tensor = torch.linalg.slogdet(torch.stack(rows, 1)).logabsdet
    return determinant.detach()


EXACT = (ladj_is_the_log_determinant,)
EXACT_WITH_INVERSE = (ladj_of_the_inverse_is_its_log_determinant,)
ESTIMATED = (estimated_ladj_is_unbiased,)
