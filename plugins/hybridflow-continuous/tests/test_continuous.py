"""The conformance kit; what samples, gradients and flow matching are checked against."""

from __future__ import annotations

import math

import pytest
import torch
from hybridflow_continuous import (
    FFJORD,
    FLOWS,
    FFJORDHutchinson,
    FlowMatching,
    build_ffjord,
    build_flow_matching,
)
from sklearn.datasets import make_moons
from torch import Tensor

from hybridflow import Event
from hybridflow.guards import building
from hybridflow.testing import Check, parametrize_with_checks
from hybridflow.testing.case import perturb
from hybridflow.transforms import Transform


@pytest.mark.slow
@parametrize_with_checks(FLOWS)
def test_conformance(check: Check) -> None:
    check.run()


def built(config: FFJORD | FlowMatching, features: int = 2, spread: float = 0.3) -> Transform:
    build = build_flow_matching if isinstance(config, FlowMatching) else build_ffjord
    with building(0):
        flow = build(Event.real(features), config)
    flow = flow.double().eval()
    perturb(flow, spread)
    return flow


def moons(n: int, seed: int) -> Tensor:
    rows = torch.from_numpy(make_moons(n, noise=0.08, random_state=seed)[0])
    return (rows - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.5])


def score(flow: Transform, x: Tensor) -> Tensor:
    with torch.no_grad():
        z, ladj = flow(x)
    return ladj - z.square().sum(1) / 2 - math.log(2 * math.pi)


@pytest.mark.parametrize("steps", [2, 5, 16])
def test_samples_and_density_agree_however_few_the_steps(steps: int) -> None:
    flow = built(FFJORD(steps=steps))
    z = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        x, back = flow.inverse(z)
        again, ladj = flow(x)
    tolerance = {2: 1e-2, 5: 1e-6, 16: 1e-12}[steps]  # a Newton step squares that of the solver
    torch.testing.assert_close(again, z, rtol=0, atol=tolerance)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda row: flow(row[None])[0][0]))(x)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, ladj, atol=1e-12, rtol=0)
    torch.testing.assert_close(back, -ladj)


def test_the_adjoint_equation_has_the_gradients_of_the_steps() -> None:
    gradients = []
    x = torch.randn(12, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for gradient in ("steps", "adjoint"):
        flow = built(FFJORD(gradient=gradient))
        z, ladj = flow(x)
        loss = (z.square().sum(1) / 2 - ladj).mean()
        gradients.append(torch.autograd.grad(loss, list(flow.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_estimate_is_unbiased_and_evaluation_is_exact() -> None:
    estimated, exact = built(FFJORDHutchinson(), 5), built(FFJORD(), 5)
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[None]
    with torch.no_grad():
        expected = exact(x)[1]
        torch.testing.assert_close(estimated(x)[1], expected)
        draws = estimated.train()(x.expand(4000, -1))[1]
    assert draws.std() > 0.01
    assert abs(draws.mean() - expected) < 4 * draws.std() / math.sqrt(4000) + 1e-6


def test_flow_matching_alone_learns_moons() -> None:
    flow = built(FlowMatching(matching_steps=1500), spread=0.0)
    before = score(flow, moons(500, 1)).mean()
    flow.initialize(moons(2000, 0))
    after = score(flow, moons(500, 1)).mean()
    assert before == pytest.approx(-2 * 0.5 * math.log(2 * math.pi) - 1, abs=0.1)
    assert after > before + 0.7


def test_flow_matching_counts_a_weight_as_repetition_and_no_order() -> None:
    rows = moons(60, 0)
    weight = torch.arange(60.0) % 3
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    starts = []
    for x, given in (
        (rows, weight),
        (rows.repeat_interleave(weight.long(), 0), None),
        (rows[order], weight[order]),
    ):
        flow = built(FlowMatching(matching_steps=20), spread=0.0)
        flow.initialize(x, weight=given)
        starts.append(score(flow, rows))
    torch.testing.assert_close(starts[1], starts[0])
    torch.testing.assert_close(starts[2], starts[0])
