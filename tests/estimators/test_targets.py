"""What is read from y, and how it is described."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hybridflow.errors import ConstantTargetWarning, InputError
from hybridflow.estimators.targets import (
    batch_of_labels,
    batch_of_numbers,
    classification_target,
    read_labels,
    read_numbers,
    regression_target,
)
from hybridflow.estimators.weights import class_factors, read_weights


def labels(y: Any, unlabelled: Any = None) -> Any:
    return read_labels(y, len(y), unlabelled, "Model")


def test_labels_are_sorted_and_coded() -> None:
    found = labels(["b", None, "a", "b", "?"], unlabelled="?")
    assert found.classes.tolist() == ["a", "b"]
    assert found.codes.tolist() == [1, 0, 0, 1, 0]
    assert found.labelled.tolist() == [True, False, True, True, False]


def test_bytes_survive_the_description() -> None:
    found = labels(np.array([b"\xff", b"a"]))
    assert classification_target(found).classes == ("a", "\xff")
    assert [name.encode("latin-1") for name in ("a", "\xff")] == found.classes.tolist()


def test_numbers_of_every_kind() -> None:
    for y in (
        np.array([1, 2, 3], dtype="uint8"),
        pd.Series([1, 2, 3], dtype="Int64"),
        [1, 2.0, np.int64(3)],
        (1, 2, 3),
        np.array([1, 2, 3], dtype=object),
    ):
        np.testing.assert_array_equal(read_numbers(y, 3, "Model"), [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(read_numbers([1, None, 3], 3, "Model"), [1.0, np.nan, 3.0])


def test_regression_target_has_the_weighted_moments() -> None:
    rng = np.random.default_rng(0)
    y, weight = rng.normal(5.0, 2.0, size=200), rng.integers(1, 4, size=200)
    target = regression_target(y, weight.astype(float))
    repeated = np.repeat(y, weight)
    assert target.location[0] == pytest.approx(repeated.mean(), rel=1e-12)
    assert target.scale[0] == pytest.approx(repeated.std(), rel=1e-12)
    assert target.step == 0.0


@pytest.mark.parametrize(
    ("y", "step"),
    [([0.0, 1.0, 5.0], 1.0), ([10.0, 30.0, 50.0], 20.0), ([0.5, 1.0, 2.0], 0.0)],
    ids=["counts", "tens", "halves"],
)
def test_whole_numbers_are_masses(y: list[float], step: float) -> None:
    assert regression_target(np.array(y), np.ones(3)).step == step


def test_a_small_spread_beside_a_large_mean() -> None:
    y = 2.0**40 + np.array([0.0, 1.0, 2.0, 3.0])
    target = regression_target(y, np.ones(4))
    assert target.scale[0] == pytest.approx(np.sqrt(1.25), rel=1e-12)
    assert target.location[0] == 2.0**40 + 1.5


@pytest.mark.parametrize("value", [0.0, -3.0, 0.1])
def test_constant_target(value: float) -> None:
    with pytest.warns(ConstantTargetWarning):
        target = regression_target(np.full(10, value), np.ones(10))
    assert target.location == (value,)
    assert target.scale == (abs(value) or 1.0,)


def test_batches() -> None:
    batch = batch_of_numbers(np.array([1.5, np.nan]))
    assert batch.values.tolist() == [[1.5], [0.0]]
    assert batch.labelled.tolist() == [True, False]
    assert batch_of_labels(labels(["a", None, "b"])).labelled.tolist() == [True, False, True]


def test_balanced_weights_give_every_class_the_same_mass() -> None:
    found = labels([0, 0, 0, 1, None])
    weight = np.array([1.0, 2.0, 1.0, 3.0, 9.0])
    factors = class_factors("balanced", found, weight)
    mass = np.bincount(found.codes, factors * weight * found.labelled)
    np.testing.assert_allclose(mass, [3.5, 3.5])  # half of the labelled weight each


def test_weights_of_named_classes() -> None:
    found = labels(["a", "b", "a"])
    assert class_factors({"b": 3}, found, np.ones(3)).tolist() == [1.0, 3.0, 1.0]
    assert class_factors({np.str_("a"): 0.5}, found, np.ones(3)).tolist() == [0.5, 1.0, 0.5]
    assert class_factors(None, found, np.ones(3)).tolist() == [1.0, 1.0, 1.0]


def test_weights_are_a_copy() -> None:
    given = np.ones(3)
    read_weights(given, 3)[0] = 7.0
    assert given.tolist() == [1.0, 1.0, 1.0]
    assert read_weights(None, 2).tolist() == [1.0, 1.0]
    assert read_weights(2, 2).tolist() == [2.0, 2.0]


def test_sparse_labels() -> None:
    import scipy.sparse

    with pytest.raises(InputError, match="Sparse data was passed for y"):
        read_labels(scipy.sparse.csr_array(np.eye(2)), 2, None, "Model")
