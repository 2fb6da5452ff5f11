"""Targets that cannot be used, or only with care: one test for each row Y of the list."""

from __future__ import annotations

import datetime
import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.exceptions import DataConversionWarning

from hybridflow import HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.errors import (
    ConfigError,
    ConstantTargetWarning,
    IndexMismatchWarning,
    InputError,
    NonIntegerCountWarning,
    RareClassWarning,
)
from hybridflow.flows import SplineCoupling

FLOW = SplineCoupling(layers=1, bins=4, hidden_units=8, hidden_layers=1)
BRIEF = TrainingConfig(steps=20)

N = 300
X = np.random.default_rng(0).normal(size=(N, 3))
LABELS = (X[:, 0] > 0).astype(int)
NUMBERS = X[:, 0] + 0.1 * X[:, 1]
COUNTS = np.random.default_rng(1).poisson(np.exp(0.5 * X[:, 0])).astype(float)


def classifier(**parameters: Any) -> HybridClassifier:
    return HybridClassifier(FLOW, training=BRIEF, random_state=0, **parameters)


def regressor(**parameters: Any) -> HybridRegressor:
    return HybridRegressor(FLOW, training=BRIEF, random_state=0, **parameters)


def text(codes: np.ndarray = LABELS) -> np.ndarray:
    return np.where(codes == 1, "yes", "no")


# -- missing -----------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        np.where(np.arange(N) < 9, np.nan, LABELS),
        [None] * 9 + LABELS[9:].tolist(),
        pd.Series(pd.array([pd.NA] * 9 + LABELS[9:].tolist(), dtype="Int64")),
        pl.Series([None] * 9 + text()[9:].tolist()),
        pd.Series([pd.NaT] * 9 + text()[9:].tolist()),
        np.ma.masked_array(LABELS, mask=np.arange(N) < 9),
    ],
    ids=["NaN", "None", "NA", "polars null", "NaT", "masked"],
)
def test_y01_some_labels_missing(y: Any) -> None:
    model = classifier().fit(X, y)
    assert model.n_labeled_ == N - 9
    assert len(model.classes_) == 2
    assert np.isfinite(model.score_samples(X)).all()


@pytest.mark.parametrize(
    "y",
    [
        np.where(np.arange(N) < 9, np.nan, NUMBERS),
        [None] * 9 + NUMBERS[9:].tolist(),
        pd.Series(pd.array([pd.NA] * 9 + NUMBERS[9:].tolist(), dtype="Float64")),
        pl.Series([None] * 9 + NUMBERS[9:].tolist()),
        np.ma.masked_array(NUMBERS, mask=np.arange(N) < 9),
    ],
    ids=["NaN", "None", "NA", "polars null", "masked"],
)
def test_y01_some_numbers_missing(y: Any) -> None:
    model = regressor().fit(X, y)
    assert model.n_labeled_ == N - 9
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("make", [classifier, regressor])
@pytest.mark.parametrize("missing", [np.nan, None], ids=["NaN", "None"])
def test_y02_all_missing(make: Any, missing: Any) -> None:
    with pytest.raises(InputError, match="Input y contains NaN: no labelled row"):
        make().fit(X, [missing] * N)


def test_y03_minus_one_is_a_class() -> None:
    y = np.where(np.arange(N) < 40, -1, LABELS)
    model = classifier().fit(X, y)
    assert model.classes_.tolist() == [-1, 0, 1]
    assert model.n_labeled_ == N
    model = classifier(unlabeled=-1).fit(X, y)
    assert model.classes_.tolist() == [0, 1]
    assert model.n_labeled_ == N - 40
    assert classifier(unlabeled="?").fit(
        X, np.where(np.arange(N) < 40, "?", text())
    ).n_labeled_ == (N - 40)


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
@pytest.mark.parametrize("make", [classifier, regressor])
def test_y04_infinity(make: Any, infinite: float) -> None:
    y = np.where(np.arange(N) < 9, np.nan, LABELS.astype(float))
    y[17] = infinite
    for values in (y, y.astype(object)):
        with pytest.raises(InputError, match="Input y contains infinity, first at row 17"):
            make().fit(X, values)


# -- classes -----------------------------------------------------------------


