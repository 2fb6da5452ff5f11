"""Declared columns: circles, half-lines and intervals, from the fit to the saved file."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.stats
from sklearn.base import clone

import hybridflow
from hybridflow import (
    Circle,
    FlowDensity,
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
    Interval,
    Positive,
    Registry,
    TrainingConfig,
)
from hybridflow.bases import StudentTBase
from hybridflow.errors import ConfigError, HybridFlowWarning, InputError
from hybridflow.estimators.blueprint import flows_for
from hybridflow.flows import SplineCoupling
from hybridflow.specs import Real

Rows = np.ndarray[Any, np.dtype[np.float64]]

SMALL = SplineCoupling(layers=2, bins=6, hidden_units=16, hidden_layers=1)
BRIEF = TrainingConfig(steps=60)
COLUMNS = {"hour": Circle(period=24), "price": Positive(), "share": Interval(low=0, high=1)}
BY_POSITION = dict(enumerate(COLUMNS.values()))
rng = np.random.default_rng(0)


def hours(n: int, kappa: float = 2.0) -> Rows:
    """Around midnight."""
    return np.mod(rng.vonmises(0, kappa, n), 2 * np.pi) * 12 / np.pi


def table(n: int = 400) -> Rows:
    hour = hours(n)
    price = np.exp(rng.normal(size=n) + np.sin(hour * np.pi / 12))
    return np.column_stack([hour, price, rng.beta(0.7, 2, n), rng.normal(size=n)])


X = table()
FRAME = pd.DataFrame(X, columns=[*COLUMNS, "plain"])


def density(columns: Any = BY_POSITION, **settings: Any) -> FlowDensity:
    return FlowDensity(SMALL, columns=columns, training=BRIEF, random_state=0, **settings)


@pytest.fixture(scope="module")
def fitted() -> FlowDensity:
    return density().fit(X)


class TestAllEstimators:
    Y = (X[:, 1] > 1).astype(int)

    @pytest.mark.parametrize(
        "estimator",
        [
            FlowDensity(SMALL, columns=COLUMNS, training=BRIEF, random_state=0),
            FlowOutlierDetector(SMALL, columns=COLUMNS, training=BRIEF, random_state=0),
            HybridClassifier(SMALL, columns=COLUMNS, training=BRIEF, random_state=0),
            HybridRegressor(SMALL, columns=COLUMNS, training=BRIEF, random_state=0),
        ],
        ids=lambda estimator: type(estimator).__name__,
    )
    def test_fit_answer_draw_and_come_back(self, estimator, tmp_path) -> None:
        y = (
            X[:, 3] + np.cos(X[:, 0] * np.pi / 12)
            if isinstance(estimator, HybridRegressor)
            else (self.Y)
        )
        fitted = clone(estimator).fit(FRAME, y)
        assert [column.support for column in fitted.schema_.columns] == [*COLUMNS.values(), Real()]
        z = fitted.transform(FRAME)
        assert np.abs(z[:, 0]).max() <= math.pi + 1e-9
        np.testing.assert_allclose(fitted.inverse_transform(z), X, rtol=1e-7, atol=1e-7)
        drawn = fitted.sample(200, random_state=0)
        drawn = drawn[0] if isinstance(drawn, tuple) else drawn
        assert list(drawn.columns) == list(FRAME.columns)
        fitted.save(tmp_path / "model.hflow")
        again = hybridflow.load(tmp_path / "model.hflow")
        assert again.columns == COLUMNS
        assert again.schema_ == fitted.schema_
        np.testing.assert_array_equal(again.score_samples(FRAME), fitted.score_samples(FRAME))
        beyond = FRAME.head(3).assign(price=[-1.0, 0.0, 1.0], share=[0.5, 0.5, 7.0])
        assert (again.score_samples(beyond) == -np.inf).all()
        if hasattr(fitted, "predict"):
            assert np.isfinite(again.predict(beyond)).all()
            assert len(again.predict(beyond)) == 3

    def test_a_head_reads_the_point_on_the_circle(self) -> None:
        """Day against night: a half circle around midnight, whatever the number is."""
        hour = rng.uniform(0, 24, 600)
        night = (np.cos(hour * np.pi / 12) > 0).astype(int)
        classifier = HybridClassifier(
            SMALL, columns={0: Circle(period=24)}, training=BRIEF, random_state=0
        )
        classifier.fit(hour[:, None], night)
        assert classifier.score(hour[:, None], night) > 0.95
        around = classifier.predict_proba([[0.0], [24.0], [-24.0], [1e-12], [24 - 1e-12]])
        np.testing.assert_allclose(around, around[:1].repeat(5, 0), atol=1e-6)


def integral(model: FlowDensity, low: float, high: float) -> float:
    """Of the density of the only column, with points crowded at both ends."""
    t = np.linspace(-40, 18, 30_001)
    x = low + (high - low) / (1 + np.exp(-t))
    density_ = np.exp(model.score_samples(x[:, None]))
    return float(np.trapezoid(np.where(np.isfinite(density_), density_, 0.0), x))


LAWS: dict[str, tuple[Callable[[int], Rows], Any, float, float]] = {
    # name: (draw, support, ends of the quadrature)
    "log-normal": (lambda n: rng.lognormal(sigma=1.2, size=n), Positive(), 0, 3e5),
    "gamma": (lambda n: rng.gamma(0.8, size=n), Positive(), 0, 3e5),
    "beta": (lambda n: rng.beta(0.7, 0.9, size=n), Interval(low=0, high=1), 0, 1),
    "von-mises": (hours, Circle(period=24), 0, 24),
}


@pytest.mark.parametrize("name", LAWS)
def test_a_declared_column_fits_better_and_integrates_to_one(name: str) -> None:
    draw, support, low, high = LAWS[name]
    rows, fresh = draw(400)[:, None], draw(4000)[:, None]
    declared, plain = density({0: support}).fit(rows), density(None).fit(rows)
    assert declared.score(fresh) > plain.score(fresh) + 0.02
    assert integral(declared, low, high) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("mean", [0.0, 12.0], ids=["midnight", "noon"])
def test_von_mises_is_found_and_knows_of_no_cut(mean: float) -> None:
    law = scipy.stats.vonmises(3.0)
    rows = np.mod(law.rvs(1500, random_state=1) * 12 / np.pi + mean, 24)[:, None]
    model = density({0: Circle(period=24)}).fit(rows)
    grid = np.linspace(0, 24, 2001)[:-1]
    truth = law.logpdf((grid - mean) * np.pi / 12) + np.log(np.pi / 12)
    gap = np.exp(truth) * (truth - model.score_samples(grid[:, None]))
    assert -1e-3 < gap.mean() * 24 < 0.02
    for cut in (0.0, mean, 12.0):
        left, right = model.score_samples([[cut - 1e-9], [cut + 1e-9]])
        assert left == pytest.approx(right, abs=1e-5)


class TestSamples:
    def test_never_leave_the_support(self, fitted) -> None:
        drawn = fitted.sample(100_000, random_state=0)
        assert ((drawn[:, 0] >= 0) & (drawn[:, 0] < 24)).all()
        assert (drawn[:, 1] > 0).all()
        assert ((drawn[:, 2] > 0) & (drawn[:, 2] < 1)).all()
        assert np.isfinite(drawn).all()
        assert np.isfinite(fitted.score_samples(drawn)).all()

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_nor_by_rounding_to_a_narrow_type(self, dtype: str) -> None:
        n = 20_000
        near = np.column_stack(
            [hours(400, 1e3), rng.lognormal(-16, 2, 400), rng.beta(20, 0.02, 400) * 0.999]
        ).astype(dtype)
        near[:, 1] = np.maximum(near[:, 1], np.finfo(dtype).smallest_subnormal)
        near[:, 2] = np.clip(near[:, 2], 0.01, 1 - np.finfo(dtype).eps)
        drawn = density(validation=None).fit(near).sample(n, random_state=0)
        assert drawn.dtype == dtype
        assert ((drawn[:, 0] >= 0) & (drawn[:, 0] < 24)).all()
        assert (drawn[:, 1] > 0).all()
        assert ((drawn[:, 2] >= 0) & (drawn[:, 2] <= 1)).all()

    def test_heavy_latent_tails_stay_finite(self) -> None:
        model = density(base=StudentTBase(df=0.5)).fit(X)
        drawn = model.sample(20_000, random_state=0)
        assert np.isfinite(drawn).all()
        assert (drawn[:, 1] > 0).all()


@pytest.mark.filterwarnings("ignore::hybridflow.errors.SmallSampleWarning")
class TestTiedColumns:
    """Cells are cut at bounds and go around on circles; masses sum to at most one."""

    def masses(self, levels: Rows, values: Rows, support: Any) -> tuple[Rows, Rows]:
        model = density({0: support}).fit(values[:, None])
        assert model.schema_.columns[0].lattice
        drawn = model.sample(5000, random_state=0)[:, 0]
        return np.exp(model.score_samples(levels[:, None])), drawn

    @pytest.mark.parametrize("support", [Positive(), Interval(low=0, high=9)], ids=["half", "box"])
    def test_whole_numbers_from_zero(self, support) -> None:
        values = np.minimum(rng.poisson(1.0, 500), 9).astype(float)
        masses, drawn = self.masses(np.arange(10.0), values, support)
        assert masses.sum() == pytest.approx(1, abs=0.02)
        assert masses[:3] == pytest.approx(scipy.stats.poisson(1).pmf(range(3)), abs=0.06)
        assert (drawn == np.floor(drawn)).all()
        assert drawn.min() == 0
        assert (drawn == 0).mean() == pytest.approx(masses[0], abs=0.03)

    def test_the_ends_of_an_interval(self) -> None:
        values = rng.binomial(10, 0.5, 500) / 10
        values[:20], values[20:40] = 0.0, 1.0
        masses, drawn = self.masses(np.arange(11) / 10, values, Interval(low=0, high=1))
        assert masses.sum() == pytest.approx(1, abs=0.02)
        assert masses[[0, -1]] == pytest.approx(0.04, abs=0.025)
        assert set(drawn) <= set(np.arange(11) / 10)
        assert {0.0, 1.0} <= set(drawn)

    def test_prices_in_cents_are_never_nothing(self) -> None:
        values = np.ceil(rng.exponential(1.5, 500)) / 100
        masses, drawn = self.masses(np.arange(1, 60) / 100, values, Positive())
        assert masses.sum() == pytest.approx(1, abs=0.02)
        assert drawn.min() == 0.01

    def test_full_hours_go_around(self) -> None:
        values = np.mod(np.rint(rng.normal(0, 2, 600)), 24)
        masses, drawn = self.masses(np.arange(24.0), values, Circle(period=24))
        assert masses.sum() == pytest.approx(1, abs=0.02)
        assert masses[0] == pytest.approx(0.2, abs=0.05)
        assert masses[1] == pytest.approx(masses[23], abs=0.06)
        assert set(drawn) <= set(range(24))
        assert (drawn > 20).any()

    def test_a_lattice_on_a_circle_closes(self) -> None:
        values = rng.choice([0.0, 100.0, 200.0], 300)
        schema = density({0: Circle(period=360)}).fit(values[:, None]).schema_
        assert schema.columns[0].step == 20
        schema = density({0: Circle(period=2 * math.pi)}).fit(np.floor(hours(300))[:, None]).schema_
        assert not schema.columns[0].lattice

    def test_24_is_0(self) -> None:
        values = np.floor(hours(300))
        shifted = np.where(rng.random(300) < 0.5, values, values - 24)
        models = [density({0: Circle(period=24)}).fit(v[:, None]) for v in (values, shifted)]
        assert models[0].schema_ == models[1].schema_
        scores = [model.score_samples([[0.0], [24.0], [-24.0]]) for model in models]
        np.testing.assert_allclose(scores, scores[0][0], atol=1e-9)

    def test_values_on_a_bound_beside_others_are_predicted_from(self) -> None:
        values = rng.poisson(1.0, 400).astype(float)
        model = HybridClassifier(
            SMALL, columns={0: Positive()}, training=TrainingConfig(steps=150), random_state=0
        ).fit(values[:, None], values == 0)
        assert model.score(values[:, None], values == 0) > 0.97


class TestOutside:
    def test_scores_minus_infinity_without_a_warning(self, fitted) -> None:
        row = X[0]
        for j, values in ((1, [-2.0, 0.0]), (2, [-0.1, 0.0, 1.0, 1e9])):
            for value in values:
                changed = row.copy()
                changed[j] = value
                assert fitted.score_samples([changed])[0] == -np.inf

    def test_members_agree(self) -> None:
        model = density(members=2).fit(X)
        bad = X[:1].copy()
        bad[0, 1] = -1
        assert model.score_samples(bad).tolist() == [-np.inf]

    def test_any_number_lies_on_a_circle(self, fitted) -> None:
        turned = X[:5] + np.array([240.0, 0, 0, 0])
        np.testing.assert_allclose(fitted.score_samples(turned), fitted.score_samples(X[:5]))

    @pytest.mark.parametrize(
        ("j", "value", "said"),
        [
            (1, -3.0, r"'x1' holds -3 at row 7, outside its support, above 0; correct or drop"),
            (1, 0.0, r"'x1' holds 0 at row 7, on a bound of its support, above 0, where"),
            (2, 1.5, r"'x2' holds 1\.5 at row 7, outside its support, from 0 to 1; correct"),
            (2, 1.0, r"'x2' holds 1 at row 7, on a bound of its support, from 0 to 1, where"),
        ],
        ids=["below", "on-zero", "above", "on-one"],
    )
    def test_is_refused_at_fit(self, j, value, said) -> None:
        bad = X.copy()
        bad[7, j] = value
        with pytest.raises(InputError, match=f"^column {said}"):
            density().fit(bad)

    def test_says_how_many(self) -> None:
        bad = FRAME.assign(price=-FRAME.price)
        with pytest.raises(InputError, match=r"'price' holds .* at row 0 \(and such values in 399"):
            density(COLUMNS).fit(bad)

    def test_rows_without_weight_do_not_count(self) -> None:
        bad, weight = X.copy(), np.ones(len(X))
        bad[7, 1], weight[7] = -3.0, 0.0
        assert np.isfinite(density().fit(bad, sample_weight=weight).score(X))


class TestParameter:
    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_names_of_a_frame(self, library) -> None:
        frame = FRAME if library == "pandas" else pl.DataFrame(FRAME)
        by_name = density(COLUMNS).fit(frame)
        by_position = density().fit(X)
        np.testing.assert_array_equal(by_name.score_samples(frame), by_position.score_samples(X))
        reordered = frame[["plain", "share", "price", "hour"]]
        np.testing.assert_array_equal(
            by_name.score_samples(reordered), by_position.score_samples(X)
        )

    def test_numbers_of_a_numbered_frame(self) -> None:
        frame = pd.DataFrame(X, columns=[5, 6, 7, 8])
        assert density({6: Positive()}).fit(frame).schema_.columns[1].support == Positive()

    @pytest.mark.parametrize(
        ("columns", "rows", "said"),
        [
            ({"hours": Circle(period=24)}, FRAME, r"'hours' is no column of X.*mean 'hour'\?"),
            ({4: Positive()}, X, "4 is no column of an array of 4 columns.* 0 to 3"),
            ({-1: Positive()}, X, "-1 is no column of an array"),
            ({"price": Positive()}, X, "'price' is no column of an array.* by their positions"),
            ({1: Positive()}, FRAME, "1 is no column of X, which has hour, price, share, plain"),
            ({True: Positive()}, X, "True is no column"),
            ({1: Positive}, X, r"for 1, got <class .*Positive'>: write Positive\(...\)"),
            ({1: "positive"}, X, r"expected Positive\(\), Interval\(low=0, high=1\).*'positive'"),
            ([Positive()], X, r'columns: expected a dict.*write \{"price": Positive\(\)\}'),
        ],
        ids=["name", "position", "negative", "array", "frame", "bool", "class", "text", "list"],
    )
    def test_what_it_cannot_be(self, columns, rows, said) -> None:
        with pytest.raises(ConfigError, match=said):
            density(columns).fit(rows)

    @pytest.mark.parametrize(
        ("build", "said"),
        [
            (lambda: Circle(period=0), "period: input should be greater than 0, got 0"),
            (lambda: Interval(low=1, high=1), "low must be below high"),
            (lambda: Interval(low=-1e308, high=1e308), "high - low must be finite"),
            (lambda: Interval(low=0, high=math.inf), "high: input should be a finite number"),
        ],
        ids=["period", "empty", "too-wide", "infinite"],
    )
    def test_supports_that_are_none(self, build, said) -> None:
        with pytest.raises(ConfigError, match=said):
            build()

    def test_scikit_learn_reads_and_copies_it(self) -> None:
        model = density()
        assert model.get_params()["columns"] is BY_POSITION
        copy = clone(model)
        assert copy.columns == BY_POSITION
        assert copy.set_params(columns=None).columns is None
        assert "Circle" in repr(model)

    def test_real_is_nothing_special(self) -> None:
        plain = density(None).fit(X).score_samples(X)
        np.testing.assert_array_equal(density({3: Real()}).fit(X).score_samples(X), plain)


class TestParts:
    @pytest.mark.parametrize("flow", ["maf", "realnvp", "glow"])
    def test_every_flow_takes_bounded_columns(self, flow) -> None:
        model = density({1: Positive(), 2: Interval(low=0, high=1)}).set_params(flow=flow).fit(X)
        drawn = model.sample(1000, random_state=0)
        assert (drawn[:, 1] > 0).all()
        assert ((drawn[:, 2] > 0) & (drawn[:, 2] < 1)).all()

    def test_a_flow_without_circles_names_those_that_have_them(self) -> None:
        said = (
            r"flow 'maf' supports real columns, and 'hour' is a circle; use flow='circular-spline'"
        )
        with pytest.raises(ConfigError, match=said):
            density(COLUMNS).set_params(flow="maf").fit(FRAME)

    def test_which_flows_those_are_is_asked_of_the_registry(self) -> None:
        class Plugin:
            @hybridflow.hookimpl
            def hybridflow_flows(self):
                return [Registry().resolve("flow", "maf")[0]]

        registry = Registry(builtins=False, entry_points=False)
        registry.register(Plugin())
        assert flows_for(frozenset({"real", "circle"}), registry) == []
        assert flows_for(frozenset({"real"}), registry) == ["maf"]

    @pytest.mark.parametrize("base", ["student-t", "mixture", "uniform"])
    def test_every_base_goes_with_circles(self, base) -> None:
        model = density().set_params(base=base).fit(X)
        drawn = model.sample(500, random_state=0)
        assert ((drawn[:, 0] >= 0) & (drawn[:, 0] < 24)).all()

    def test_circles_alone(self) -> None:
        rows = np.column_stack([hours(300), hours(300) * 15])
        model = density({0: Circle(period=24), 1: Circle(period=360)}).fit(rows)
        assert np.isfinite(model.score(rows))

    def test_one_angle_that_follows_another(self) -> None:
        """Two angles with a fixed difference up to noise, around the circle without a seam."""
        first = rng.uniform(0, 2 * np.pi, 800)
        rows = np.column_stack([first, first + rng.vonmises(1.0, 8.0, 800)])
        model = density({0: Circle(period=2 * np.pi), 1: Circle(period=2 * np.pi)})
        model.set_params(training=TrainingConfig(steps=150, learning_rate=2e-2)).fit(rows)
        truth = -math.log(2 * np.pi) - scipy.stats.vonmises(8.0).entropy()
        independent = -2 * math.log(2 * np.pi)
        assert model.score(rows) > independent + 0.75 * (truth - independent)

    def test_a_head_that_reads_the_base_refuses_circles(self) -> None:
        model = HybridClassifier(
            SMALL, base="class-conditional", head="bayes", columns=COLUMNS, training=BRIEF
        )
        with pytest.raises(ConfigError, match=r"head 'bayes' reads the base.*'hour' is a circle"):
            model.fit(FRAME, X[:, 1] > 1)

    def test_a_constant_circle_and_copies_of_one(self) -> None:
        hour = hours(300)
        rows = np.column_stack([hour, hour, np.full(300, 3.0)])
        model = density(dict.fromkeys(range(3), Circle(period=24)))
        with pytest.warns(HybridFlowWarning):
            model.fit(rows)
        assert np.isfinite(model.score_samples(rows)).all()
        assert (model.sample(5, random_state=0)[:, 2] == 3).all()


def test_units_of_a_positive_column_shift_the_score_by_the_known_constant() -> None:
    cents = X * np.array([1, 100, 1, 1])
    scores = [density().fit(rows).score_samples(rows) for rows in (X, cents)]
    np.testing.assert_allclose(scores[0] - scores[1], math.log(100), atol=1e-4)
