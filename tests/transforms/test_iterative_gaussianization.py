"""Fitted bends along directions: they find structure, and only where there is some.

The contract of all transforms is tested with the others.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hybridflow.transforms import GaussianizeDirections

KINDS = pytest.mark.parametrize("directions", ["sliced", "pca", "random"])


def normal(n: int, features: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, features, dtype=torch.float64, generator=generator)


def hidden_structure(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Five normal features, one direction of which has two far peaks; and that direction."""
    x = normal(n, 5, seed)
    x[:, 0] = 0.95 * torch.sign(x[:, 0]) + 0.3 * normal(n, 1, seed + 1)[:, 0]
    rotation = torch.linalg.qr(normal(5, 5, 9)).Q
    return x @ rotation.t(), rotation[:, 0]


def log_likelihood(layer: GaussianizeDirections, x: Tensor) -> float:
    z, ladj = layer(x)
    return (ladj - z.square().sum(1) / 2).mean().item() - x.shape[1] / 2 * math.log(2 * math.pi)


def test_the_sliced_search_finds_the_direction() -> None:
    x, direction = hidden_structure(2000)
    layer = GaussianizeDirections(5, count=1)
    layer.initialize(x)
    assert (layer.frame[:, 0] @ direction).abs().item() > 0.99
    fresh, _ = hidden_structure(2000, seed=5)
    assert log_likelihood(layer, fresh) > log_likelihood(GaussianizeDirections(5, 1), fresh) + 0.3


@KINDS
@pytest.mark.parametrize("n", [1, 2, 20, 100, 500], ids="{}-rows".format)
def test_normal_rows_are_left_as_they_are(directions: str, n: int) -> None:
    layer = GaussianizeDirections(4, 4, directions)
    x = normal(n, 4)
    layer.initialize(x)
    z, ladj = layer(x)
    torch.testing.assert_close(z, x, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(ladj, torch.zeros_like(ladj), atol=1e-12, rtol=0)


@KINDS
def test_a_bent_column_is_straightened(directions: str) -> None:
    """Uniform rows, in the one direction there is, become normal."""
    layer = GaussianizeDirections(1, 1, directions)
    layer.initialize(torch.rand(3000, 1, dtype=torch.float64))
    z = layer(torch.linspace(0.05, 0.95, 19, dtype=torch.float64)[:, None])[0]
    expected = torch.special.ndtri(torch.linspace(0.05, 0.95, 19, dtype=torch.float64))
    torch.testing.assert_close(z[:, 0], expected, atol=0.15, rtol=0)


def test_degenerate_rows_give_a_finite_map() -> None:
    layer = GaussianizeDirections(3, 2)
    layer.initialize(torch.zeros(50, 3))
    constant = normal(200, 3)
    constant[:, 1] = 2.0
    for rows in (torch.zeros(50, 3), constant, normal(200, 1).expand(-1, 3)):
        layer = GaussianizeDirections(3, 2)
        layer.initialize(rows)
        z, ladj = layer(normal(10, 3))
        assert z.isfinite().all()
        assert ladj.isfinite().all()


@KINDS
def test_training_in_float32_loses_nothing(directions: str) -> None:
    """To float32 and back, as a model's networks go, the layer stays exact."""
    x, _ = hidden_structure(1000)
    layer = GaussianizeDirections(5, 5, directions)
    layer.initialize(x)
    before = layer.bend.position.clone()
    layer.float().double()
    assert torch.equal(layer.bend.position, before)
    z, ladj = layer(x)
    back, back_ladj = layer.inverse(z)
    torch.testing.assert_close(back, x, atol=1e-9, rtol=0)
    torch.testing.assert_close(back_ladj, -ladj, atol=1e-8, rtol=0)


def test_only_the_chosen_directions_are_bent() -> None:
    x, _ = hidden_structure(1000)
    layer = GaussianizeDirections(5, 2)
    layer.initialize(x)
    moves = layer(x)[0] - x
    assert moves.abs().max().item() > 0.1
    assert torch.linalg.matrix_rank(moves, atol=1e-9).item() <= 2


def test_nothing_is_trained() -> None:
    assert not list(GaussianizeDirections(3, 2).parameters())


def test_the_seed_decides_the_random_frame() -> None:
    x, _ = hidden_structure(500)
    frames = []
    for seed in (0, 0, 1):
        layer = GaussianizeDirections(5, 5, "random", seed=seed)
        layer.initialize(x)
        frames.append(layer.frame)
    assert torch.equal(frames[0], frames[1])
    assert not torch.allclose(frames[0], frames[2])
