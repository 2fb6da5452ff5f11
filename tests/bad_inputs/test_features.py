"""Features that cannot be used, or only with care: one test for each row X of the list."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch

from hybridflow import Categorical, FlowDensity, HybridClassifier, TrainingConfig
from hybridflow.errors import (
    ConstantFeatureWarning,
    DegenerateFeaturesWarning,
    HighCardinalityWarning,
    InputError,
    InputTypeError,
    SmallSampleWarning,
    UnseenCategoryWarning,
    UnseenMissingWarning,
)
from hybridflow.flows import SplineCoupling

FLOW = SplineCoupling(layers=1, bins=4, hidden_units=8, hidden_layers=1)
BRIEF = TrainingConfig(steps=20)

N = 300
X = np.random.default_rng(0).normal(size=(N, 4))
FRAME = pd.DataFrame(X, columns=list("abcd"))


def density(**parameters: Any) -> FlowDensity:
    return FlowDensity(FLOW, training=BRIEF, random_state=0, **parameters)


def scores(table: Any, at: Any = None, **parameters: Any) -> np.ndarray:
    """Return the scores of a model fitted on a table."""
    return density(**parameters).fit(table).score_samples(table if at is None else at)


def with_cell(row: int, column: int, value: float) -> np.ndarray:
    changed = X.copy()
    changed[row, column] = value
    return changed


@pytest.fixture(scope="module")
def on_frame() -> FlowDensity:
    return density().fit(FRAME)


@pytest.fixture(scope="module")
def on_array() -> FlowDensity:
    return density().fit(X)


# -- missing and infinite cells ----------------------------------------------


def with_gaps(missing: Any) -> pd.DataFrame:
    table = FRAME.astype(object)
    table.iloc[[3, 9], 1] = missing
    table.iloc[5, 2] = missing
    return table


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA], ids=["None", "NaN", "NA"])
def test_x01_missing_cells_at_fit(missing: Any) -> None:
    table = with_gaps(missing)
    model = density().fit(table)
    shares = {column.name: column.missing for column in model.schema_.columns}
    assert shares == pytest.approx({"a": 0, "b": 2 / N, "c": 1 / N, "d": 0})
    assert "0.667 % missing" in model.schema_.summary()
    assert np.isfinite(model.score_samples(table)).all()
    message = r"NaN: column 'b' \(2, first at row 3\), column 'c' \(1, first at row 5\)"
    with pytest.raises(InputError, match=rf"{message}; .*missing='auto'"):
        density(missing="error").fit(table)


def test_x01_every_way_to_say_missing_is_the_same() -> None:
    expected = scores(with_gaps(np.nan).astype(float))
    for missing in (None, pd.NA):
        np.testing.assert_array_equal(scores(with_gaps(missing)), expected)


def test_x02_missing_cells_at_predict(on_frame: FlowDensity) -> None:
    table = FRAME.copy()
    table.loc[7, "d"] = np.nan
    with pytest.warns(UnseenMissingWarning, match="no missing cell in training: d;") as caught:
        found = on_frame.score_samples(table)
    assert len(caught) == 1
    complete = np.arange(N) != 7
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[complete], on_frame.score_samples(FRAME)[complete])
    with pytest.raises(InputError, match=r"column 'd' \(1, first at row 7\)"):
        density(missing="error").fit(FRAME).score_samples(table)


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
def test_x03_infinity(infinite: float, on_array: FlowDensity) -> None:
    table = with_cell(11, 2, infinite)
    for call in (density().fit, on_array.score_samples):
        with pytest.raises(InputError, match=r"infinity: column 'x2' \(1, first at row 11\)"):
            call(table)


def test_x04_column_without_an_observed_value() -> None:
    model = density()
    with pytest.warns(ConstantFeatureWarning, match="without an observed value.*left out: 'x1'"):
        model.fit(np.where(np.arange(4) == 1, np.nan, X))
    assert model.schema_.of_kind("empty") == ["x1"]
    np.testing.assert_array_equal(model.score_samples(X), scores(np.delete(X, 1, axis=1)))
    assert np.isnan(model.sample(3, random_state=0)[:, 1]).all()
    for table in (np.full((5, 2), np.nan), pl.DataFrame({"a": [None] * 5})):
        with pytest.raises(InputError, match="no column has an observed value"):
            density().fit(table)


# -- shapes ------------------------------------------------------------------


def test_x05_no_rows(on_array: FlowDensity) -> None:
    message = r"0 sample\(s\) \(shape=\(0, 4\)\) while a minimum of 1"
    for call in (density().fit, on_array.score_samples):
        with pytest.raises(InputError, match=message):
            call(X[:0])


def test_x06_no_columns() -> None:
    message = r"0 feature\(s\) \(shape=\(12, 0\)\) while a minimum of 1 is required"
    for table in (X[:12, :0], FRAME.iloc[:12, :0]):
        with pytest.raises(InputError, match=message):
            density().fit(table)


def test_x07_one_row_at_fit() -> None:
    with pytest.raises(InputError, match=r"1 sample .* minimum of 2 is required by FlowDensity"):
        density().fit(X[:1])


def test_x08_one_row_at_predict(on_array: FlowDensity) -> None:
    alone = np.concatenate([on_array.score_samples(row[None]) for row in X[:20]])
    np.testing.assert_allclose(alone, on_array.score_samples(X)[:20], atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore::hybridflow.errors.DegenerateFeaturesWarning")
@pytest.mark.parametrize("rows", [2, 3, 10])
def test_x09_few_rows(rows: int) -> None:
    model = density()
    with pytest.warns(SmallSampleWarning, match=f"only {rows} distinct rows: no part is held out"):
        model.fit(X[:rows])
    assert np.isfinite(model.score_samples(X)).all()


def test_x10_one_column() -> None:
    model = density().fit(X[:, :1])
    grid = np.linspace(-8, 8, 2001)
    mass = np.trapezoid(np.exp(model.score_samples(grid[:, None])), grid)
    assert mass == pytest.approx(1.0, abs=1e-3)


# -- degenerate columns ------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.full(N, 3.0), id="x11 constant"),
        pytest.param(1.0 + 1e-12 * X[:, 1], id="x12 nearly constant"),
    ],
)
def test_x11_x12_constant_column(values: np.ndarray) -> None:
    table = X.copy()
    table[:, 1] = values
    model = density()
    with pytest.warns(ConstantFeatureWarning, match="left out: 'x1'"):
        model.fit(table)
    # Left out of the density, not jittered: the scores are those of the other columns alone.
    np.testing.assert_array_equal(model.score_samples(table), scores(np.delete(table, 1, axis=1)))
    assert model.sample(3, random_state=0)[:, 1] == pytest.approx(values[:3])


def test_x12_tiny_units_are_no_constant() -> None:
    tiny = X * np.array([1.0, 1e-12, 1.0, 1.0])
    change = scores(tiny) - scores(X)
    np.testing.assert_allclose(change, 12 * np.log(10), atol=1e-3)


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param(X[:, 0], id="x13 duplicate"),
        pytest.param(X @ [1.0, -2.0, 0.5, 0.0] + 3.0, id="x14 linear combination"),
    ],
)
def test_x13_x14_dependent_column(extra: np.ndarray) -> None:
    model = density()
    with pytest.warns(DegenerateFeaturesWarning, match="singular: 'x4'"):
        model.fit(np.column_stack([X, extra]))
    found = model.score_samples(np.column_stack([X, extra]))
    # A density smoothed by uniform noise of this width is nowhere above its inverse.
    floor = model.schema_.columns[4].step
    assert floor == pytest.approx(0.01 * extra.std(), rel=0.01)
    assert np.isfinite(found).all()
    assert found.max() < scores(X).max() - np.log(floor) + 1.0


def test_x15_duplicated_names(on_frame: FlowDensity) -> None:
    table = FRAME.set_axis(list("abba"), axis=1)
    for call in (density().fit, on_frame.score_samples):
        with pytest.raises(InputError, match="names must be unique, repeated: a, b"):
            call(table)


# -- magnitudes --------------------------------------------------------------


def test_x16_magnitude_1e300(on_array: FlowDensity) -> None:
    huge = X * 1e300
    np.testing.assert_allclose(scores(huge), scores(X) - 4 * 300 * np.log(10), rtol=1e-6)
    assert np.isfinite(density().fit(huge).sample(10, random_state=0)).all()
    with pytest.raises(
        InputError, match=r"column 'x0' holds .* at row 0, more than 1e.100 standard"
    ):
        on_array.score_samples(huge)
    assert np.isfinite(on_array.score_samples(X * 1e99)).all()


def test_x17_beyond_float32() -> None:
    huge = X * 1e39
    found = scores(huge, dtype="float32")
    np.testing.assert_allclose(
        found, scores(X, dtype="float32") - 4 * 39 * np.log(10), rtol=0, atol=1e-3
    )


def test_x18_denormals(on_array: FlowDensity) -> None:
    assert np.isfinite(on_array.score_samples(X * 1e-310)).all()
    with pytest.warns(ConstantFeatureWarning):
        assert np.isfinite(scores(X * 1e-310)).all()


def test_x19_one_outlier() -> None:
    rows = np.random.default_rng(1).normal(size=(1000, 3))
    changed = rows.copy()
    changed[7, 1] = 1e12
    others = np.arange(1000) != 7
    held_out = np.arange(800, 1000)
    without = density(validation=held_out).fit(rows, sample_weight=others).score_samples(rows)
    found = density(validation=held_out).fit(changed).score_samples(changed)
    assert found.argmin() == 7
    assert np.isfinite(found).all()
    change = np.abs(found - without)[others]
    assert change.mean() <= 0.02 * np.abs(without[others]).mean()
    # The few rows at the very edge move more: one more row lies beyond them.
    assert np.quantile(change / np.abs(without[others]), 0.95) <= 0.05


def test_x19_one_outlier_leaves_the_head_useful() -> None:
    y = X[:, 0] > 0
    model = HybridClassifier(FLOW, training=TrainingConfig(steps=100), random_state=0)
    assert model.fit(with_cell(7, 1, 1e12), y).score(X, y) > 0.9


# -- types -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_x20_whole_numbers(dtype: str) -> None:
    table = (20 * X + 100).clip(0, 255).astype(dtype)
    model = density().fit(table)
    assert {column.dtype for column in model.schema_.columns} == {dtype}
    np.testing.assert_array_equal(model.score_samples(table), scores(table.astype(float)))
    assert model.sample(3, random_state=0).dtype == dtype


@pytest.mark.filterwarnings("ignore::hybridflow.errors.SmallSampleWarning")  # 16 rows differ
def test_x20_booleans_are_levels() -> None:
    table = X > 0
    model = density().fit(table)
    assert {(c.kind, c.levels) for c in model.schema_.columns} == {("categorical", (False, True))}
    patterns = np.array([[i >> j & 1 for j in range(4)] for i in range(16)]) == 1
    assert np.exp(model.score_samples(patterns)).sum() == pytest.approx(1.0, abs=0.2)
    assert set(model.sample(50, random_state=0).ravel()) == {False, True}


def test_x21_float16() -> None:
    table = X.astype(np.float16)
    model = density().fit(table)
    assert {column.dtype for column in model.schema_.columns} == {"float16"}
    np.testing.assert_array_equal(model.score_samples(table), scores(table.astype(float)))


@pytest.mark.parametrize(
    "table", [X + 0j, FRAME.assign(b=1j), X.astype(object) + 0j], ids=["array", "frame", "objects"]
)
def test_x22_complex(table: Any) -> None:
    with pytest.raises(InputError, match="Complex data not supported"):
        density().fit(table)


@pytest.mark.parametrize("table", [X.astype(object), FRAME.astype(object)], ids=["array", "frame"])
def test_x23_objects_that_are_numbers(table: Any) -> None:
    np.testing.assert_array_equal(scores(table), scores(X))


def test_x24_text_among_numbers() -> None:
    table = FRAME.astype(object)
    table.iloc[7, 2] = "abc"
    table.iloc[9, 2] = "xyz"
    with pytest.raises(InputError, match="column 'c' mixes numbers and text, first 'abc' at row 7"):
        density().fit(table)


@pytest.mark.parametrize(
    "table",
    [FRAME.assign(b=FRAME["b"].astype(str)), pl.DataFrame({"b": ["1.0", "2"] * 9})],
    ids=["pandas", "polars"],
)
def test_x25_numbers_written_as_text(table: Any) -> None:
    with pytest.raises(InputError, match=r"'b' holds numbers written as text.*astype\(float\)"):
        density().fit(table)
    with pytest.raises(InputError, match="'x0' holds numbers written as text"):
        density().fit(X.astype(str))


SENTENCES = [f"sentence number {i}" for i in range(N)]


@pytest.mark.parametrize(
    "table",
    [FRAME.assign(b=SENTENCES), pl.DataFrame({"a": X[:, 0], "b": SENTENCES})],
    ids=["pandas", "polars"],
)
def test_x26_free_text(table: Any) -> None:
    message = "'b' holds 300 different texts in 300 rows, such as 'sentence number 0'.*TextEncoder"
    with pytest.raises(InputError, match=rf"{message}.*columns={{'b': Categorical\(\)}}"):
        density().fit(table)
    model = density(columns={"b": Categorical()}).fit(table)
    assert len(model.schema_.columns[list(table.columns).index("b")].levels) == N


@pytest.mark.parametrize(
    "column",
    [
        pd.date_range("2020", periods=N),
        pd.date_range("2020", periods=N, tz="UTC"),
        [datetime.date(2020, 1, 1)] * N,
        [pd.Timestamp("2020"), 1.0] * (N // 2),
    ],
    ids=["datetime64", "time zone", "objects", "mixed"],
)
def test_x27_dates(column: Any) -> None:
    with pytest.raises(InputError, match="column 't' is a date; turn it into numbers first"):
        density().fit(FRAME.assign(t=column))


def test_x27_dates_outside_pandas() -> None:
    with pytest.raises(InputError, match="column 't' is a date"):
        density().fit(pl.DataFrame({"t": [datetime.date(2020, 1, 1)] * 9}))
    with pytest.raises(InputError, match="column 'x0' is a date"):
        density().fit(np.full((9, 2), "2020-01-01", dtype="datetime64[D]"))


@pytest.mark.parametrize(
    ("column", "named"),
    [
        (pd.to_timedelta(np.arange(N), "s"), "timedelta"),
        (pd.period_range("2020", periods=N), r"period\[D\]"),
        (pd.interval_range(0, N), "interval"),
        ([decimal.Decimal(1)] * N, "Decimal"),
        ([datetime.timedelta(1)] * N, "timedelta"),
    ],
    ids=["timedelta", "Period", "Interval", "Decimal", "timedelta objects"],
)
def test_x28_other_types(column: Any, named: str) -> None:
    with pytest.raises(InputError, match=f"column 't' .*{named}"):
        density().fit(FRAME.assign(t=column))


def test_x28_other_types_outside_pandas() -> None:
    with pytest.raises(InputError, match=r"column 't' is of type Decimal"):
        density().fit(pl.DataFrame({"t": [decimal.Decimal(1)] * 9}))
    with pytest.raises(InputError, match="column 't' is of type Struct"):
        density().fit(pl.DataFrame({"t": [{"u": 1}] * 9}))
    with pytest.raises(InputError, match="column 'x0' is a timedelta"):
        density().fit(np.ones((9, 2), dtype="m8[s]"))


@pytest.mark.parametrize(
    "column",
    [
        pd.array([1, None] + [2, 3] * (N // 2 - 1), dtype="Int64"),
        pd.array([1.5, None, *X[2:, 0]], dtype="Float64"),
        pd.array([True, None] + [False, True] * (N // 2 - 1), dtype="boolean"),
    ],
    ids=["Int64", "Float64", "boolean"],
)
def test_x29_nullable_types(column: Any) -> None:
    table = FRAME.assign(b=column)
    model = density().fit(table)
    found = model.score_samples(table)
    assert np.isfinite(found).all()
    assert model.schema_.columns[1].missing == pytest.approx(1 / N)
    cells = [None if cell is pd.NA else cell for cell in column]
    other = pl.from_pandas(FRAME).with_columns(b=pl.Series(cells))
    np.testing.assert_array_equal(scores(other), found)
    drawn = model.sample(5, random_state=0)
    assert drawn.dtypes.tolist() == table.dtypes.tolist()
    message = r"column 'b' \(1, first at row 1\)"
    for refused in (table, other):
        with pytest.raises(InputError, match=message):
            density(missing="error").fit(refused)


LETTERS = np.random.default_rng(3).choice(["u", "v", "w"], N).tolist()


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(pd.Categorical(LETTERS)),
        pl.Series(LETTERS, dtype=pl.Categorical),
        pl.Series(LETTERS, dtype=pl.Enum(["w", "v", "u"])),
        pd.Series(LETTERS, dtype="string"),
        pl.Series(LETTERS),
    ],
    ids=["pandas", "polars Categorical", "polars Enum", "pandas text", "polars text"],
)
def test_x30_categories(column: Any) -> None:
    frame = pl.DataFrame if isinstance(column, pl.Series) else pd.DataFrame
    model = density().fit(frame({"a": X[:, 0], "b": column}))
    assert model.schema_.columns[1].kind == "categorical"
    assert sorted(model.schema_.columns[1].levels) == ["u", "v", "w"]
    # p(a, b), summed over the levels of b and integrated over a, is 1 but for unseen levels.
    grid = np.repeat(np.linspace(-8, 8, 801), 3)
    level = type(column)(["u", "v", "w"] * 801).astype(str) if frame is pd.DataFrame else None
    level = pl.Series(["u", "v", "w"] * 801) if level is None else level
    total = np.exp(model.score_samples(frame({"a": grid, "b": level}))).sum() * 16 / 800
    assert total == pytest.approx(1 - 1 / (N + 2), abs=2e-3)


@pytest.fixture(scope="module")
def on_letters() -> FlowDensity:
    return density().fit(FRAME.assign(b=pd.Categorical(LETTERS)))


def test_x31_unseen_category_at_predict(on_letters: FlowDensity) -> None:
    table = FRAME.assign(b=LETTERS)
    table.loc[[4, 6], "b"] = ["new", "other"]
    with pytest.warns(UnseenCategoryWarning, match="'b': 'new', 'other', first at row 4") as caught:
        found = on_letters.score_samples(table)
    assert len(caught) == 1
    assert np.isfinite(found).all()
    known = ~np.isin(np.arange(N), [4, 6])
    expected = on_letters.score_samples(FRAME.assign(b=LETTERS))
    np.testing.assert_array_equal(found[known], expected[known])
    assert (found < expected)[~known].all()
    strict = density(unknown="error").fit(FRAME.assign(b=LETTERS))
    table["b"] = [f"n{i}" for i in range(N)]
    with pytest.raises(InputError, match="'b': 'n0', 'n1', 'n10', 'n100', 'n101', first at row 0"):
        strict.score_samples(table)


def test_x32_categories_by_value_and_not_by_code(on_letters: FlowDensity) -> None:
    expected = on_letters.score_samples(FRAME.assign(b=pd.Categorical(LETTERS)))
    for categories in (["w", "v", "u"], ["z", "u", "w", "v"]):
        turned = FRAME.assign(b=pd.Categorical(LETTERS, categories=categories))
        np.testing.assert_array_equal(on_letters.score_samples(turned), expected)
    polars = pl.from_pandas(FRAME).with_columns(b=pl.Series(LETTERS))
    np.testing.assert_array_equal(on_letters.score_samples(polars), expected)


def test_x33_many_levels() -> None:
    names = [f"level {i}" for i in range(1500)]
    table = pd.DataFrame({"a": np.tile(X[:, 0], 5), "b": pd.Categorical(names)})
    model = density()
    with pytest.warns(HighCardinalityWarning, match=r"very many levels: 'b' \(1500\)"):
        model.fit(table)
    assert np.isfinite(model.score_samples(table)).all()


# -- containers --------------------------------------------------------------


@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csc_matrix])
def test_x34_sparse(kind: Any, on_array: FlowDensity) -> None:
    for call in (density().fit, on_array.score_samples):
        with pytest.raises(InputTypeError, match="Sparse data was passed for X, but dense data is"):
            call(kind(X))
    assert not density().__sklearn_tags__().input_tags.sparse


def test_x34_sparse_column() -> None:
    with pytest.raises(InputTypeError, match="Sparse data was passed in column 'b'"):
        density().fit(FRAME.assign(b=pd.arrays.SparseArray(X[:, 0])))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (X[:, 0], r"Expected 2D array, got 1D array .*reshape\(-1, 1\)"),
        (FRAME["a"], r"Expected 2D array, got 1D array .*reshape\(-1, 1\)"),
        (X[None], "Expected 2D array, got 3D array"),
        (1.0, "Expected 2D array, got 0D array"),
        (None, "X is None; expected a table"),
        ({"a": [1.0, 2.0]}, r"X is a dict; expected a table, for example pandas.DataFrame\(X\)"),
        ("table.csv", "X is a str; expected a table"),
        ([[1.0, 2.0], [3.0]], "X is not rectangular"),
        (object(), "X is a builtins.object; expected a table"),
        (pl.DataFrame({"a": [1.0]}).lazy(), r"holds no rows yet: pass X.collect\(\)"),
    ],
    ids=["1-D", "series", "3-D", "scalar", "None", "dict", "str", "ragged", "object", "lazy"],
)
def test_x35_no_table(table: Any, message: str, on_array: FlowDensity) -> None:
    for call in (density().fit, on_array.score_samples):
        with pytest.raises(InputError, match=message):
            call(table)


def test_x36_matrix_and_masked_array() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix(X)
    with pytest.raises(TypeError, match=r"np.matrix is not supported"):
        density().fit(matrix)
    masked = np.ma.masked_array(X, mask=np.zeros_like(X, dtype=bool))
    np.testing.assert_array_equal(scores(masked), scores(X))
    masked[4, 1] = np.ma.masked
    np.testing.assert_array_equal(scores(masked), scores(with_cell(4, 1, np.nan)))


def test_x37_layouts(tmp_path: Path, on_array: FlowDensity) -> None:
    np.save(tmp_path / "x.npy", X)
    wide = np.zeros((2 * N, 8))
    wide[::2, ::2] = X
    read_only = X.copy()
    read_only.flags.writeable = False
    layouts = {
        "lists": X.tolist(),
        "tuple of arrays": tuple(X),
        "memory map": np.load(tmp_path / "x.npy", mmap_mode="r"),
        "read only": read_only,
        "columns first": np.asfortranarray(X),
        "strided": wide[::2, ::2],
        "reversed": X[::-1].copy()[::-1],
        "big-endian": X.astype(">f8"),
        "polars": pl.DataFrame(X),
    }
    expected = on_array.score_samples(X)
    fitted = scores(X)
    for name, table in layouts.items():
        np.testing.assert_array_equal(scores(table), fitted, err_msg=name)
        if not isinstance(table, pl.DataFrame):  # whose names would be unknown
            np.testing.assert_array_equal(on_array.score_samples(table), expected, err_msg=name)
    repeated = np.broadcast_to(X[0], (5, 4))
    np.testing.assert_array_equal(on_array.score_samples(repeated), expected[[0] * 5])


# -- names -------------------------------------------------------------------


def test_x38_columns_in_another_order(on_frame: FlowDensity) -> None:
    expected = on_frame.score_samples(FRAME)
    np.testing.assert_array_equal(on_frame.score_samples(FRAME[list("dbca")]), expected)
    np.testing.assert_array_equal(
        on_frame.score_samples(pl.from_pandas(FRAME[list("cadb")])), expected
    )


def test_x39_renamed_column(on_frame: FlowDensity) -> None:
    model = density().fit(FRAME.rename(columns={"b": "height"}))
    with pytest.raises(InputError) as caught:
        model.score_samples(FRAME.rename(columns={"b": "heigth"}))
    assert "unseen at fit time: heigth" in str(caught.value)
    assert "now missing: height; did you mean 'heigth'?" in str(caught.value)


def test_x40_extra_column(on_frame: FlowDensity, on_array: FlowDensity) -> None:
    with pytest.raises(InputError, match="Feature names unseen at fit time: e"):
        on_frame.score_samples(FRAME.assign(e=1.0))
    with pytest.raises(InputError, match="X has 5 features, but FlowDensity is expecting 4"):
        on_array.score_samples(np.column_stack([X, X[:, 0]]))


def test_x41_missing_column(on_frame: FlowDensity, on_array: FlowDensity) -> None:
    with pytest.raises(InputError, match="seen at fit time, yet now missing: b, d"):
        on_frame.score_samples(FRAME[["a", "c"]])
    with pytest.raises(InputError, match="X has 2 features, but FlowDensity is expecting 4"):
        on_array.score_samples(X[:, :2])


def test_x42_array_after_frame(on_frame: FlowDensity, on_array: FlowDensity) -> None:
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        found = on_frame.score_samples(X)
    np.testing.assert_array_equal(found, on_frame.score_samples(FRAME))
    with pytest.warns(UserWarning, match="fitted without feature names"):
        on_array.score_samples(FRAME)


def test_x43_names_that_are_no_text(on_frame: FlowDensity) -> None:
    mixed = FRAME.set_axis(["a", 1, "c", "d"], axis=1)
    for call in (density().fit, on_frame.score_samples):
        with pytest.raises(
            InputTypeError, match="only supported if all input features have string"
        ):
            call(mixed)
    numbered = density().fit(pd.DataFrame(X))
    assert not hasattr(numbered, "feature_names_in_")
    drawn = numbered.sample(3, random_state=0)
    assert drawn.columns.tolist() == [0, 1, 2, 3]
    numbered.score_samples(drawn)


class OnDevice:
    """An array of another library, which offers DLPack alone."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack__(self, **settings: Any) -> Any:
        return self.values.__dlpack__(**settings)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


