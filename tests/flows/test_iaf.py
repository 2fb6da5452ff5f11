"""The inverse autoregressive flow: what it shares with its mirror image, and its training."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybridflow.flows import IAF, MAF, hybridflow_flows
from hybridflow.specs import Event
from hybridflow.transforms import Transform

SPECS = {spec.name: spec for spec in hybridflow_flows()}


def build(name: str, config: IAF | MAF, features: int, width: int = 0) -> Transform:
    torch.manual_seed(0)
    return SPECS[name].build(Event.real(features, width), config).double()


def test_it_is_a_masked_autoregressive_flow_layer_by_layer_turned_around() -> None:
    iaf, maf = build("iaf", IAF(layers=1), 4), build("maf", MAF(layers=1), 4)
    with torch.no_grad():
        for mine, other in zip(iaf.parameters(), maf.parameters(), strict=True):
            mine += 0.3 * torch.randn_like(mine)
            other.copy_(mine)
    x = torch.randn(9, 4, dtype=torch.float64)
    for ours, theirs in ((iaf.forward, maf.inverse), (iaf.inverse, maf.forward)):
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
@pytest.mark.parametrize("rows", [5, 100], ids=["few-rows", "many-rows"])
def test_the_likelihood_has_the_gradients_of_finite_differences(rows: int, width: int) -> None:
    flow = build("iaf", IAF(layers=2, hidden_units=8), 3, width)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    x = torch.randn(rows, 3, dtype=torch.float64)
    context = torch.randn(rows, width, dtype=torch.float64) if width else None

    def loss() -> Tensor:
        z, ladj = flow(x, context)
        return (z.square().sum(1) / 2 - ladj).sum()

    parameters = list(flow.parameters())
    directions = [torch.randn_like(parameter) for parameter in parameters]
    slopes = torch.autograd.grad(loss(), parameters)
    slope = sum((g * v).sum().item() for g, v in zip(slopes, directions, strict=True))
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter += step * direction
            values.append(loss().item())
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


def test_training_by_likelihood_recovers_a_law_that_the_flow_can_represent() -> None:
    """Rows of a bent law, whose entropy is known: x1 ~ N(0, 1), x2 = z2 / 2 + sin(2 z1)."""
    z = torch.randn(512, 2, generator=torch.Generator().manual_seed(0))
    x = torch.stack([z[:, 0], 0.5 * z[:, 1] + torch.sin(2 * z[:, 0])], 1)
    torch.manual_seed(0)
    flow = SPECS["iaf"].build(Event.real(2), IAF(layers=2, hidden_units=32))
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for _ in range(150):
        latent, ladj = flow(x)
        loss = (latent.square().sum(1) / 2 - ladj).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    truth = (z.square().sum(1) / 2 + torch.log(torch.tensor(2.0)).neg()).mean()
    assert loss.item() == pytest.approx(truth.item(), abs=0.08)


def test_the_graph_that_training_keeps_grows_with_the_features_not_their_square() -> None:
    """Bytes kept for the backward pass, at widths where one pass grows linearly."""

    def kept(features: int) -> int:
        flow = SPECS["iaf"].build(Event.real(features), IAF(layers=1, hidden_units=16))
        total = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            flow(torch.randn(200, features))
        return total

    assert kept(64) < 2.5 * kept(32)
