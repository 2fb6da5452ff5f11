"""The bound of the spectral norm against singular values."""

from __future__ import annotations

import pytest
import torch

from hybridflow.transforms.spectral import spectral_bound


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (64, 3), (3, 64), (40, 40)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12], ids=str)
def test_it_is_a_bound_and_close(shape, dtype, scale: float) -> None:
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        weight = (scale * torch.randn(shape, generator=generator)).to(dtype)
        norm = torch.linalg.matrix_norm(weight.double(), 2).item()
        bound = spectral_bound(weight).item()
        assert norm * (1 - 1e-6) <= bound <= 1.034 * norm


def test_the_worst_case_has_equal_singular_values() -> None:
    for size in (2, 64):
        bound = spectral_bound(torch.eye(size, dtype=torch.float64)).item()
        assert bound == pytest.approx(size ** (1 / 128), rel=1e-12)


def test_its_gradient_is_exact() -> None:
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(spectral_bound, weight.requires_grad_())
    assert torch.autograd.gradcheck(spectral_bound, weight.detach().t().requires_grad_())


def test_a_matrix_of_zeros_has_the_bound_0_and_a_gradient() -> None:
    weight = torch.zeros(3, 4, requires_grad=True)
    bound = spectral_bound(weight)
    assert bound.item() == 0
    assert torch.equal(torch.autograd.grad(bound, weight)[0], torch.zeros(3, 4))