def test_y05_one_class() -> None:
    for y in (np.ones(N, dtype=int), np.where(np.arange(N) < 9, np.nan, 1.0)):
        with pytest.raises(InputError, match=r"only one class .*1.*use FlowDensity"):
            classifier().fit(X, y)
    with pytest.raises(InputError, match=r"only one class .*positive weight"):
        classifier().fit(X, LABELS, sample_weight=LABELS)


def test_y06_class_with_one_row() -> None:
    y = LABELS.copy()
    y[17] = 2
    model = classifier()
    with pytest.warns(RareClassWarning, match=r"1 class\(es\) have too few rows"):
        model.fit(X, y)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(X).shape == (N, 3)


@pytest.mark.filterwarnings("ignore::hybridflow.errors.RareClassWarning")
def test_y07_class_among_the_held_out_rows_only() -> None:
    y = LABELS.copy()
    y[[3, 17]] = 2  # a share of 90 % would hold out both
    for validation in (0.9, np.arange(10, 40)):
        model = classifier(validation=validation).fit(X, y)
        assert model.classes_.tolist() == [0, 1, 2]
        assert np.isfinite(model.predict_log_proba(X)).all()


@pytest.mark.filterwarnings("ignore::hybridflow.errors.RareClassWarning")
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_y08_imbalance(class_weight: str | None) -> None:
    rows = np.random.default_rng(2).normal(size=(10_000, 2))
    rows[5] = 4.0
    y = np.zeros(10_000, dtype=int)
    y[5] = 1
    model = classifier(class_weight=class_weight).fit(rows, y)
    probabilities = model.predict_proba(rows)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    if class_weight == "balanced":
        assert probabilities[:, 1].mean() > 0.1
    else:
        assert probabilities[:, 1].mean() < 0.1


@pytest.mark.parametrize(
    ("y", "dtype"),
    [
        (text(), "<U3"),
        (text().astype("S"), "S3"),
        (LABELS == 1, "bool"),
        (text().astype(object), "object"),
        (LABELS.astype("int8"), "int8"),
        (LABELS.astype("uint64"), "uint64"),
        (LABELS.astype("float32"), "float32"),
    ],
    ids=["text", "bytes", "bool", "object", "int8", "uint64", "float32"],
)
def test_y09_kinds_of_labels(y: np.ndarray, dtype: str) -> None:
    model = classifier().fit(X, y)
    assert model.classes_.dtype == np.dtype(dtype)
    assert model.classes_.tolist() == sorted(set(y.tolist()))
    predicted = model.predict(X)
    assert predicted.dtype == np.dtype(dtype)
    assert set(predicted.tolist()) <= set(y.tolist())


