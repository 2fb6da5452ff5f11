"""The conformance kit, and zuko itself as the truth."""

from __future__ import annotations

import pytest
import torch
import zuko
from hybridflow_zuko import FLOWS, ZukoNSF

from hybridflow import Event
from hybridflow.guards import building
from hybridflow.testing import Check, parametrize_with_checks

KINKS = (
    "the slope of zuko's monotone network has kinks, and a finite difference of a whole batch "
    "steps over some"
)


@parametrize_with_checks(
    FLOWS, expected_failures={"zuko-naf": {"gradients_match_finite_differences": KINKS}}
)
def test_conformance(check: Check) -> None:
    check.run()


def test_the_density_is_that_of_zuko() -> None:
    event = Event.real(3, context_features=2)
    with building(0):
        flow = zuko.flows.NSF(
            3, 2, transforms=3, hidden_features=[64, 64], activation=torch.nn.SiLU, slope=1e-2
        )
    spec = next(spec for spec in FLOWS if spec.config is ZukoNSF)
    with building(0):
        ours = spec.build(event, ZukoNSF())
    x, context = torch.randn(9, 3), torch.randn(9, 2)
    z, ladj = ours(x, context)
    log_prob = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + ladj
    torch.testing.assert_close(log_prob, flow(context).log_prob(x))


@pytest.mark.parametrize("spec", FLOWS, ids=lambda spec: spec.name)
def test_listing_a_flow_says_whose_it_is(spec: object) -> None:
    assert spec.name.startswith("zuko-")
    assert spec.summary.endswith("(zuko)")