@pytest.mark.parametrize(
    "table",
    [torch.tensor(X), torch.tensor(X, requires_grad=True), OnDevice(X.copy())],
    ids=["tensor", "tensor with gradient", "DLPack"],
)
def test_x44_tensors(table: Any, on_array: FlowDensity) -> None:
    np.testing.assert_array_equal(on_array.score_samples(table), on_array.score_samples(X))
    np.testing.assert_array_equal(scores(table, X), scores(X))


def test_x44_bfloat16(on_array: FlowDensity) -> None:
    table = torch.tensor(X).bfloat16()
    expected = on_array.score_samples(table.double())
    np.testing.assert_array_equal(on_array.score_samples(table), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_x44_tensor_on_a_device(on_array: FlowDensity) -> None:
    found = on_array.score_samples(torch.tensor(X, device="cuda"))
    np.testing.assert_array_equal(found, on_array.score_samples(X))


def rows_of(table: np.ndarray) -> Iterator[np.ndarray]:
    yield from table


@pytest.mark.parametrize("table", [rows_of(X), iter(X), map(list, X)], ids=["yield", "iter", "map"])
def test_x45_iterators(table: Any) -> None:
    with pytest.raises(TypeError, match=r"which can be read once: pass list\(X\)"):
        density().fit(table)


@pytest.mark.filterwarnings("ignore::hybridflow.errors.SmallSampleWarning")
def test_x46_fewer_rows_than_columns() -> None:
    wide = np.random.default_rng(2).normal(size=(10, 500))
    model = density()
    with pytest.warns(DegenerateFeaturesWarning, match="10 distinct rows for 500 columns"):
        model.fit(wide)
    found = model.score_samples(np.vstack([wide, wide + 1.0]))
    assert np.isfinite(found).all()
    assert found[10:].max() < found[:10].min()
    # Regularised: no row is denser than a normal law of a tenth of the width would make it.
    assert found.max() < 500 * (np.log(10) - 0.5 * np.log(2 * np.pi))
    assert np.isfinite(model.sample(5, random_state=0)).all()


# -- memory ------------------------------------------------------------------


def test_x47_the_table_is_not_copied() -> None:
    model = density(members=1).fit(X)
    table = np.resize(X, (100_000, 4))
    tracemalloc.start()
    try:
        model.score_samples(table)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < table.nbytes / 2


PEAK = """
import resource, sys
import numpy as np
from hybridflow import FlowDensity, TrainingConfig
from hybridflow.flows import SplineCoupling

rng = np.random.default_rng(0)
flow = SplineCoupling(layers=1, bins=4, hidden_units=8, hidden_layers=1)
columns = rng.normal(size=(500, 8))
rows, warm = int(sys.argv[2]), int(sys.argv[2]) // 5
if sys.argv[1] == "tied":
    columns = np.round(3 * columns)
model = FlowDensity(flow, training=TrainingConfig(steps=3), random_state=0).fit(columns)
table = np.resize(columns, (rows, 8))
model.score_samples(table[:warm])  # what one batch needs, and every later one again
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.score_samples(table)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss depends on the system")
@pytest.mark.parametrize("kind", ["continuous", "tied"])
def test_x47_memory_does_not_grow_with_rows(kind: str) -> None:
    # One intermediate result of all rows would take 64 MB, or 102 MB with 32 noisy copies of
    # each row, and there are a dozen at a time.
    rows = 1_000_000 if kind == "continuous" else 50_000
    done = subprocess.run(
        [sys.executable, "-c", PEAK, kind, str(rows)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 256_000
