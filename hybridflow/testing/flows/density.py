"""The density: its mass, its samples, and what another unit of the data does to it."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from hybridflow.specs import Circle
from hybridflow.testing.case import TRAINING_ROWS, built, normal, perturb
from hybridflow.testing.check import expect, expect_below, expect_close, expect_finite
from hybridflow.testing.flows.case import FlowCase, settle
from hybridflow.testing.flows.fitting import log_density
from hybridflow.testing.supports import SUPPORTS, excess_mass_on_the_plane, inside, line
from hybridflow.transforms import Compose, Standardize
from hybridflow.transforms.base import Transform

_MASS = 1e-3
_CHANCE = 0.05
_DRAWS = 2000
_FEW = 200
_GRID = 121


def density_integrates_to_one_on_the_line(case: FlowCase) -> None:
    """The density of one feature has mass 1."""
    flow = case.sized(1)
    x, weight = line(case.kind, 4001)
    total = float((_density(flow, case.kind, x[:, None]) * weight).sum())
    expect_below(abs(total - 1), _MASS, "the distance of the density's mass from 1")


def density_integrates_to_one_on_the_plane(case: FlowCase) -> None:
    """The density of two features, after training on heavy-tailed rows, has mass 1."""
    flow = case.trained(2)
    excess = excess_mass_on_the_plane(partial(_density, flow, case.kind), case.kind, _MASS)
    expect_below(excess, _MASS, "the distance of the density's mass from 1")


def samples_of_the_line_follow_the_density(case: FlowCase) -> None:
    """The distribution function that the density implies makes samples uniform."""
    flow = case.sized(1)
    samples = _samples(case, flow, 1)[:, 0]
    x, weight = line(case.kind, 4001)
    mass = np.cumsum((_density(flow, case.kind, x[:, None]) * weight).numpy())
    levels = np.interp(samples.numpy(), x.numpy(), mass)
    p = float(stats.kstest(levels, "uniform").pvalue)
    expect(p > 1e-4, f"samples do not follow the density: Kolmogorov-Smirnov p = {p:.2g}")


def samples_of_the_plane_follow_the_density(case: FlowCase) -> None:
    """No classifier tells samples from rows drawn by the density's values on a grid."""
    flow = case.trained(2)
    samples = _samples(case, flow, 2)
    axis, length = line(case.kind, _GRID)
    grid, weight = torch.cartesian_prod(axis, axis), torch.outer(length, length).flatten()
    share = _density(flow, case.kind, grid) * weight
    generator = torch.Generator().manual_seed(41)
    drawn = grid[torch.multinomial(share, len(samples), replacement=True, generator=generator)]
    # Rows of a grid are told from samples by their ties: both are rounded to it.
    rounded = _nearest(samples, axis)
    rows = torch.cat([drawn, rounded]).numpy()
    labels = np.repeat([0, 1], len(samples))
    order = np.random.default_rng(0).permutation(len(rows))
    half = len(rows) // 2
    model = KNeighborsClassifier(40).fit(rows[order[:half]], labels[order[:half]])
    accuracy = float(model.score(rows[order[half:]], labels[order[half:]]))
    expect_below(abs(accuracy - 0.5), _CHANCE, "the accuracy above chance of telling samples apart")


def samples_stay_on_the_support(case: FlowCase) -> None:
    """Every sample is finite and lies on the support."""
    for features in case.sizes:
        samples = _samples(case, case.sized(features), features, _FEW)
        expect_finite(samples, "samples")
        outside = int((~inside(case.kind, samples)).sum())
        expect(outside == 0, f"{outside} of {samples.numel()} sampled entries leave the support")


def another_unit_changes_the_score_by_a_constant(case: FlowCase) -> None:
    """Behind a fitted standardisation, shift and scale of the data add a known constant."""
    features = case.features
    x = normal(TRAINING_ROWS, features, 7)
    factor = torch.logspace(-3, 4, features, dtype=torch.float64)
    scores = [_standardised_score(case, rows) for rows in (x, factor * x + 17 * factor)]
    expect_close(scores[1] + factor.log().sum(), scores[0], 1e-9, "the score in another unit")


def _standardised_score(case: FlowCase, rows: Tensor) -> Tensor:
    features = rows.shape[1]
    flow = case.sized(features, moved=False)
    model: Transform = built(lambda: Compose([Standardize(features), flow]))
    model.initialize(rows)
    perturb(flow)
    settle(model, (rows,))
    with torch.no_grad():
        return log_density(model, case.kind, rows)


def _density(flow: Transform, kind: str, x: Tensor) -> Tensor:
    with torch.no_grad():
        parts = [log_density(flow, kind, part) for part in torch.split(x, 8192)]
    return torch.cat(parts).exp()


def _samples(case: FlowCase, flow: Transform, features: int, n: int = _DRAWS) -> Tensor:
    support = SUPPORTS[case.kind]
    generator = torch.Generator().manual_seed(42)
    if isinstance(support, Circle):
        uniform = torch.rand(n, features, generator=generator, dtype=torch.float64)
        z = support.period * (uniform - 0.5)
    else:
        z = torch.randn(n, features, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        return flow.inverse(z)[0]


def _nearest(samples: Tensor, axis: Tensor) -> Tensor:
    """Return samples with each entry moved to the nearest point of an axis."""
    middles = (axis[1:] + axis[:-1]) / 2
    return axis[torch.bucketize(samples.contiguous(), middles)]


ON_THE_LINE = (density_integrates_to_one_on_the_line,)
ON_THE_PLANE = (density_integrates_to_one_on_the_plane,)
SAMPLES_ON_THE_LINE = (samples_of_the_line_follow_the_density,)
SAMPLES_ON_THE_PLANE = (samples_of_the_plane_follow_the_density,)
SAMPLES = (samples_stay_on_the_support,)
ON_REAL_ROWS = (another_unit_changes_the_score_by_a_constant,)
