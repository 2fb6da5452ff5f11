"""Training, and what comes after it."""

from __future__ import annotations

import torch

from hybridflow.testing.case import CONTEXT, TRAINING_ROWS, normal
from hybridflow.testing.check import expect, expect_below, expect_close, expect_finite
from hybridflow.testing.flows.case import FlowCase
from hybridflow.testing.flows.fitting import heavy_tailed, log_density, train
from hybridflow.testing.supports import distance, onto

_STEPS = 25
_ROWS = 60
_GAIN = 0.02
"""Nats per row that a few steps must gain."""

_AFTER = {torch.float64: 1e-8, torch.float32: 1e-3}


def training_lowers_the_loss(case: FlowCase) -> None:
    """A few optimiser steps on shifted and scaled rows raise their density."""
    features = case.features
    flow = case.sized(features, moved=False)
    rows = onto(case.kind, 0.5 + 1.7 * normal(TRAINING_ROWS, features, 9))
    with torch.no_grad():
        before = float(-log_density(flow, case.kind, rows).mean())
    if any(parameter.requires_grad for parameter in flow.parameters()):
        train(flow, rows, case.kind, _STEPS)
    else:
        flow.initialize(rows)
    with torch.no_grad():
        after = float(-log_density(flow, case.kind, rows).mean())
    expect(
        after < before - _GAIN,
        f"the loss went from {before:.4g} to {after:.4g} nats per row in {_STEPS} steps",
    )


def round_trip_survives_training_on_heavy_tails(case: FlowCase) -> None:
    """After training on heavy-tailed rows, they and rows farther out come back."""
    for features in (d for d in (2, 7) if d in case.sizes):
        flow, rows = case.trained(features), heavy_tailed(case.kind, features)[:_ROWS]
        if case.reads_real_rows:
            reach = min(case.spec.stable_to, 1e6)
            rows = torch.cat([rows, rows * reach / rows.abs().amax(1, keepdim=True)])
        for dtype, limit in _AFTER.items():
            flow, x = flow.to(dtype), rows.to(dtype)
            with torch.no_grad():
                z, ladj = flow(x)
                back, _ = flow.inverse(z)
            expect_finite(torch.cat([z, ladj[:, None]], 1), f"z and ladj in {dtype}")
            error = distance(case.kind, back, x).amax(1) / x.abs().amax(1).clamp(min=1)
            limit = max(limit, 1e-6) if case.spec.inverse == "iterative" else limit
            what = f"the relative round trip of {features} features in {dtype} after training"
            expect_below(error.max(), limit, what)


def finish_leaves_a_working_flow(case: FlowCase) -> None:
    """After `finish` the flow is finite and, if it claims so, invertible."""
    flow = case.ready()
    x, context = case.inputs(TRAINING_ROWS, seed=7)
    halves = [(x[:60], context[:60]), (x[60:], context[60:])]
    flow.finish(halves, torch.ones(TRAINING_ROWS, dtype=torch.float64))
    x, context = case.inputs(20)
    with torch.no_grad():
        z, ladj = flow(x, context)
        expect_finite(torch.cat([z, ladj[:, None]], 1), "z and ladj after finish")
        if case.invertible:
            error = distance(case.kind, flow.inverse(z, context)[0], x).max()
            expect_below(error, 1e-6, "the round trip after finish")


def context_changes_the_result(case: FlowCase) -> None:
    """Rows under another context are mapped elsewhere."""
    flow = case.ready()
    x, context = case.inputs(20)
    with torch.no_grad():
        one, other = flow(x, context), flow(x, context + 1)
    moved = float((one[0] - other[0]).abs().max()) + float((one[1] - other[1]).abs().max())
    expect(moved > 1e-6, f"another context changes z and ladj by {moved:.2g}: it is not read")


def wrong_context_is_refused(case: FlowCase) -> None:
    """A context that is missing or too wide raises ValueError."""
    flow = case.ready()
    x, context = case.inputs(3)
    for what, wrong in (
        ("no context", None),
        (f"a context of {CONTEXT + 1} columns", torch.cat([context, context[:, :1]], 1)),
    ):
        try:
            with torch.no_grad():
                flow(x, wrong)
        except ValueError:
            continue
        expect(False, f"{what} was accepted where one of {CONTEXT} columns was announced")


def initialize_works_in_float32(case: FlowCase) -> None:
    """A flow in float32 starts from float32 rows as one in float64 does from float64 ones."""
    wide, narrow = case.build(), case.build().float()
    rows = case.inputs(TRAINING_ROWS, seed=7)
    case.initialize(wide, rows, None)
    case.initialize(narrow, case.to(rows, torch.float32), None)
    with torch.no_grad():
        expected = case.evaluate(wide, case.inputs(5))
        found = case.evaluate(narrow.double(), case.inputs(5))
    for what, output in expected.items():
        expect_close(found[what], output, 1e-3, f"{what} after a start in float32")


EVERY = (
    training_lowers_the_loss,
    finish_leaves_a_working_flow,
    context_changes_the_result,
    wrong_context_is_refused,
    initialize_works_in_float32,
)
WITH_INVERSE = (round_trip_survives_training_on_heavy_tails,)
