"""Which rows are held out: shares, splitters, positions, classes and members."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold, TimeSeriesSplit

from hybridflow.errors import ConfigError, InputError, RareClassWarning
from hybridflow.estimators.splits import held_out_rows


def split(validation: Any, n: int = 100, members: int = 1, **parameters: Any) -> list[np.ndarray]:
    return held_out_rows(validation, n, members, np.random.RandomState(0), **parameters)


@pytest.mark.parametrize("validation", [None, 0, 0.0])
def test_nothing_is_held_out(validation: Any) -> None:
    assert [len(rows) for rows in split(validation, members=3)] == [0, 0, 0]


def test_a_share() -> None:
    (rows,) = split(0.15)
    assert len(rows) == 15
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(split(np.float64(0.15))[0], rows)


def test_members_hold_out_other_rows() -> None:
    parts = split(0.2, members=5)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(100))


def test_a_share_of_every_class() -> None:
    codes = np.repeat([0, 1, -1], [60, 30, 10])
    (rows,) = split(0.1, codes=codes)
    assert np.unique(codes[rows], return_counts=True)[1].tolist() == [1, 6, 3]


@pytest.mark.filterwarnings("ignore::hybridflow.errors.RareClassWarning")
@pytest.mark.parametrize("share", [0.15, 0.5, 0.99])
def test_every_class_keeps_a_row_to_train_on(share: float) -> None:
    codes = np.array([0] * 90 + [1] * 2 + [2] * 8)
    for rows in split(share, members=3, codes=codes):
        assert set(np.delete(codes, rows)) == {0, 1, 2}


def test_rare_classes_are_counted() -> None:
    with pytest.warns(RareClassWarning, match=r"2 class\(es\) have too few rows"):
        split(0.2, codes=np.array([0] * 98 + [1, 2]))


def test_unlabelled_rows_are_no_rare_class() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RareClassWarning)
        (held,) = split(0.2, codes=np.array([0] * 99 + [-1]))
    assert 99 not in held


def test_a_splitter_serves_the_members_in_turn() -> None:
    folds = [test for _, test in KFold(3).split(np.zeros((100, 1)))]
    for rows, fold in zip(split(KFold(3), members=4), [*folds, folds[0]], strict=True):
        np.testing.assert_array_equal(rows, fold)


def test_a_splitter_sees_the_classes() -> None:
    codes = np.arange(100) % 4
    (rows,) = split(StratifiedKFold(5), codes=codes)
    assert np.bincount(codes[rows]).tolist() == [5, 5, 5, 5]
    first, last = split(TimeSeriesSplit(2, test_size=10), members=2)
    np.testing.assert_array_equal(first, np.arange(80, 90))
    np.testing.assert_array_equal(last, np.arange(90, 100))


def test_positions() -> None:
    assert split([3, 1, 1, 2])[0].tolist() == [1, 2, 3]
    assert split(np.arange(100) >= 97)[0].tolist() == [97, 98, 99]
    assert [rows.tolist() for rows in split([5], members=2)] == [[5], [5]]


@pytest.mark.parametrize(
    "validation",
    [1.0, 1.5, -0.1, np.nan, True, "0.2", [0.5, 0.2], [[1, 2]], {"a": 1}, {"set"}],
    ids=repr,
)
def test_no_validation(validation: Any) -> None:
    with pytest.raises(ConfigError, match="validation: "):
        split(validation)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([100], "between 0 and 99, got 100"),
        ([-1], "between 0 and 99, got -1"),
        (range(100), "every row"),
    ],
)
def test_positions_that_do_not_fit(positions: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(positions)


class Broken:
    def split(self, X: Any, y: Any = None) -> Any:
        return iter([])


class Raising:
    def split(self, X: Any, y: Any = None) -> Any:
        raise KeyError("fold")


def test_splitters_that_do_not_split() -> None:
    with pytest.raises(ConfigError, match="the splitter gave no split"):
        split(Broken())
    with pytest.raises(ConfigError, match=r"validation: Raising.split failed: KeyError"):
        split(Raising())
    with pytest.raises(ConfigError, match=r"validation: KFold.split failed: ValueError"):
        split(KFold(5), n=3)
