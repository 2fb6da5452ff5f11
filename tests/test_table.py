"""Tables in and out: what is read from which container, and what a schema gives back."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from hybridflow.cells import Factor, is_missing, read_objects, read_series
from hybridflow.column import Column
from hybridflow.errors import ConfigError, InputError, InputTypeError
from hybridflow.schema import Schema
from hybridflow.table import check_unique, column_names, read_matrix, read_table

VALUES = np.array([[1.0, 2.5], [3.0, -4.0], [0.0, 1e300]])


def schema(*columns: Column, **parameters: Any) -> Schema:
    return Schema(columns=columns, **parameters)


# -- reading -----------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        VALUES,
        VALUES.tolist(),
        np.asfortranarray(VALUES),
        VALUES.astype(">f8"),
        VALUES.astype(object),
        pd.DataFrame(VALUES),
        pd.DataFrame(VALUES, columns=["a", "b"]).astype("double[pyarrow]"),
        pl.DataFrame(VALUES),
    ],
    ids=["array", "lists", "Fortran", "big-endian", "objects", "pandas", "arrow", "polars"],
)
def test_read_matrix(table: Any) -> None:
    found = read_table(table)
    values = found.values
    np.testing.assert_array_equal(values, VALUES)
    assert values.dtype == np.float64
    assert values.flags.c_contiguous
    assert len(found.dtypes) == 2
    assert read_matrix(table).shape == (3, 2)


def test_a_matrix_is_not_copied() -> None:
    assert read_matrix(VALUES) is VALUES


@pytest.mark.parametrize(
    ("table", "dtypes"),
    [
        (np.array([[1, 2], [3, 4]], dtype="int64"), ["int64", "int64"]),
        (pd.DataFrame({"a": [True, False], "b": [1, 2]}), ["Boolean", "Int64"]),
        (pd.DataFrame({"a": pd.array([1, 2], dtype="UInt8")}), ["UInt8"]),
        (pl.DataFrame({"a": [1.0, 2.0], "b": [1, 2]}), ["Float64", "Int64"]),
        ([[1, 2.5]], ["float64", "float64"]),
        ([[1, None], [2, 3]], None),
    ],
    ids=["array", "pandas", "nullable", "polars", "lists", "missing"],
)
def test_types_that_were_read(table: Any, dtypes: list[str] | None) -> None:
    if dtypes is None:
        with pytest.raises(InputError, match=r"column 'x1' \(1, first at row 0\)"):
            read_matrix(table)
    else:
        assert read_table(table).dtypes == dtypes


def test_wide_integers() -> None:
    table = pl.DataFrame({"a": pl.Series([1, 2**70], dtype=pl.Int128)})
    np.testing.assert_array_equal(read_matrix(table), [[1.0], [2.0**70]])
    with pytest.raises(InputError, match=r"column 'x0' .*beyond the range of float64 at row 1"):
        read_matrix(np.array([[1], [10**400]], dtype=object))


def test_long_doubles_beyond_float64_are_infinite() -> None:
    table = np.array([[np.longdouble(1)], [np.longdouble("1e4000")]])
    if np.finfo(np.longdouble).max > 1e308:
        with pytest.raises(InputError, match="infinity: column 'x0'"):
            read_matrix(table)


def test_the_first_columns_in_which_cells_are_missing_are_named() -> None:
    table = np.full((3, 9), np.nan)
    table[0] = 1.0
    with pytest.raises(InputError, match=r"column 'x4' \(2, first at row 1\) and 4 more columns"):
        read_matrix(table)


def test_frames_of_other_libraries_are_not_read_by_position() -> None:
    with pytest.raises(InputTypeError, match=r"pyarrow.Table; pass a pandas or polars frame"):
        read_matrix(pa.table({"a": [1.0]}))


def test_column_names() -> None:
    assert column_names(pd.DataFrame({"a": [1], "b": [2]})) == ["a", "b"]
    assert column_names(VALUES) is None
    check_unique(["a", "b", 1])
    with pytest.raises(InputError, match="repeated: 1, b"):
        check_unique(["b", 1, "a", "b", 1])


# -- cells -------------------------------------------------------------------


def test_objects_that_are_numbers() -> None:
    cells = [True, np.bool_(False), np.int8(3), Fraction(1, 2), 2**60, np.float32(0.5), pd.NA, None]
    expected = [1.0, 0.0, 3.0, 0.5, 2.0**60, 0.5, np.nan, np.nan]
    np.testing.assert_array_equal(read_objects(cells, "a"), expected)


@pytest.mark.parametrize(
    "cell", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT")]
)
def test_missing_cells(cell: Any) -> None:
    assert is_missing(cell)


@pytest.mark.parametrize("cell", [0, 0.0, "", "nan", False, np.inf, [], {}, np.zeros(3)])
def test_cells_that_are_not_missing(cell: Any) -> None:
    assert not is_missing(cell)


def test_a_series_of_nullable_booleans() -> None:
    series = nw.from_native(pd.Series([True, None, False], dtype="boolean"), series_only=True)
    factor = read_series(series, "a")
    assert isinstance(factor, Factor)
    assert (factor.levels, factor.codes.tolist()) == ((False, True), [1, -1, 0])


def test_any_other_object() -> None:
    with pytest.raises(
        InputTypeError, match="'a': argument must be a string or a number, got list"
    ):
        read_objects([1.0, [2.0]], "a")


# -- giving back -------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("Float64", [-0.4, 300.6, 1.5]),
        ("Float32", np.float32([-0.4, 300.6, 1.5])),
        ("Int64", [0, 301, 2]),
        ("UInt8", [0, 255, 2]),
        ("Boolean", [False, True, True]),
        ("Object", [-0.4, 300.6, 1.5]),
    ],
)
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_frames_get_their_types_back(container: Any, dtype: str, expected: list[Any]) -> None:
    table = schema(
        Column(name="a", dtype=dtype, kind="continuous"), container=container, named=True
    ).frame(np.array([[-0.4], [300.6], [1.5]]))
    assert type(table).__module__.startswith(container)
    assert list(table.columns) == ["a"]
    assert nw.from_native(table)["a"].dtype == (
        nw.Float64 if dtype == "Object" else getattr(nw, dtype)
    )
    np.testing.assert_array_equal(table["a"].to_numpy(), expected)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int8", "bool"])
def test_arrays_get_their_type_back(dtype: str) -> None:
    column = Column(name="x0", dtype=dtype, kind="continuous")
    assert schema(column).frame(np.array([[1.2]])).dtype == np.dtype(dtype)


def test_a_numbered_frame_gets_its_numbers_back() -> None:
    column = Column(name="2013", dtype="Float64", kind="continuous")
    assert schema(column, container="pandas").frame(np.ones((1, 1))).columns.tolist() == [2013]
    named = schema(column, container="pandas", named=True)
    assert named.frame(np.ones((1, 1))).columns.tolist() == ["2013"]


def test_constant_columns_are_put_back() -> None:
    table = schema(
        Column(name="a", dtype="float64", kind="constant", origin=7.0),
        Column(name="b", dtype="float64", kind="continuous"),
        Column(name="c", dtype="float64", kind="tied", step=1.0, lattice=True),
    )
    assert table.kept == [1, 2]
    assert table.of_kind("tied") == ["c"]
    np.testing.assert_array_equal(table.expand(np.array([[1.0, 2.0]])), [[7.0, 1.0, 2.0]])


def test_a_schema_survives_json() -> None:
    table = schema(Column(name="a", dtype="int8", kind="tied", step=0.1, origin=0.3), named=True)
    assert Schema.from_json(table.model_dump(mode="json")) == table
    with pytest.raises(ConfigError, match="container"):
        Schema(columns=(), container="arrow")  # type: ignore[arg-type]
