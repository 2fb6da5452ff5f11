"""Columns of two tables on one scale."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

from hybridflow.errors import ConfigError, InputError
from hybridflow.plots import SamplesDisplay
from hybridflow.plots.variables import read_variables

DATA = {
    "length": [1.5, 2.5, None, 4.0],
    "count": [1, 2, 2, 3],
    "colour": ["red", "blue", "red", None],
    "grown": [True, False, True, True],
}
SAMPLES = {
    "length": [1.0, 2.0, 3.0, 4.0],
    "count": [3, 3, 1, 1],
    "colour": ["blue", "blue", "green", "red"],
    "grown": [True, True, False, False],
}
ARRAYS = [np.array(list(zip(*t.values(), strict=True)), dtype=object) for t in (DATA, SAMPLES)]


@pytest.mark.parametrize(
    "tables",
    [
        (pd.DataFrame(DATA), pd.DataFrame(SAMPLES)),
        (pl.DataFrame(DATA), pl.DataFrame(SAMPLES)),
        ARRAYS,
        (
            pd.DataFrame(DATA).astype({"colour": "category", "count": "Int64"}),
            pd.DataFrame(SAMPLES).astype({"colour": "category"}),
        ),
    ],
    ids=["pandas", "polars", "numpy", "pandas-extension-types"],
)
def test_numbers_and_categories_of_any_table(tables):
    length, count, colour, grown = read_variables(*tables, [0, 1, 2, 3])
    np.testing.assert_array_equal(length.data, [1.5, 2.5, np.nan, 4.0])
    assert (length.levels, count.levels) == ((), ())
    assert colour.levels == ("red", "blue", "missing", "green")
    assert colour.data.tolist() == [0, 1, 0, 2]
    assert colour.samples.tolist() == [1, 1, 3, 0]
    assert grown.levels == ("True", "False")


def test_rare_levels_are_shown_together():
    levels = [f"level {i}" for i in range(20) for _ in range(30 - i)]
    (variable,) = read_variables(
        pl.DataFrame({"c": levels}), pl.DataFrame({"c": [*levels, "new"]}), ["c"]
    )
    assert variable.levels == (*[f"level {i}" for i in range(7)], "other")
    assert variable.data.max() == variable.samples[-1] == 7


@pytest.mark.parametrize("values", [[0.0, 1.0, 1.0, 5.0], [2.0, 2.0]], ids=["counts", "constant"])
def test_whole_numbers_have_a_bin_each(values):
    column = np.array(values)[:, None]
    (variable,) = read_variables(column, column, [0])
    widths = np.diff(variable.edges)
    np.testing.assert_array_equal(widths, 1)
    counts = np.histogram(variable.data, variable.edges)[0]
    assert counts.sum() == len(values)
    assert counts[0] == values.count(min(values))


def test_points_of_data_and_samples_stand_apart_in_steps():
    table = np.column_stack([np.repeat([0.0, 1.0, 2.0], 20), np.linspace(0, 1, 60)])
    display = SamplesDisplay.from_predictions(table, table)
    data, samples = (dots.get_offsets() for dots in display.axes_[1, 0].collections)
    assert (data[:, 0] < np.round(data[:, 0] + 0.2)).all()
    assert (samples[:, 0] > np.round(samples[:, 0] - 0.2)).all()
    np.testing.assert_array_equal(np.sort(data[:, 1]), table[:, 1])


def test_few_wild_samples_do_not_set_the_scale():
    data = np.linspace(0, 1, 500)[:, None]
    samples = np.append(np.linspace(-0.2, 1.1, 999), 1e9)[:, None]
    low, high = read_variables(data, samples, [0])[0].limits
    assert -0.3 < low < -0.1
    assert 1.0 < high < 1.3


def test_a_column_without_any_number_is_drawn_empty():
    nothing = np.full((5, 1), np.nan)
    assert SamplesDisplay.from_predictions(nothing, nothing).variables[0].limits == (0.0, 1.0)


def test_mixed_tables_are_drawn():
    display = SamplesDisplay.from_predictions(pd.DataFrame(DATA), pd.DataFrame(SAMPLES))
    bars = [patch.get_height() for patch in display.axes_[2, 2].patches]
    np.testing.assert_allclose(bars, [0.5, 0.25, 0.25, 0.0, 0.25, 0.5, 0.0, 0.25])
    assert not display.axes_[0, 1].axison
    assert [text.get_text() for text in display.axes_[3, 2].get_xticklabels()] == [
        *("red", "blue", "missing", "green")
    ]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1.0]], [[1.0, 2.0]], None), InputError, "samples have the columns"),
        (([[1.0]], [[1.0]], ["size"]), InputError, "no column 'size'; there are"),
        (([[1.0]], [[1.0]], [5]), InputError, "no column 5"),
        (([[1.0]], [[1.0]], []), ConfigError, "at least one column"),
        (([], [[1.0]], None), InputError, "at least one row"),
        (([1.0], [1.0], [0]), InputError, "two dimensions"),
    ],
    ids=["other-columns", "name", "position", "none", "empty", "vector"],
)
def test_what_cannot_be_drawn_is_named(arguments, error, message):
    X, samples, columns = arguments
    with pytest.raises(error, match=message):
        SamplesDisplay.from_predictions(X, samples, columns=columns)


def test_dates_are_refused_by_name():
    dates = pl.DataFrame({"day": [1, 2]}).select(pl.col("day").cast(pl.Date))
    with pytest.raises(InputError, match="column 'day' holds Date"):
        SamplesDisplay.from_predictions(dates, dates)
