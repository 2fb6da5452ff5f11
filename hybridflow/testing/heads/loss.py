"""The loss of a head: that of its law, of labelled rows alone, right at extremes."""

from __future__ import annotations

import numpy as np
import torch

from hybridflow.errors import InputError
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.specs import Event
from hybridflow.testing.case import TRAINING_ROWS, normal
from hybridflow.testing.check import (
    expect,
    expect_below,
    expect_close,
    expect_finite,
    expect_shape,
    fail,
)
from hybridflow.testing.heads.case import HeadCase

_JUNK = (float("nan"), float("inf"), -1e9)


def eta_and_loss_have_one_row_per_row(case: HeadCase) -> None:
    """eta has shape (n, k); the loss has shape (n,) and is float64."""
    for dtype in (torch.float32, torch.float64):
        module = case.ready().to(dtype)
        outputs = case.evaluate(module, case.to(case.inputs(5), dtype))
        eta, nll = outputs["eta"], outputs["nll"]
        expect(eta.dim() == 2, f"eta has shape {tuple(eta.shape)}, not (n, k)")
        expect_shape(eta, (5, eta.shape[1]), "eta")
        expect_shape(nll, (5,), "nll")
        expect(nll.dtype == torch.float64, f"nll is {nll.dtype}: sums of many rows lose digits")


def unlabelled_rows_cost_nothing(case: HeadCase) -> None:
    """The loss of a row without a label is 0, and so is its gradient."""
    module = case.ready()
    z, context, values, _ = case.inputs(6)
    observed = (torch.arange(6) % 2 == 0)[:, None].expand_as(values)
    eta = module.head(z, context).detach().requires_grad_()
    nll = module.head.nll(eta, TargetBatch(values, observed))
    (slope,) = torch.autograd.grad(nll.sum(), eta)
    lost = float(nll.detach()[1::2].abs().sum())
    expect(lost == 0, f"unlabelled rows cost {lost:.3g} nats")
    expect(float(slope[1::2].abs().sum()) == 0, "unlabelled rows have a gradient")
    expect(bool((slope[::2] != 0).any()), "labelled rows have no gradient")


def unobserved_values_are_never_read(case: HeadCase) -> None:
    """What stands where no target was observed changes neither loss, gradient nor start."""
    z, context, values, _ = case.inputs(TRAINING_ROWS)
    observed = (torch.arange(TRAINING_ROWS) % 3 > 0)[:, None].expand_as(values)
    results = []
    for junk in (values, *(torch.full_like(values, value) for value in _JUNK)):
        rows = (z, context, torch.where(observed, values, junk), observed)
        module = case.build()
        case.initialize(module, rows, None)
        nll = case.evaluate(module, rows)["nll"]
        free = [part for part in module.parameters() if part.requires_grad]
        slopes = torch.autograd.grad(nll.sum(), free, materialize_grads=True) if free else ()
        results.append([nll.detach(), *slopes])
    for unread, result in zip(_JUNK, results[1:], strict=True):
        for one, other in zip(result, results[0], strict=True):
            expect_close(one, other, 0.0, f"the loss or its gradient beside an unread {unread}")


def extreme_predictors_keep_loss_and_gradient_finite(case: HeadCase) -> None:
    """Loss and gradient are finite where eta is a million or a thousand in size."""
    module = case.ready()
    z, context, values, observed = case.inputs(12)
    with torch.no_grad():
        width = module.head(z, context).shape[1]
    for size in (1e3, -1e3, 1e6, -1e6):
        for dtype in (torch.float32, torch.float64):
            for every in (torch.full((12, width), size), size * normal(12, width, 8).sign()):
                eta = every.to(dtype).requires_grad_()
                nll = module.head.nll(eta, TargetBatch(values, observed))
                (slope,) = torch.autograd.grad(nll.sum(), eta)
                expect_finite(nll, f"the loss at eta = {size:g} in {dtype}")
                expect_finite(slope, f"the gradient at eta = {size:g} in {dtype}")


def far_rows_have_finite_predictors(case: HeadCase) -> None:
    """Latent rows 1e8 out have finite predictors and losses."""
    module = case.ready().float()
    z, context, values, observed = case.to(case.inputs(12), torch.float32)
    outputs = case.evaluate(module, (1e8 * z.sign(), context, values, observed))
    for what, output in outputs.items():
        expect_finite(output, f"{what} of rows 1e8 out")