@pytest.mark.parametrize(
    ("pair", "named"),
    [
        ([1, "a"], "number and text"),
        ([b"a", "a"], "bytes and text"),
        ([True, 3], "boolean and number"),
    ],
    ids=["numbers and text", "bytes and text", "booleans and numbers"],
)
def test_y10_mixed_labels(pair: list[Any], named: str) -> None:
    y = pair * (N // 2)
    expected = rf"y mixes {named}: .* at row 0 and .* at row 1; make them one type"
    for labels in (y, np.array(y, dtype=object)):
        with pytest.raises(InputError, match=expected):
            classifier().fit(X, labels)


@pytest.mark.parametrize(
    "label", [datetime.date(2020, 1, 1), 1j, pd.Timestamp("2020"), object(), frozenset({1})]
)
def test_y10_labels_of_other_types(label: Any) -> None:
    with pytest.raises(InputError, match=r"Unknown label type|Complex data not supported"):
        classifier().fit(X, pd.Series([label] * N))


def test_y11_labels_that_are_not_contiguous() -> None:
    y = np.array([0, 1, 7])[np.digitize(X[:, 0], [-0.5, 0.5])]
    model = classifier().fit(X, y)
    assert model.classes_.tolist() == [0, 1, 7]
    assert set(model.predict(X)) <= {0, 1, 7}
    assert model.score_joint(X, y).shape == (N,)


def test_y12_continuous_labels() -> None:
    with pytest.raises(InputError, match=r"Unknown label type: continuous.*HybridRegressor"):
        classifier().fit(X, NUMBERS)


def test_y13_a_thousand_classes() -> None:
    rows = np.random.default_rng(2).normal(size=(2000, 3))
    model = classifier()
    with pytest.warns(RareClassWarning, match=r"1000 class\(es\)"):
        model.fit(rows, np.repeat(np.arange(1000), 2))
    assert model.predict_proba(rows[:5]).shape == (5, 1000)


# -- numbers -----------------------------------------------------------------


COUNT_HEADS = {
    "poisson": "Poisson",
    "negative-binomial": "NegativeBinomial",
    "zero-inflated": "ZeroInflated",
}


@pytest.mark.parametrize("head", COUNT_HEADS)
def test_y14_negative_counts(head: str) -> None:
    y = COUNTS.copy()
    y[[17, 20, 21]] = -1.0
    needs = f"{COUNT_HEADS[head]} needs y >= 0"
    with pytest.raises(InputError, match=rf"{needs}; 3 negative values, first at row 17 \(-1\)"):
        regressor(head=head).fit(X, y)


@pytest.mark.parametrize("head", COUNT_HEADS)
def test_y15_counts_that_are_not_whole(head: str) -> None:
    y = COUNTS.copy()
    y[4] = 1.5
    with pytest.warns(NonIntegerCountWarning, match="first at row 4"):
        model = regressor(head=head).fit(X, y)
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("head", COUNT_HEADS)
def test_y16_no_event_at_all(head: str) -> None:
    with pytest.warns(ConstantTargetWarning):
        model = regressor(head=head).fit(X, np.zeros(N))
    rate = model.predict(X)
    assert np.isfinite(rate).all()
    assert rate.max() < 0.01


@pytest.mark.parametrize("bad", [0.0, -2.5])
def test_y17_numbers_that_are_not_positive(bad: float) -> None:
    y = np.exp(X[:, 0])
    y[[7, 90]] = bad
    match = rf"Gamma needs y > 0; 2 values that are not, first at row 7 \({bad:g}\).*'mixture'"
    with pytest.raises(InputError, match=match):
        regressor(head="gamma").fit(X, y)


def test_y18_shares_outside_zero_to_one() -> None:
    y = 1 / (1 + np.exp(-X[:, 0]))
    y[[30, 31]] = 1.5, -0.1
    match = r"Beta needs 0 < y < 1; 2 values beyond, first at row 30 \(1.5\)"
    with pytest.raises(InputError, match=match):
        regressor(head="beta").fit(X, y)
    y[[30, 31]] = 0.5, 1.0
    match = r"1 values at the ends, first at row 31 \(1\): move them inside, y = \(y \*"
    with pytest.raises(InputError, match=match):
        regressor(head="beta").fit(X, y)
    model = regressor(head="beta").fit(X, (y * (len(y) - 1) + 0.5) / len(y))
    assert np.isfinite(model.score_joint(X, y / 2 + 0.25)).all()


def test_y18_more_classes_than_two_for_bernoulli() -> None:
    y = np.arange(N) % 3
    with pytest.raises(ConfigError, match=r"two classes, got \[0, 1, 2\]: use head='categorical'"):
        classifier(head="bernoulli").fit(X, y)


@pytest.mark.parametrize("head", ["gamma", "beta"])
def test_y19_constant_positive_target(head: str) -> None:
    model = regressor(head=head)
    with pytest.warns(ConstantTargetWarning, match="y is constant"):
        model.fit(X, np.full(N, 0.25))
    np.testing.assert_allclose(model.predict(X), 0.25, atol=0.02)
    assert np.isfinite(model.predict_distribution(X).log_prob(np.full(N, 0.25))).all()


@pytest.mark.parametrize("unit", [1e-90, 1e90], ids=str)
def test_y23_gamma_knows_the_unit_of_its_target(unit: float) -> None:
    y = np.exp(X[:, 0] / 2)
    plain, other = (regressor(head="gamma").fit(X, scale * y) for scale in (1.0, unit))
    np.testing.assert_allclose(other.predict(X) / unit, plain.predict(X), rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 3.5, -1e20])
