"""Linear mixing and masks."""

from __future__ import annotations

import itertools

import pytest
import torch

from hybridflow.errors import ConfigError
from hybridflow.transforms import (
    LU,
    AffineMap,
    Compose,
    Coupling,
    Householder,
    Identity,
    Permutation,
    alternating_mask,
)


def test_permutation_reads_the_named_features() -> None:
    z, _ = Permutation([2, 0, 1])(torch.tensor([[10.0, 11.0, 12.0]]))
    assert z.tolist() == [[12.0, 10.0, 11.0]]


def test_shuffled_depends_on_the_seed_alone() -> None:
    assert torch.equal(Permutation.shuffled(9, 4).order, Permutation.shuffled(9, 4).order)
    assert not torch.equal(Permutation.shuffled(9, 4).order, Permutation.shuffled(9, 5).order)


@pytest.mark.parametrize("order", [[0, 0], [1, 2], [0, 2]], ids=str)
def test_permutation_refuses_what_is_none(order: list[int]) -> None:
    with pytest.raises(ConfigError, match="order: expected each of 0 to 1 once"):
        Permutation(order)


def test_lu_starts_as_its_permutation() -> None:
    x = torch.randn(4, 3)
    assert torch.equal(LU(3)(x)[0], x)
    assert torch.equal(LU(3, order=[1, 2, 0])(x)[0], x[:, [1, 2, 0]])


def test_lu_ignores_what_lies_on_the_other_side_of_the_diagonal() -> None:
    lu = LU(3).double()
    with torch.no_grad():
        lu.lower += torch.triu(torch.full((3, 3), 7.0))
        lu.upper += torch.tril(torch.full((3, 3), 7.0))
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(lu(x)[0], x)


def test_householder_starts_as_the_identity_and_stays_a_rotation() -> None:
    torch.manual_seed(0)
    rotation = Householder(5, reflections=4).double()
    identity = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(rotation(identity)[0], identity)
    with torch.no_grad():
        rotation.normals += 100 * torch.randn_like(rotation.normals)
    matrix, _ = rotation(identity)
    torch.testing.assert_close(matrix @ matrix.t(), identity)
    assert torch.linalg.det(matrix).item() == pytest.approx(1.0)
    assert not torch.allclose(matrix, identity, atol=0.1)


@pytest.mark.parametrize("reflections", [0, 1, 3, -2])
def test_householder_needs_pairs(reflections: int) -> None:
    with pytest.raises(ConfigError, match="reflections: expected 2, 4, 6"):
        Householder(3, reflections)


@pytest.mark.parametrize("features", [2, 3, 7, 50])
def test_masks_split_the_features_and_let_every_pair_meet(features: int) -> None:
    layers = 2 * (features - 1).bit_length()
    masks = [alternating_mask(features, layer) for layer in range(layers)]
    for first, second in zip(masks[::2], masks[1::2], strict=True):
        assert all(a != b for a, b in zip(first, second, strict=True))
        assert any(first)
        assert any(second)
    for i, j in itertools.permutations(range(features), 2):
        assert any(mask[i] and not mask[j] for mask in masks)


def test_one_feature_is_never_kept() -> None:
    assert {alternating_mask(1, layer) for layer in range(5)} == {(False,)}


def test_coupling_refuses_to_keep_everything() -> None:
    with pytest.raises(ConfigError, match="mask: at least one feature must not be kept"):
        Coupling(AffineMap(), [True, True], (4,))


def test_compose_runs_through_its_transforms() -> None:
    stack = Compose([Identity(), Permutation.reverse(2)])
    assert len(stack) == 2
    assert [type(transform) for transform in stack] == [Identity, Permutation]