def initialize_lowers_the_loss(case: HeadCase) -> None:
    """The data-dependent start fits the targets no worse than zeros do."""
    rows = case.inputs(TRAINING_ROWS)
    module = case.build()
    with torch.no_grad():
        before = float(case.evaluate(module, rows)["nll"].mean())
        case.initialize(module, rows, None)
        after = float(case.evaluate(module, rows)["nll"].mean())
    expect_below(after - before, 1e-6, "what initialize adds to the mean loss, in nats,")


def training_lowers_the_loss(case: HeadCase) -> None:
    """A few optimiser steps on separable targets lower the loss."""
    module = case.build()
    z, context, values, observed = case.inputs(TRAINING_ROWS)
    z = z.clone()
    rank = torch.as_tensor(np.unique(values[:, 0].numpy(), return_inverse=True)[1]).to(z.dtype)
    z[:, 0] = 0.2 * z[:, 0] + (rank - rank.mean()) / rank.std()  # the target is there to be read
    rows = (z, context, values, observed)
    free = [part for part in module.parameters() if part.requires_grad]
    if not free:
        return
    case.initialize(module, rows, None)
    optimizer = torch.optim.Adam(free, lr=0.02)
    losses = []
    for _ in range(30):
        loss = case.evaluate(module.train(), rows)["nll"].mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    expect(losses[-1] < losses[0], f"the loss went from {losses[0]:.4g} to {losses[-1]:.4g}")


def offset_is_added_or_refused(case: HeadCase) -> None:
    """An offset is added to columns of eta, or raises InputError: it is never ignored."""
    module = case.ready()
    z, context, *_ = case.inputs(4)
    try:
        with torch.no_grad():
            shifted = module.head(z, context, torch.full((4,), 0.7, dtype=torch.float64))
    except InputError:
        return
    with torch.no_grad():
        moved = shifted - module.head(z, context)
    rates = (moved[:1].abs() > 0.35).to(moved.dtype)  # a dispersion, say, has no exposure
    expect(bool(rates.any()), "an offset of 0.7 is ignored")
    expect_close(moved, 0.7 * rates.expand_as(moved), 1e-9, "what an offset of 0.7 adds to eta")


def context_changes_the_result(case: HeadCase) -> None:
    """Rows under another context have another predictor."""
    module = case.ready()
    z, context, *_ = case.inputs(8)
    with torch.no_grad():
        moved = float((module.head(z, context) - module.head(z, context + 1)).abs().max())
    expect(moved > 1e-9, f"another context changes eta by {moved:.2g}: it is not read")


def no_features_leave_the_intercept(case: HeadCase) -> None:
    """On a latent of no dimensions every row has the same predictor."""
    module = case.sized_in_float64(Event.real(0))
    *_, values, observed = case.inputs(9)
    nothing = torch.zeros(9, 0, dtype=torch.float64)
    if module.base is not None:
        module.base.initialize(nothing, None, values)
    module.head.initialize(nothing, None, TargetBatch(values, observed))
    with torch.no_grad():
        eta = module.head(nothing)
    expect_finite(eta, "eta")
    expect_close(eta, eta[:1].expand_as(eta), 1e-12, "eta from that of the first row")


def impossible_targets_are_refused(case: HeadCase) -> None:
    """`check` passes what the head was fitted on; what it refuses, it refuses with InputError."""
    module = case.build()
    *_, values, observed = case.inputs(6)
    module.head.check(TargetBatch(values, observed))
    try:
        module.head.check(TargetBatch(values - 1e6, observed))
    except InputError:
        return
    except Exception as error:
        fail(f"check raised {type(error).__name__}, not InputError: {error}")


EVERY = (
    eta_and_loss_have_one_row_per_row,
    unlabelled_rows_cost_nothing,
    unobserved_values_are_never_read,
    extreme_predictors_keep_loss_and_gradient_finite,
    far_rows_have_finite_predictors,
    initialize_lowers_the_loss,
    training_lowers_the_loss,
    offset_is_added_or_refused,
    context_changes_the_result,
    no_features_leave_the_intercept,
    impossible_targets_are_refused,
)