@pytest.mark.parametrize("head", ["gaussian", "mixture", "student-t"])
def test_y19_constant_target(head: str, value: float) -> None:
    model = regressor(head=head)
    with pytest.warns(ConstantTargetWarning, match="y is constant"):
        model.fit(X, np.full(N, value))
    unit = abs(value) or 1.0
    np.testing.assert_allclose(model.predict(X), value, atol=0.05 * unit)
    law = model.predict_distribution(X)
    assert (law.log_prob(np.full(N, value)) < np.log(1e6 / unit)).all()  # floored


def test_y20_two_dimensions() -> None:
    with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
        column = classifier().fit(X, LABELS[:, None])
    np.testing.assert_array_equal(column.predict(X), classifier().fit(X, LABELS).predict(X))
    with pytest.warns(DataConversionWarning):
        regressor().fit(X, pl.DataFrame({"y": NUMBERS}))
    with pytest.raises(ConfigError, match=r"2 columns of 0 and 1.* use head='multi-label'"):
        classifier().fit(X, np.column_stack([LABELS, LABELS]))
    with pytest.raises(InputError, match="Unknown label type: y has 2 columns"):
        classifier(head="multi-label").fit(X, np.column_stack([LABELS, LABELS + 1]))
    with pytest.raises(InputError, match=r"1d array, got an array of shape \(300, 2, 1\)"):
        regressor().fit(X, np.ones((300, 2, 1)))
    both = regressor().fit(X, np.column_stack([NUMBERS, NUMBERS]))
    assert both.predict(X).shape == (300, 2)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_y21_no_target(make: Any) -> None:
    with pytest.raises(InputError, match="requires y to be passed, but the target y is None"):
        make().fit(X)


@pytest.mark.parametrize("make", [classifier, regressor])
def test_y22_other_length(make: Any) -> None:
    with pytest.raises(
        InputError, match="inconsistent numbers of samples: X has 300 rows, y has 9"
    ):
        make().fit(X, LABELS[:9])


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_y23_huge_and_tiny_numbers(size: float) -> None:
    with pytest.raises(InputError, match="whose square is not a number: rescale y"):
        regressor().fit(X, NUMBERS * size)


@pytest.mark.parametrize("size", [1e90, 1e-90])
def test_y23_large_and_small_numbers(size: float) -> None:
    scaled, plain = regressor().fit(X, NUMBERS * size), regressor().fit(X, NUMBERS)
    np.testing.assert_allclose(scaled.predict(X), plain.predict(X) * size, rtol=1e-6)
    assert np.isfinite(scaled.predict_distribution(X).std()).all()


def test_y23_a_large_mean_costs_no_precision() -> None:
    far = regressor().fit(X, NUMBERS + 2.0**40)
    np.testing.assert_allclose(
        far.predict(X) - 2.0**40, regressor().fit(X, NUMBERS).predict(X), atol=0.01
    )


@pytest.mark.parametrize(
    "y", [text(), NUMBERS.astype(str), pd.Series(pd.date_range("2020", periods=N))]
)
def test_regression_of_what_is_no_number(y: Any) -> None:
    with pytest.raises(InputError, match=r"y must hold numbers, but it is .*HybridClassifier"):
        regressor().fit(X, y)


def test_regression_names_the_first_cell_that_is_no_number() -> None:
    y = NUMBERS.astype(object)
    y[7] = "seven"
    with pytest.raises(InputError, match="y must hold numbers, got str seven at row 7"):
        regressor().fit(X, y)


@pytest.mark.parametrize(
    "y",
    [
        pd.Series(pd.Categorical(text(), categories=["maybe", "yes", "no"])),
        pl.Series(text().tolist()).cast(pl.Enum(["maybe", "yes", "no"])),
    ],
    ids=["pandas", "polars"],
)
def test_y24_unused_categories(y: Any) -> None:
    model = classifier().fit(X, y)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.predict_proba(X).shape == (N, 2)


def test_y25_index_in_another_order() -> None:
    table = pd.DataFrame(X)
    y = pd.Series(LABELS, index=np.arange(N)[::-1])
    with pytest.warns(IndexMismatchWarning, match="rows are paired by position"):
        paired = classifier().fit(table, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = classifier().fit(table, pd.Series(LABELS, index=np.arange(N) + 1000))
    np.testing.assert_array_equal(paired.predict_proba(table), other.predict_proba(table))
