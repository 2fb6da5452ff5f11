"""The density of a base: one number per row, of mass one, tame far out."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from hybridflow.densities.base import Base
from hybridflow.specs import Target
from hybridflow.testing.bases.case import FEATURES, BaseCase
from hybridflow.testing.case import CONTEXT, TRAINING_ROWS, normal
from hybridflow.testing.check import expect, expect_below, expect_finite, expect_shape
from hybridflow.testing.supports import excess_mass_on_the_plane, line

_MASS = 1e-3

REACH = 2000.0
"""How far out integrals go: a Cauchy law has 3e-4 of its mass beyond."""

_TARGETS = (
    None,
    Target(kind="classification", classes=("a", "b", "c")),
    Target(kind="regression", location=(3.0,), scale=(2.0,)),
)


def log_prob_is_one_number_per_row(case: BaseCase) -> None:
    """`log_prob` has shape (n,), without a context too."""
    with torch.no_grad():
        given = case.evaluate(case.ready(), case.inputs(5))["log_prob"]
        alone = case.sized(2).log_prob(case.rows(5, 2, 1))
    for scores in (given, alone):
        expect_shape(scores, (5,), "log_prob")
        expect_finite(scores, "log_prob")


def density_integrates_to_one_on_the_line(case: BaseCase) -> None:
    """The density of one dimension has mass 1, from the start and away from it."""
    z, weight = line(case.kind, 20001, REACH)
    for moved in (False, True):
        total = float((density_of(case.sized(1, moved=moved), z[:, None]) * weight).sum())
        expect_below(abs(total - 1), _MASS, "the distance of the density's mass from 1")


def density_integrates_to_one_on_the_plane(case: BaseCase) -> None:
    """The density of two dimensions has mass 1."""
    excess = excess_mass_on_the_plane(partial(density_of, case.sized(2)), case.kind, _MASS, REACH)
    expect_below(excess, _MASS, "the distance of the density's mass from 1")


def far_rows_have_finite_values_and_gradients(case: BaseCase) -> None:
    """As many units out as `stable_to` claims, log_prob and its gradients are finite."""
    base = case.ready().float()
    for scale in (1.0, 1e2, case.spec.stable_to):
        z = (scale * normal(20, FEATURES, 5).sign()).float().requires_grad_()
        score = base.log_prob(z, normal(20, CONTEXT, 6).float())
        expect_finite(score, f"log_prob at {scale:g}")
        free = [parameter for parameter in base.parameters() if parameter.requires_grad]
        for gradient in torch.autograd.grad(score.sum(), [z, *free], materialize_grads=True):
            expect_finite(gradient, f"a gradient at {scale:g}")


def no_dimensions_have_log_density_zero(case: BaseCase) -> None:
    """A latent of no dimensions is certain, and can be sampled."""
    base = case.sized(0, moved=False)
    with torch.no_grad():
        base.initialize(torch.zeros(4, 0, dtype=torch.float64))
        scores, draws = base.log_prob(torch.zeros(4, 0, dtype=torch.float64)), base.sample(4)
    expect_shape(scores, (4,), "log_prob")
    expect_below(scores.abs().max(), 1e-12, "the size of log_prob of no dimensions")
    expect_shape(draws, (4, 0), "sample(4)")


def builds_for_every_target(case: BaseCase) -> None:
    """It builds for classes, for numbers and for no target, and starts from rows with them."""
    rows = case.rows(TRAINING_ROWS, 2, 7)
    y = (torch.arange(TRAINING_ROWS, dtype=torch.float64) % 3)[:, None]
    unlabelled = torch.where(torch.arange(TRAINING_ROWS)[:, None] % 4 == 0, torch.nan, y)
    for target in _TARGETS:
        for given in (None, y, unlabelled):
            base = case.sized(2, target, moved=False)
            base.initialize(rows, None, None if target is None else given)
            with torch.no_grad():
                score = base.log_prob(rows[:5])
            expect_finite(score, f"log_prob for {'no target' if target is None else target.kind}")


def initialize_raises_the_density(case: BaseCase) -> None:
    """The data-dependent start does not fit the rows worse than the start without data."""
    rows = case.rows(TRAINING_ROWS, FEATURES, 7)
    started, fresh = case.sized(FEATURES, moved=False), case.sized(FEATURES, moved=False)
    started.initialize(rows)
    with torch.no_grad():
        after, before = (float(base.log_prob(rows).mean()) for base in (started, fresh))
    expect(
        after >= before - 0.1,
        f"initialize takes the mean log_prob from {before:.3f} to {after:.3f}",
    )


def density_of(base: Base, z: Tensor) -> Tensor:
    with torch.no_grad():
        return base.log_prob(z).exp()


EVERY = (
    log_prob_is_one_number_per_row,
    density_integrates_to_one_on_the_line,
    density_integrates_to_one_on_the_plane,
    no_dimensions_have_log_density_zero,
    builds_for_every_target,
    initialize_raises_the_density,
)
ON_REAL_ROWS = (far_rows_have_finite_values_and_gradients,)
