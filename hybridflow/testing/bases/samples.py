"""Samples of a base: from the generator alone, by the density, with gradients if offered."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from scipy import stats

from hybridflow.errors import HybridFlowWarning
from hybridflow.estimators import FlowDensity
from hybridflow.flows import RealNVP
from hybridflow.history import TrainingConfig
from hybridflow.testing.bases.case import FEATURES, BaseCase
from hybridflow.testing.bases.density import REACH, density_of
from hybridflow.testing.case import CONTEXT, TRAINING_ROWS, normal
from hybridflow.testing.check import expect, expect_below, expect_shape
from hybridflow.testing.supports import line, plane

_DRAWS = 4000
_CONFIDENCE = 5.0
"""Standard errors that a mean over samples may be off."""

_WAVES = 12


def sample_has_the_right_shape(case: BaseCase) -> None:
    """`sample(n)` has n rows, for no rows too, in the dtype of the base."""
    for dtype in (torch.float32, torch.float64):
        base = case.ready().to(dtype)
        for n in (0, 1, 5):
            draws = base.sample(n, normal(n, CONTEXT, 3).to(dtype), _generator())
            expect_shape(draws, (n, FEATURES), f"sample({n})")
            expect(draws.dtype == dtype, f"sample of a base in {dtype} is {draws.dtype}")


def sample_carries_no_gradient(case: BaseCase) -> None:
    """`sample` records nothing for gradients: that is what `rsample` is for."""
    draws = case.ready().sample(3, normal(3, CONTEXT, 3), _generator())
    expect(not draws.requires_grad, "sample requires a gradient")


def sample_uses_the_generator_alone(case: BaseCase) -> None:
    """Equal generators give equal draws, and the global random state is not touched."""
    base, context = case.ready(), normal(6, CONTEXT, 3)
    state = torch.get_rng_state()
    first, second = (base.sample(6, context, _generator()) for _ in range(2))
    expect(torch.equal(first, second), "equal generators give different draws")
    expect(torch.equal(state, torch.get_rng_state()), "sampling moves the global random state")
    generator = _generator()
    one, other = (base.sample(6, context, generator) for _ in range(2))
    expect(not torch.equal(one, other), "a generator that moved on gives the same draws")


def samples_of_the_line_follow_the_density(case: BaseCase) -> None:
    """The distribution function that the density implies makes samples uniform."""
    base = case.sized(1)
    draws = base.sample(_DRAWS, None, _generator())[:, 0].detach()
    z, weight = line(case.kind, 20001, REACH)
    mass = np.cumsum((density_of(base, z[:, None]) * weight).numpy())
    levels = np.interp(draws.numpy(), z.numpy(), mass)
    p = float(stats.kstest(levels, "uniform").pvalue)
    expect(p > 1e-4, f"samples do not follow the density: Kolmogorov-Smirnov p = {p:.2g}")


def samples_of_the_plane_follow_the_density(case: BaseCase) -> None:
    """Waves in many directions have the mean over samples that they have over the density."""
    base = case.sized(2)
    z, weight = plane(case.kind, REACH)
    mass = density_of(base, z) * weight
    draws = base.sample(_DRAWS, None, _generator()).detach()
    directions = normal(2, _WAVES, 18)
    for name, wave in (("cosine", torch.cos), ("sine", torch.sin)):
        expected = (mass[:, None] * wave(z @ directions)).sum(0)
        found = wave(draws @ directions)
        allowed = _CONFIDENCE * found.std(0) / math.sqrt(_DRAWS) + 2e-3
        worst = ((found.mean(0) - expected).abs() / allowed).max()
        expect_below(
            worst, 1.0, f"over two dimensions, the error of the mean {name} over its bound"
        )


def rsample_is_distributed_as_sample(case: BaseCase) -> None:
    """Draws with gradients follow the density too."""
    base = case.sized(1)
    draws = base.rsample(_DRAWS, None, _generator())[:, 0].detach()
    z, weight = line(case.kind, 20001, REACH)
    mass = np.cumsum((density_of(base, z[:, None]) * weight).numpy())
    levels = np.interp(draws.numpy(), z.numpy(), mass)
    p = float(stats.kstest(levels, "uniform").pvalue)
    expect(p > 1e-4, f"rsample does not follow the density: Kolmogorov-Smirnov p = {p:.2g}")


def rsample_carries_the_gradient_of_the_mean(case: BaseCase) -> None:
    """Gradients through draws are, on average, those of an integral over the density."""
    base = case.sized(1)
    free = [parameter for parameter in base.parameters() if parameter.requires_grad]
    if not free:
        return
    z, weight = line(case.kind, 20001, REACH)
    exact = (base.log_prob(z[:, None]).exp() * weight * torch.tanh(z)).sum()
    expected = torch.autograd.grad(exact, free, materialize_grads=True)
    values = torch.tanh(base.rsample(_DRAWS, None, _generator())[:, 0])
    expect(values.requires_grad, "rsample carries no gradient")
    batches = [
        torch.autograd.grad(part.mean(), free, retain_graph=True, materialize_grads=True)
        for part in torch.split(values, _DRAWS // 20)
    ]
    for index, slope in enumerate(expected):
        found = torch.stack([batch[index] for batch in batches])
        error = (found.mean(0) - slope).abs()
        allowed = 2 * _CONFIDENCE * found.std(0) / math.sqrt(len(batches)) + 1e-4
        expect_below((error / allowed).max(), 1.0, "the error of a gradient over its bound")


def works_in_flow_density(case: BaseCase) -> None:
    """`FlowDensity` fits, scores and samples with it."""
    table = normal(TRAINING_ROWS, 2, 51).numpy()
    model = FlowDensity(
        RealNVP(layers=2, hidden_units=8),
        base=case.spec.config(),
        training=TrainingConfig(steps=4),
        random_state=0,
        registry=case.registry,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HybridFlowWarning)
        model.fit(table)
    expect(not np.isnan(model.score_samples(table)).any(), "score_samples is not a number")
    samples = model.sample(7, random_state=0)
    expect(samples.shape == (7, 2), f"sample(7) has shape {samples.shape}")
    expect(bool(np.isfinite(samples).all()), "samples are not finite")


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(17)


EVERY = (
    sample_has_the_right_shape,
    sample_carries_no_gradient,
    sample_uses_the_generator_alone,
    samples_of_the_line_follow_the_density,
    samples_of_the_plane_follow_the_density,
)
WITH_GRADIENTS = (rsample_is_distributed_as_sample, rsample_carries_the_gradient_of_the_mean)
ON_REAL_ROWS = (works_in_flow_density,)
