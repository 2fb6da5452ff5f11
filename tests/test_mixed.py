"""Tables of numbers, levels and missing cells, against closed forms."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import stats
from sklearn.base import clone

import hybridflow
from hybridflow import (
    Circle,
    FlowDensity,
    HybridClassifier,
    HybridRegressor,
    Interval,
    Positive,
    TrainingConfig,
)
from hybridflow.bundle import verify
from hybridflow.categories import Categories
from hybridflow.densities import Normal
from hybridflow.errors import (
    ConfigError,
    InputError,
    UnseenCategoryWarning,
    UnseenMissingWarning,
)
from hybridflow.flows import SplineCoupling
from hybridflow.heads.poisson import PoissonHead
from hybridflow.layout import Layout
from hybridflow.model import HybridModel
from hybridflow.specs import Event
from hybridflow.transforms import Identity, Standardize

FLOW = SplineCoupling(layers=2, bins=4, hidden_units=16, hidden_layers=1)
BRIEF = TrainingConfig(steps=30)
LONGER = TrainingConfig(steps=500)


def density(training: TrainingConfig = BRIEF, **parameters: Any) -> FlowDensity:
    return FlowDensity(FLOW, training=training, members=1, random_state=0, **parameters)


# -- exact: a model whose flow is the identity --------------------------------

MEAN, DEVIATION = np.array([1.0, -2.0, 5.0]), np.array([0.5, 2.0, 3.0])


def independent(layout: Layout, categories: Categories | None) -> HybridModel:
    """Return a model of independent normal columns."""
    model = HybridModel(
        Event.real(3, 0 if categories is None else categories.width),
        Standardize(3),
        Identity(),
        Normal(3),
        None,
        step=torch.zeros(3),
        lattice=torch.zeros(3, dtype=torch.bool),
        origin=torch.zeros(3),
        layout=layout,
        categories=categories,
    )
    model.network_to(torch.float64)
    model.preprocess.location.copy_(torch.as_tensor(MEAN))
    model.preprocess.scale.copy_(torch.as_tensor(DEVIATION))
    return model.eval().requires_grad_(False)


def with_gaps(n: int = 50) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = MEAN + DEVIATION * rng.normal(size=(n, 3))
    x[rng.random((n, 3)) < 0.3] = np.nan
    x[0], x[1] = np.nan, MEAN  # no cell at all, and every cell
    return x


def marginal(x: np.ndarray) -> np.ndarray:
    """Return the log-density of the cells that are there."""
    return np.nansum(stats.norm(MEAN, DEVIATION).logpdf(x), axis=1)


def test_rows_with_missing_cells_score_the_marginal_of_the_others() -> None:
    x = with_gaps()
    found = independent(Layout.of_numbers(3), None).log_score(torch.as_tensor(x))
    np.testing.assert_allclose(found, marginal(x), rtol=0, atol=1e-10)


def test_flags_and_levels_add_their_masses() -> None:
    x = with_gaps()
    codes = np.random.default_rng(1).integers(0, 3, len(x))
    layout = Layout(width=4, numbers=(0, 1, 3), levels=(2,), sizes=(3,), flagged=(0, 1, 2))
    categories = Categories((3, 2, 2, 2), (True, False, False, False)).double()
    flags = np.isnan(x).astype(int)
    c = torch.as_tensor(np.column_stack([codes, flags]))
    categories.initialize(c, torch.ones(len(x)).double())
    model = independent(layout, categories)
    rows = torch.as_tensor(np.column_stack([x[:, :2], codes, x[:, 2]]))
    expected = marginal(x) + categories.log_prob(c).detach().numpy()
    np.testing.assert_allclose(model.log_score(rows), expected, rtol=0, atol=1e-10)
    # And the task sees the middle of a column where a cell is missing.
    z, context = model.task_view(rows)
    np.testing.assert_allclose(z, np.nan_to_num((x - MEAN) / DEVIATION), atol=1e-10)
    torch.testing.assert_close(context, categories.encode(c))


def test_a_layout_puts_rows_together_again() -> None:
    layout = Layout(width=5, numbers=(0, 3), levels=(2, 4), sizes=(3, 2), flagged=(1,), exposure=1)
    x = torch.tensor([[0.5, 1.0, 2.0, torch.nan, 0.0], [1.5, 1.0, 0.0, 2.0, 1.0]])
    numbers, codes = layout.split(x)
    torch.testing.assert_close(codes, torch.tensor([[2, 0, 1], [0, 1, 0]]))
    torch.testing.assert_close(layout.join(numbers.nan_to_num(), codes), x, equal_nan=True)
    torch.testing.assert_close(layout.offset(x), torch.zeros(2))


# -- learned: closed forms ---------------------------------------------------

COVARIANCE = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]])


def correlated(n: int, seed: int, share: float = 0.25) -> np.ndarray:
    """Return rows of a normal law, a share of their cells missing at random."""
    rng = np.random.default_rng(seed)
    x = rng.multivariate_normal(np.zeros(3), COVARIANCE, n)
    x[rng.random(x.shape) < share] = np.nan
    return x


def truth(x: np.ndarray, share: float = 0.25) -> np.ndarray:
    """Return log p of the cells that are there, and of which these are."""
    scores = []
    for row in x:
        there = ~np.isnan(row)
        flags = there.sum() * np.log(1 - share) + (~there).sum() * np.log(share)
        law = (
            stats.multivariate_normal(cov=COVARIANCE[np.ix_(there, there)]) if any(there) else None
        )
        scores.append(flags + (law.logpdf(row[there]) if law is not None else 0.0))
    return np.array(scores)


@pytest.fixture(scope="module")
def gappy() -> FlowDensity:
    return density(LONGER).fit(correlated(6000, seed=0))


def test_cells_missing_at_random(gappy: FlowDensity) -> None:
    x = correlated(1000, seed=1)
    error = gappy.score_samples(x) - truth(x)
    assert abs(error.mean()) < 0.05
    assert np.sqrt((error**2).mean()) < 0.3
    complete = ~np.isnan(x).any(1)
    assert abs(error[complete].mean()) < 0.05


def test_a_row_alone_is_the_row_in_a_batch(gappy: FlowDensity) -> None:
    x = correlated(60, seed=2)
    together, z = gappy.score_samples(x), gappy.transform(x)
    alone = np.concatenate([gappy.score_samples(row[None]) for row in x])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-10)
    np.testing.assert_allclose(
        np.vstack([gappy.transform(row[None]) for row in x]), z, rtol=0, atol=1e-10
    )


def test_samples_have_gaps_where_the_table_has(gappy: FlowDensity) -> None:
    drawn = gappy.sample(4000, random_state=0)
    # Of 4000 rows a share of a quarter has a standard error of 0.007.
    np.testing.assert_allclose(np.isnan(drawn).mean(0), 0.25, atol=0.03)
    complete = drawn[~np.isnan(drawn).any(1)]
    np.testing.assert_allclose(np.cov(complete.T), COVARIANCE, atol=0.15)


LEVELS = ("low", "mid", "top")
SHARES, MEANS, SPREADS = (0.5, 0.3, 0.2), (-4.0, 0.0, 3.0), (0.5, 1.0, 0.3)


def by_level(n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    code = rng.choice(3, n, p=SHARES)
    x = rng.normal(np.take(MEANS, code), np.take(SPREADS, code))
    return pd.DataFrame({"x": x, "level": np.take(LEVELS, code)})


@pytest.fixture(scope="module")
def per_level() -> FlowDensity:
    return density(LONGER).fit(by_level(5000, seed=0))


def test_a_normal_law_for_each_level(per_level: FlowDensity) -> None:
    table = by_level(1000, seed=1)
    code = table["level"].map(LEVELS.index)
    expected = np.log(np.take(SHARES, code)) + stats.norm(
        np.take(MEANS, code), np.take(SPREADS, code)
    ).logpdf(table["x"])
    error = per_level.score_samples(table) - expected
    assert abs(error.mean()) < 0.06
    assert np.median(np.abs(error)) < 0.15


def test_samples_of_each_level_follow_its_law(per_level: FlowDensity) -> None:
    drawn = per_level.sample(5000, random_state=0)
    for level, share, mean, spread in zip(LEVELS, SHARES, MEANS, SPREADS, strict=True):
        mine = drawn.loc[drawn["level"] == level, "x"]
        assert len(mine) / 5000 == pytest.approx(share, abs=0.04)
        assert mine.median() == pytest.approx(mean, abs=0.2 * spread)
        middle = mine.quantile(0.75) - mine.quantile(0.25)
        assert middle == pytest.approx(2 * stats.norm.ppf(0.75) * spread, rel=0.25)


def test_the_latent_comes_back_with_the_levels(per_level: FlowDensity) -> None:
    table = by_level(20, seed=2)
    z = per_level.transform(table)
    assert z.shape == (20, 1)
    back = per_level.inverse_transform(z, context=table)
    np.testing.assert_allclose(back["x"], table["x"], atol=1e-6)
    assert back["level"].tolist() == table["level"].tolist()
    with pytest.raises(InputError, match="context: the rows have levels or missing cells"):
        per_level.inverse_transform(z)
    with pytest.raises(InputError, match="context has 3 rows, but Z has 20"):
        per_level.inverse_transform(z, context=table[:3])


# -- prediction --------------------------------------------------------------


def test_predictions_read_levels_and_flags() -> None:
    rng = np.random.default_rng(0)
    n = 1200
    table = pd.DataFrame({"x": rng.normal(size=n), "level": rng.choice(["a", "b"], n)})
    gone = rng.random(n) < 0.4
    table.loc[gone, "x"] = np.nan
    y = gone ^ (table["level"] == "b")  # missing says it, together with the level
    model = HybridClassifier(training=TrainingConfig(steps=200), members=1, random_state=0)
    model.fit(table[:900], y[:900])
    assert model.score(table[900:], y[900:]) > 0.97


def test_a_head_on_levels_alone() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.choice(["u", "v"], 900), "b": rng.choice(["r", "s", "t"], 900)})
    mean = 3.0 * (table["a"] == "u") + 2.0 * (table["b"] == "t")
    y = mean + 0.1 * rng.normal(size=900)
    model = HybridRegressor(training=TrainingConfig(steps=300), members=1, random_state=0)
    model.fit(table, y)
    assert model.transform(table).shape == (900, 0)
    assert np.abs(model.predict(table) - mean).mean() < 0.15
    drawn, target = model.sample(5, random_state=0)
    assert (drawn.shape, len(target)) == ((5, 2), 5)


def test_the_mean_is_in_proportion_to_the_exposure() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=800), "years": rng.uniform(0.5, 4.0, 800)})
    y = rng.poisson(table["years"] * np.exp(0.5 * table["x"]))
    model = HybridRegressor(
        FLOW, head=PoissonHead(exposure="years"), training=BRIEF, members=1, random_state=0
    ).fit(table, y)
    twice = table.assign(years=2 * table["years"])
    np.testing.assert_allclose(model.predict(twice), 2 * model.predict(table), rtol=1e-9)
    # It is no part of x: neither the density nor the latent sees it.
    np.testing.assert_array_equal(model.score_samples(twice), model.score_samples(table))
    assert model.transform(table).shape == (800, 1)
    drawn, _ = model.sample(5, random_state=0)
    assert (drawn["years"] == 1.0).all()
    assert "years" in model.schema_.of_kind("exposure")
    with pytest.raises(InputError, match="exposure: column 'years' holds 0 at row 3"):
        model.predict(table.assign(years=np.where(np.arange(800) == 3, 0.0, 1.0)))
    with pytest.raises(ConfigError, match=r"'yaers' is no column of X.*did you mean 'years'"):
        clone(model).set_params(head=PoissonHead(exposure="yaers")).fit(table, y)


# -- rows unlike those of training -------------------------------------------


def test_several_new_things_at_once(per_level: FlowDensity) -> None:
    table = by_level(10, seed=3)
    table.loc[2, "x"] = np.nan
    table.loc[4, "level"] = "never"
    table.loc[6, "level"] = None
    with pytest.warns() as caught:
        found = per_level.score_samples(table)
    said = {warning.category: str(warning.message) for warning in caught}
    assert set(said) == {UnseenMissingWarning, UnseenCategoryWarning}
    assert "no missing cell in training: x" in said[UnseenMissingWarning]
    assert "column 'level': 'never', first at row 4" in said[UnseenCategoryWarning]
    assert np.isfinite(found).all()
    # The marginal of a level alone is its share.
    assert found[2] == pytest.approx(np.log(SHARES[LEVELS.index(table["level"][2])]), abs=0.1)


def test_a_missing_level_is_new_only_if_none_was_missing(per_level: FlowDensity) -> None:
    with pytest.warns(UnseenCategoryWarning, match="'level': a missing cell, first at row 0"):
        per_level.score_samples(
            pd.DataFrame({"x": [0.0], "level": pd.Series([None], dtype=object)})
        )
    table = by_level(300, seed=4)
    table.loc[::3, "level"] = None
    model = density().fit(table)
    assert model.schema_.columns[1].size == 4
    assert np.isfinite(model.score_samples(table)).all()
    assert 0.2 < model.sample(300, random_state=0)["level"].isna().mean() < 0.5


def test_text_where_numbers_were(per_level: FlowDensity) -> None:
    table = by_level(4, seed=5).astype(object)
    table["x"] = ["1.5", "2", "three", "4"]
    with pytest.raises(InputError, match="'x' held numbers in training and holds 'three' at row 2"):
        per_level.score_samples(table)


def test_a_column_that_is_constant_where_it_is_known() -> None:
    table = pd.DataFrame({"x": np.random.default_rng(0).normal(size=300), "tax": 7.0})
    table.loc[::4, "tax"] = np.nan
    model = density().fit(table)
    assert model.schema_.columns[1].kind == "categorical"
    drawn = model.sample(400, random_state=0)["tax"]
    assert set(drawn.dropna()) == {7.0}
    assert drawn.isna().mean() == pytest.approx(0.25, abs=0.1)
    with pytest.warns(UnseenCategoryWarning, match="'tax': 8.0"):
        model.score_samples(pd.DataFrame({"x": [0.0], "tax": [8.0]}))


@pytest.mark.parametrize("whole", [False, True], ids=["continuous", "tied"])
def test_missing_cells_of_a_circle(whole: bool) -> None:
    rng = np.random.default_rng(0)
    hour = rng.vonmises(0, 2, 600) * 12 / np.pi % 24
    hour = np.floor(hour) if whole else hour
    table = np.column_stack([hour, rng.normal(size=600)])
    table[::5, 0] = np.nan
    model = density(columns={0: Circle(period=24)}).fit(table)
    column = model.schema_.columns[0]
    assert (column.missing, column.lattice) == (pytest.approx(0.2), whole)
    drawn = model.sample(500, random_state=0)
    known = drawn[~np.isnan(drawn[:, 0]), 0]
    assert len(known) / 500 == pytest.approx(0.8, abs=0.1)
    assert ((known >= 0) & (known < 24)).all()
    np.testing.assert_allclose(
        model.score_samples(table + np.array([24, 0])), model.score_samples(table)
    )


# -- as they come, and back --------------------------------------------------

N = 240


def pandas_table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    text = rng.choice(["x", "y"], N)
    gone = np.arange(N) % 6 == 0
    return pd.DataFrame(
        {
            "float": rng.normal(size=N),
            "float32": rng.normal(size=N).astype("float32"),
            "gaps": np.where(gone, np.nan, rng.normal(size=N)),
            "int16": rng.integers(0, 9, N).astype("int16"),
            "Int64": pd.array(
                [None if g else int(v) for g, v in zip(gone, rng.integers(0, 9, N), strict=True)]
            ),
            "Int8": pd.array(rng.integers(-4, 5, N), dtype="Int8"),
            "bool": rng.random(N) < 0.5,
            "boolean": pd.array(
                [None if g else bool(v) for g, v in zip(gone, rng.random(N) < 0.5, strict=True)]
            ),
            "object": np.where(gone, None, text),
            "string": pd.array(np.where(gone, None, text), dtype="string"),
            "category": pd.Categorical(text, categories=["never", "y", "x"]),
            "ordered": pd.Categorical(text, categories=["y", "x"], ordered=True),
            "share": rng.uniform(size=N),
            "price": rng.exponential(size=N),
            "zone": 7,
            "word": "same",
        }
    )


def polars_table() -> pl.DataFrame:
    rng = np.random.default_rng(0)
    text = rng.choice(["x", "y"], N).tolist()
    gone = np.arange(N) % 6 == 0
    return pl.DataFrame(
        {
            "float": rng.normal(size=N),
            "gaps": pl.Series(rng.normal(size=N).astype("float32")).set(pl.Series(gone), None),
            "int16": pl.Series(rng.integers(0, 9, N), dtype=pl.Int16),
            "Int64": pl.Series(rng.integers(0, 9, N)).set(pl.Series(gone), None),
            "bool": pl.Series(rng.random(N) < 0.5).set(pl.Series(gone), None),
            "text": pl.Series(text).set(pl.Series(gone), None),
            "enum": pl.Series(text, dtype=pl.Enum(["never", "y", "x"])),
            "category": pl.Series(text, dtype=pl.Categorical),
            "share": rng.uniform(size=N),
            "price": rng.exponential(size=N),
            "zone": 7,
        }
    )


BOUNDED = {"share": Interval(low=0, high=1), "price": Positive()}


@pytest.mark.filterwarnings("ignore::hybridflow.errors.ConstantFeatureWarning")
@pytest.mark.filterwarnings("ignore::hybridflow.errors.DegenerateFeaturesWarning")
@pytest.mark.parametrize("make", [pandas_table, polars_table], ids=["pandas", "polars"])
def test_samples_are_tables_of_the_same_kind(make: Any) -> None:
    table = make()
    model = density(columns=BOUNDED).fit(table)
    drawn = model.sample(300, random_state=0)
    assert type(drawn) is type(table)
    assert list(drawn.columns) == list(table.columns)
    if isinstance(table, pd.DataFrame):
        assert drawn.dtypes.astype(str).tolist() == table.dtypes.astype(str).tolist()
        assert drawn["category"].dtype == table["category"].dtype  # with the unused one
        assert drawn["ordered"].dtype == table["ordered"].dtype
    else:
        assert drawn.schema == table.schema
    for name in table.columns:
        known = set(table[name].drop_nulls() if make is polars_table else table[name].dropna())
        mine = drawn[name].drop_nulls() if make is polars_table else drawn[name].dropna()
        if len(known) <= 2:  # levels and constants
            assert set(mine) == known, name
        assert (len(mine) < 300) == _has_gaps(table[name]), name
    assert ((drawn["share"] > 0) & (drawn["share"] < 1)).all()
    assert (drawn["price"] > 0).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(model.score_samples(drawn)).all()


def _has_gaps(series: Any) -> bool:
    return bool(series.null_count() if isinstance(series, pl.Series) else series.isna().any())


def test_an_array_of_objects_comes_back_as_one() -> None:
    frame = pandas_table()[["float", "object", "bool"]]
    rows = frame.to_numpy(dtype=object)
    model = density().fit(rows)
    drawn = model.sample(100, random_state=0)
    assert (drawn.dtype, drawn.shape) == (object, (100, 3))
    assert set(drawn[:, 1]) == {"x", "y", None}
    assert set(drawn[:, 2]) == {False, True}
    assert all(isinstance(cell, float) for cell in drawn[:, 0])
    assert np.isfinite(model.score_samples(drawn)).all()
    named = density().fit(frame).score_samples(frame)
    np.testing.assert_allclose(model.score_samples(rows), named)


# -- files, copies, weights --------------------------------------------------


def mixed(n: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    table = by_level(n, seed=6)
    table["count"] = np.random.default_rng(7).integers(0, 5, n)
    table.loc[::7, "x"] = np.nan
    table.loc[::11, "level"] = None
    return table, np.asarray(table["count"] > 1)


def test_a_saved_model_answers_the_same(tmp_path: Path) -> None:
    table, y = mixed()
    model = HybridClassifier(FLOW, training=BRIEF, members=2, random_state=0).fit(table, y)
    model.save(tmp_path / "m.hflow")
    again = hybridflow.load(tmp_path / "m.hflow")
    copied = pickle.loads(pickle.dumps(model))
    for other in (again, copied):
        np.testing.assert_array_equal(other.score_samples(table), model.score_samples(table))
        np.testing.assert_array_equal(other.predict_proba(table), model.predict_proba(table))
        drawn, expected = (m.sample(5, random_state=0)[0] for m in (other, model))
        pd.testing.assert_frame_equal(drawn, expected)
    assert again.schema_ == model.schema_
    assert max(verify(tmp_path / "m.hflow").differences.values()) < 1e-6
    refitted = clone(model).fit(table, y)
    np.testing.assert_array_equal(refitted.score_samples(table), model.score_samples(table))


def test_weights_are_repeated_rows() -> None:
    table, y = mixed(80)
    weight = np.random.default_rng(8).integers(0, 3, 80)
    repeated = np.repeat(np.arange(80), weight)
    settings = {"training": BRIEF, "members": 1, "random_state": 0}
    weighted = HybridClassifier(FLOW, **settings).fit(table, y, sample_weight=weight)
    other = HybridClassifier(FLOW, **settings).fit(table.iloc[repeated], y[repeated])
    np.testing.assert_allclose(
        weighted.score_samples(table), other.score_samples(table), rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(
        weighted.predict_proba(table), other.predict_proba(table), rtol=0, atol=1e-6
    )


def test_given_a_label_rows_keep_their_columns() -> None:
    table, y = mixed()
    model = HybridClassifier(FLOW, training=BRIEF, members=1, random_state=0).fit(table, y)
    drawn, labels = model.sample(40, y=True, random_state=0)
    assert labels.tolist() == [True] * 40
    assert drawn.dtypes.tolist() == table.dtypes.tolist()
    assert model.score_joint(drawn, labels).shape == (40,)
