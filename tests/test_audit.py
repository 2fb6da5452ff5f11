"""The audit against columns whose nature is known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from hybridflow.audit import audit, distinct_rows, lattice_step
from hybridflow.column import Column
from hybridflow.errors import ConstantFeatureWarning, DegenerateFeaturesWarning, SmallSampleWarning
from hybridflow.table import read_table

rng = np.random.default_rng(0)
NORMAL = rng.normal(size=400)


def kinds(*columns: np.ndarray) -> list[str]:
    return [column.kind for column in look(*columns)]


def look(*columns: np.ndarray) -> tuple[Column, ...]:
    table = np.column_stack(columns)
    d = table.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return audit(read_table(table), np.arange(len(table)), [f"x{i}" for i in range(d)])


@pytest.mark.parametrize(
    ("values", "step"),
    [
        pytest.param([0, 1, 2, 5], 1.0, id="whole"),
        pytest.param([0, 10, 30], 10.0, id="tens"),
        pytest.param([0.25, 0.5, 1.25], 0.25, id="quarters"),
        pytest.param([0.1, 0.2, 0.4], 0.1, id="tenths"),
        pytest.param([-3.7, 2.1, 0.2], 0.1, id="negative tenths"),
        pytest.param([1e-12, 3e-12, 4e-12], 1e-12, id="tiny"),
        pytest.param([1e20, 3e20, 4e20], 1e20, id="huge"),
        pytest.param([0.0, 1.0, np.pi], 0.0, id="none"),
        pytest.param([7.0], 0.0, id="single"),
    ],
)
def test_lattice_step(values: list[float], step: float) -> None:
    assert lattice_step(np.array(values, dtype=float)) == pytest.approx(step, rel=1e-9)


def test_random_floats_lie_on_no_lattice() -> None:
    assert lattice_step(NORMAL) == 0.0
    assert lattice_step(NORMAL.astype(np.float32).astype(np.float64)) == 0.0


def test_kinds_of_columns() -> None:
    whole = np.round(NORMAL * 3)
    assert kinds(NORMAL, whole, np.full(400, 7.0), 2 * NORMAL + 3) == [
        "continuous",
        "tied",
        "constant",
        "dependent",
    ]


def test_a_tied_column_knows_its_lattice() -> None:
    (column,) = look(np.arange(400) % 5 * 0.5 - 1.0)
    assert column.lattice
    assert (column.step, column.origin) == (0.5, -1.0)


def test_a_column_with_a_spike_is_tied_without_a_lattice() -> None:
    spike = np.where(np.arange(400) < 250, 0.0, rng.lognormal(size=400))
    (column,) = look(spike)
    assert (column.kind, column.lattice) == ("tied", False)
    assert column.step > 0


def test_a_few_repeated_values_leave_a_column_continuous() -> None:
    values = NORMAL.copy()
    values[:20] = values[20:40]
    assert kinds(values) == ["continuous"]


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1.0, 1e12, 1e300])
def test_kinds_do_not_depend_on_units(scale: float) -> None:
    if scale == 1e-300:
        assert kinds(NORMAL * scale * 10, (np.arange(400) % 7) * scale * 10)[0] == "continuous"
        return
    whole = (np.arange(400) % 7).astype(float)
    assert kinds(NORMAL * scale, whole * scale) == ["continuous", "tied"]


@pytest.mark.parametrize(
    "values",
    [np.full(400, 3.5), 1.0 + 1e-12 * NORMAL, np.zeros(400)],
    ids=["constant", "nearly constant", "zero"],
)
def test_constant(values: np.ndarray) -> None:
    assert kinds(values) == ["constant"]


def test_repeating_rows_changes_nothing() -> None:
    table = np.column_stack([NORMAL[:60], np.round(NORMAL[:60] * 2), NORMAL[60:120]])
    repeats = rng.integers(1, 6, size=60)
    assert look(*table.T) == look(*np.repeat(table, repeats, axis=0).T)


def test_distinct_rows_are_the_first_of_each() -> None:
    table = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [0.0, 0.0]])
    assert distinct_rows(table).tolist() == [0, 1, 3]


def test_a_sum_of_two_columns_is_dependent() -> None:
    other = rng.normal(size=400)
    assert kinds(NORMAL, other, NORMAL + other) == ["continuous", "continuous", "dependent"]


def test_correlated_columns_are_not_dependent() -> None:
    assert kinds(NORMAL, NORMAL + 0.01 * rng.normal(size=400)) == ["continuous", "continuous"]


def test_warnings_name_the_columns() -> None:
    table = np.column_stack([NORMAL, np.ones(400), NORMAL * 2])
    with (
        pytest.warns(ConstantFeatureWarning, match="'b'"),
        pytest.warns(DegenerateFeaturesWarning, match="'c'"),
    ):
        audit(read_table(table), np.arange(len(table)), ["a", "b", "c"])


def test_few_rows_warn() -> None:
    with pytest.warns(SmallSampleWarning, match="only 5 distinct rows"):
        audit(read_table(rng.normal(size=(5, 1))), np.arange(5), ["a"])


def test_fewer_rows_than_columns_warn() -> None:
    with pytest.warns(DegenerateFeaturesWarning, match="20 distinct rows for 50 columns"):
        columns = audit(
            read_table(rng.normal(size=(20, 50))), np.arange(20), [str(i) for i in range(50)]
        )
    assert {column.kind for column in columns} == {"continuous"}
