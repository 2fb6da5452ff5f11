"""Batch normalisation as an invertible layer: what it counts in training and after.

The contract of all transforms is tested, in evaluation, with the others.
"""

from __future__ import annotations

import pytest
import torch

from hybridflow.transforms import BatchNorm, Compose


def fitted(features: int = 2) -> BatchNorm:
    torch.manual_seed(0)
    norm = BatchNorm(features).double()
    norm.initialize(3 + 2 * torch.randn(1000, features, dtype=torch.float64))
    return norm


def test_training_normalises_by_the_batch_and_the_fixed_statistics() -> None:
    """As if eight rows with the fixed mean and variance were among those of the batch."""
    norm = fitted().train()
    mean, variance = norm.location.clone(), norm.variance.clone()
    x = 5 + torch.randn(40, 2, dtype=torch.float64)
    z, ladj = norm(x)
    own = mean + variance.sqrt() * torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)[:, None]
    pooled = torch.cat([x, own])
    expected = (x - pooled.mean(0)) / pooled.std(0, correction=0)
    torch.testing.assert_close(z, expected)
    torch.testing.assert_close(ladj, -pooled.std(0, correction=0).log().sum().expand(40))
    moved = mean + 0.1 * (pooled.mean(0) - mean)
    torch.testing.assert_close(norm.location, moved)


def test_gradients_run_through_the_statistics() -> None:
    norm = fitted().train()
    state = {name: value.clone() for name, value in norm.state_dict().items()}

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        norm.load_state_dict(state)  # each pass moves the fixed statistics
        return norm(x)

    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(forward, (x,))


@pytest.mark.parametrize("n", [0, 1, 2], ids="{}-rows".format)
def test_tiny_batches_are_harmless(n: int) -> None:
    norm = fitted().float().train()
    x = (3 + 2 * torch.randn(n, 2)).requires_grad_()
    for _ in range(200):
        z, ladj = norm(x)
    assert z.abs().amax(0).max().item() < 4 if n else z.shape == (0, 2)
    assert ladj.shape == (n,)
    (z.sum() + ladj.sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_a_constant_column_stays_finite() -> None:
    norm = fitted().float().train()
    x = torch.randn(64, 2)
    x[:, 0] = 7.0
    for _ in range(2000):
        z, ladj = norm(x)
    assert z.isfinite().all()
    assert ladj.abs().max().item() < 10
    norm.eval().finish([(x, None)])
    assert norm(x)[0].isfinite().all()


def test_passes_without_gradients_change_nothing() -> None:
    norm = fitted().train()
    before = norm.location.clone()
    x = torch.randn(6, 2, dtype=torch.float64)
    with torch.no_grad():
        in_training = norm(x)[0]
    assert torch.equal(norm.location, before)
    assert torch.equal(in_training, norm.eval()(x)[0])


def test_finish_sets_the_moments_of_all_rows_with_their_weights() -> None:
    norm = fitted().eval()
    x = 4 + torch.randn(30, 2, dtype=torch.float64)
    weight = torch.arange(30, dtype=torch.float64) % 3
    norm.finish([(x[:10], None), (x[10:], None)], weight)
    repeated = x.repeat_interleave(weight.long(), 0)
    torch.testing.assert_close(norm.location, repeated.mean(0))
    torch.testing.assert_close(norm.variance, repeated.var(0, correction=0))


def test_an_absurd_row_does_not_decide_the_statistics() -> None:
    norm = fitted().eval()
    x = 3 + 2 * torch.randn(1000, 2, dtype=torch.float64)
    x[0] = 1e8
    norm.finish([(x, None)])
    assert norm.location.sub(3).abs().max().item() < 0.3
    assert norm.variance.sqrt().sub(2).abs().max().item() < 0.4


def test_composed_layers_finish_on_what_the_ones_before_return() -> None:
    torch.manual_seed(1)
    stack = Compose([BatchNorm(2), BatchNorm(2)]).double().eval()
    x = 3 + 2 * torch.randn(500, 2, dtype=torch.float64)
    stack.finish([(x[:200], None), (x[200:], None)])
    z, _ = stack(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(z.var(0, correction=0), torch.ones(2, dtype=torch.float64))


def test_no_rows_leave_it_as_it_is() -> None:
    norm = BatchNorm(2)
    norm.finish([])
    norm.finish([(torch.empty(0, 2), None)])
    norm.initialize(torch.empty(0, 2))
    assert torch.equal(norm.variance, torch.ones(2))
