"""Calibration: exact ranks, coverage in simulations, temperature, weights as repetition."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import betabinom

from hybridflow.calibration import (
    Calibration,
    Conformal,
    Fold,
    fit_temperature,
    interval,
    prediction_set,
    tail_probability,
    tempered,
)
from hybridflow.calibration.conformal import check_coverage, rows_needed
from hybridflow.errors import ConfigError
from hybridflow.laws import Discretized, GaussianLaw, Law, PoissonLaw, StudentTLaw

Floats = NDArray[np.float64]

COVERAGES = ["0.05", "0.5", "0.8", "0.9", "0.95", "0.99"]
FALSE_ALARM = 1e-5  # of each test of a coverage


def conformal(scores: Floats, weights: Floats | None = None) -> Conformal:
    weights = np.ones(len(scores)) if weights is None else weights
    return Conformal(folds=(Fold.of((0,), scores, weights),))


def band(rows: int, calibration: int, coverage: float) -> tuple[float, float]:
    """Return between which shares a coverage lies but once in 1 / FALSE_ALARM times."""
    rank = math.ceil((calibration + 1) * coverage - 1e-9)
    law = betabinom(rows, rank, calibration + 1 - rank)
    return law.ppf(FALSE_ALARM / 2) / rows, law.ppf(1 - FALSE_ALARM / 2) / rows


# -- ranks ----------------------------------------------------------------


@pytest.mark.parametrize("coverage", COVERAGES)
def test_the_threshold_is_the_exact_rank(coverage: str) -> None:
    """Counted with fractions: at least ceil((n + 1) c) of n + 1 rows must conform as well."""
    for n in range(1, 130):
        rank = math.ceil((n + 1) * Fraction(coverage))  # of nonconformity, from below
        scores = conformal(np.arange(1.0, n + 1))
        expected = -math.inf if rank > n else n + 1 - rank
        assert scores.threshold(float(coverage)) == expected
        assert scores.is_enough(float(coverage)) == (rank <= n)
        assert (n >= rows_needed(float(coverage))) == (rank <= n)


@pytest.mark.parametrize("coverage", COVERAGES)
def test_p_values_agree_with_the_threshold(coverage: str) -> None:
    rng = np.random.default_rng(0)
    candidates = np.linspace(-0.5, 6.5, 141)
    for n in (5, 19, 60):
        scores = conformal(rng.integers(0, 7, n).astype(float))
        p = scores.p_value([candidates])
        brute = [(1 + sum(s <= y for s in scores.folds[0].scores)) / (n + 1) for y in candidates]
        np.testing.assert_allclose(p, brute, rtol=1e-14)
        predicted = p > scores.level(float(coverage))
        np.testing.assert_array_equal(predicted, candidates >= scores.threshold(float(coverage)))


def test_the_p_value_of_an_exchangeable_row_is_uniform() -> None:
    """All n + 1 choices of the new row among n + 1 rows, so that nothing is left to chance."""
    rows = np.random.default_rng(1).normal(size=20)
    p = [float(conformal(np.delete(rows, i)).p_value([rows[i]])) for i in range(20)]
    np.testing.assert_allclose(np.sort(p), np.arange(1, 21) / 20)


def test_whole_weights_are_repetitions() -> None:
    rng = np.random.default_rng(2)
    values, counts = rng.normal(size=30), rng.integers(0, 4, 30)
    weighted, repeated = conformal(values, counts), conformal(np.repeat(values, counts))
    assert weighted.rows == repeated.rows
    candidates = rng.normal(size=50)
    np.testing.assert_allclose(
        weighted.p_value([candidates]), repeated.p_value([candidates]), rtol=1e-14
    )
    for coverage in map(float, COVERAGES):
        assert weighted.threshold(coverage) == repeated.threshold(coverage)


def test_the_order_of_rows_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    values, weights = rng.normal(size=40).round(1), rng.random(40)
    order = rng.permutation(40)
    assert Fold.of((0, 2), values, weights).counts.sum() == pytest.approx(weights.sum())
    one, other = conformal(values, weights), conformal(values[order], weights[order])
    np.testing.assert_allclose(one.p_value([values]), other.p_value([values]), rtol=1e-13)


def test_a_calibration_comes_back_from_json() -> None:
    values = np.random.default_rng(4).normal(size=9) * 1e-9
    found = Calibration(temperature=1.25, outputs=(conformal(values, np.arange(9.0)),), unseen=True)
    assert Calibration.from_json(found.model_dump(mode="json")) == found


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"members": ()}, "members"),
        ({"members": (-1,)}, "members"),
        ({"members": (0,), "scores": (2.0, 1.0)}, "ascend"),
        ({"members": (0,), "scores": (1.0, 2.0), "weights": (1.0,)}, "1 weights for 2 scores"),
        ({"members": (0,), "scores": (1.0,), "weights": (0.0,)}, "weights"),
        ({"members": (0,), "scores": (math.nan,)}, "scores"),
    ],
)
def test_a_fold_that_cannot_be(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Fold(**fields)


@pytest.mark.parametrize("coverage", [0, 1, -0.1, 90, True, "0.9", math.nan, None], ids=repr)
def test_a_coverage_that_cannot_be(coverage: object) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        check_coverage(coverage)  # type: ignore[arg-type]


# -- intervals ------------------------------------------------------------


def wrong_law(x: Floats) -> Law:
    """Return a law with the wrong centre and half of the spread."""
    return GaussianLaw(x + 0.3, 0.5 * np.exp(0.3 * x))


def numbers(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    x = rng.normal(size=n)
    return x, x + np.exp(0.3 * x) * rng.standard_t(3, size=n)


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_intervals_of_a_wrong_law_cover(coverage: float) -> None:
    rng = np.random.default_rng(5)
    x, y = numbers(rng, 400)
    scores = conformal(tail_probability(wrong_law(x), y))
    x, y = numbers(rng, 4000)
    lower, upper = interval([wrong_law(x)], scores, coverage).T
    low, high = band(4000, 400, coverage)
    assert low <= ((lower <= y) & (y <= upper)).mean() <= high


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_intervals_of_counts_cover_and_end_on_counts(coverage: float) -> None:
    rng = np.random.default_rng(6)

    def draw(n: int) -> tuple[Law, Floats]:
        rate = rng.gamma(2.0, 10.0, size=n)
        return PoissonLaw(rate), rng.negative_binomial(5, 5 / (5 + rate)).astype(float)

    law, y = draw(400)
    scores = conformal(tail_probability(law, y))
    law, y = draw(4000)
    ends = interval([law], scores, coverage)
    np.testing.assert_array_equal(ends, np.round(ends))
    # Ties of discrete scores only make intervals cover more.
    assert ((ends[:, 0] <= y) & (y <= ends[:, 1])).mean() >= band(4000, 400, coverage)[0]


@pytest.mark.parametrize(
    "law",
    [
        GaussianLaw(np.full(60, 2.0), np.full(60, 3.0)),
        StudentTLaw(np.full(60, 2.5), np.full(60, 2.0), np.full(60, 3.0)),
        PoissonLaw(np.full(60, 4.0)),
        Discretized(GaussianLaw(np.full(60, 2.0), np.full(60, 3.0)), step=0.1),
    ],
    ids=["gaussian", "student-t", "poisson", "discretized"],
)
@pytest.mark.parametrize("coverage", [0.3, 0.8, 0.95])
def test_an_interval_is_all_y_whose_p_value_is_high_enough(law: Law, coverage: float) -> None:
    """Ties included: a held-out row that comes again is inside, or outside, as it must be."""
    y = law[:1].sample(60, np.random.default_rng(7))[0]
    scores = conformal(tail_probability(law, y))
    p = scores.p_value([tail_probability(law, y) * (1 + 1e-9)])
    lower, upper = interval([law], scores, coverage).T
    np.testing.assert_array_equal((lower <= y) & (y <= upper), p > scores.level(coverage))


def test_intervals_grow_with_the_coverage() -> None:
    x, y = numbers(np.random.default_rng(8), 99)
    scores = conformal(tail_probability(wrong_law(x), y))
    ends = [interval([wrong_law(x)], scores, c) for c in (0.1, 0.5, 0.9, 0.98)]
    for inner, outer in pairwise(ends):
        assert (outer[:, 0] <= inner[:, 0]).all()
        assert (outer[:, 1] >= inner[:, 1]).all()


def test_intervals_follow_shift_and_scale_of_y() -> None:
    x, y = numbers(np.random.default_rng(9), 99)
    law = GaussianLaw(x, np.exp(0.1 * x))
    moved = GaussianLaw(100 + 7 * x, 7 * np.exp(0.1 * x))
    one = interval([law], conformal(tail_probability(law, y)), 0.9)
    other = interval([moved], conformal(tail_probability(moved, 100 + 7 * y)), 0.9)
    np.testing.assert_allclose(other, 100 + 7 * one, rtol=1e-9)


def test_too_few_rows_give_infinite_intervals() -> None:
    law = GaussianLaw([0.0, 1.0], [1.0, 1.0])
    few = conformal(np.full(8, 0.4))
    assert np.isinf(interval([law], few, 0.9)).all()
    assert np.isfinite(interval([law], few, 0.85)).all()
    assert np.isinf(interval([law], Conformal(), 0.1)).all()


def test_rows_beyond_any_tail_give_infinite_intervals() -> None:
    """A law that calls a fifth of the rows impossible cannot say where 90 % lie."""
    law = GaussianLaw(np.zeros(100), np.full(100, 1e-3))
    scores = conformal(tail_probability(law, np.where(np.arange(100) < 20, 1e3, 0.0)))
    assert np.isinf(interval([law], scores, 0.9)).all()
    assert np.isfinite(interval([law], scores, 0.75)).all()


def test_a_censored_row_counts_as_the_strangest_that_it_may_be() -> None:
    law = GaussianLaw(np.zeros(3), np.ones(3))
    score = tail_probability(law, [1.0, -2.0, 0.0], [np.inf, 0.5, 0.0])
    np.testing.assert_allclose(score, [0.0, law.cdf(-2.0)[0], 0.5])


# -- several folds --------------------------------------------------------


def folded(rng: np.random.Generator, sizes: tuple[int, ...]) -> Conformal:
    folds = []
    for member, size in enumerate(sizes):
        x, y = numbers(rng, size)
        score = tail_probability(GaussianLaw(x + 0.2 * member, np.exp(0.3 * x)), y)
        folds.append(Fold.of((member,), score, np.ones(size)))
    return Conformal(folds=tuple(folds))


def test_one_fold_in_parts_is_one_fold() -> None:
    rng = np.random.default_rng(10)
    x, y = numbers(rng, 60)
    law = wrong_law(x)
    score = tail_probability(law, y)
    parts = [Fold.of((0,), part, np.ones(20)) for part in np.split(score, 3)]
    for coverage in (0.5, 0.8, 0.95):
        np.testing.assert_allclose(
            interval([law] * 3, Conformal(folds=tuple(parts)), coverage),
            interval([law], conformal(score), coverage),
            rtol=1e-5,  # levels are widened by 1e-6
        )


@pytest.mark.parametrize("counts", [False, True], ids=["real", "counts"])
def test_ends_of_several_folds_are_those_of_cv_plus(counts: bool) -> None:
    """By the definition: order statistics of the ends that each held-out row implies."""
    rng = np.random.default_rng(11)
    laws: list[Law]
    if counts:
        laws = [PoissonLaw(rng.gamma(3.0, 4.0, size=25)) for _ in range(3)]
    else:
        scale = rng.gamma(3.0, size=25)
        laws = [StudentTLaw(np.full(25, 3.0), rng.normal(size=25), scale) for _ in range(2)]
        laws.append(GaussianLaw(rng.normal(size=25), scale))
    folds = tuple(Fold.of((m,), rng.random(s) / 2, np.ones(s)) for m, s in enumerate((20, 15, 7)))
    scores = Conformal(folds=folds)
    pairs = [(law, s) for law, fold in zip(laws, folds, strict=True) for s in fold.scores]
    lowers = np.sort([law.quantile(s) for law, s in pairs], axis=0)
    uppers = np.sort([law.quantile(1 - s) for law, s in pairs], axis=0)
    for coverage in (0.7, 0.9, 0.95):
        rank = math.ceil(43 * coverage - 1e-9)
        found = interval(laws, scores, coverage)
        np.testing.assert_allclose(found[:, 0], lowers[42 - rank], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[:, 1], uppers[rank - 1], rtol=1e-4, atol=1e-5)


def test_cv_plus_of_a_least_squares_line_covers() -> None:
    """Members trained without their fold, on many tables, each with one new row."""
    rng, hits, tables = np.random.default_rng(12), 0, 600
    for _ in range(tables):
        x = np.column_stack([np.ones(41), rng.normal(size=(41, 3))])
        y = x.sum(1) + rng.standard_t(4, size=41)
        folds, laws = [], []
        for member, fold in enumerate(np.split(np.arange(40), 4)):
            train = np.setdiff1d(np.arange(40), fold)
            line = np.linalg.lstsq(x[train], y[train])[0]
            score = tail_probability(GaussianLaw(x[fold] @ line, np.ones(10)), y[fold])
            folds.append(Fold.of((member,), score, np.ones(10)))
            laws.append(GaussianLaw(x[40:] @ line, np.ones(1)))
        (ends,) = interval(laws, Conformal(folds=tuple(folds)), 0.9)
        hits += ends[0] <= y[40] <= ends[1]
    # Four standard errors of a binomial share to either side; the means are linear in 40 rows,
    # so that what CV+ covers more than 0.9 is small.
    assert abs(hits / tables - 0.91) <= 0.01 + 4 * math.sqrt(0.09 / tables)


# -- sets -----------------------------------------------------------------


def classes(rng: np.random.Generator, n: int) -> tuple[Floats, NDArray[np.intp]]:
    """Return log-probabilities that are three times too bold, and the classes."""
    true = log_softmax(rng.normal(size=(n, 4)), axis=1)
    code = (true + rng.gumbel(size=true.shape)).argmax(1)
    return tempered(true, 1 / 3), code


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_sets_cover(coverage: float) -> None:
    rng = np.random.default_rng(13)
    log, code = classes(rng, 500)
    scores = conformal(np.exp(log)[np.arange(500), code])
    log, code = classes(rng, 4000)
    found = prediction_set([np.exp(log)], scores, coverage)
    low, high = band(4000, 500, coverage)
    assert low <= found[np.arange(4000), code].mean() <= high


def test_sets_are_all_classes_whose_p_value_is_high_enough() -> None:
    rng = np.random.default_rng(14)
    folds = tuple(Fold.of((m,), rng.random(20).round(2), np.ones(20)) for m in range(2))
    new = [rng.dirichlet(np.ones(5), size=30).round(2) for _ in folds]
    found = prediction_set(new, Conformal(folds=folds), 0.8)
    for i, k in np.ndindex(30, 5):
        count = sum(s <= p[i, k] for fold, p in zip(folds, new, strict=True) for s in fold.scores)
        assert found[i, k] == (1 + count > Fraction(1, 5) * 41)


def test_sets_follow_the_order_of_classes() -> None:
    rng = np.random.default_rng(15)
    scores, new = conformal(rng.random(50)), rng.dirichlet(np.ones(4), size=20)
    order = rng.permutation(4)
    np.testing.assert_array_equal(
        prediction_set([new[:, order]], scores, 0.8), prediction_set([new], scores, 0.8)[:, order]
    )


def test_too_few_rows_give_full_sets() -> None:
    new = np.array([[0.7, 0.3]])
    assert prediction_set([new], conformal(np.full(8, 0.9)), 0.9).all()
    assert prediction_set([new], Conformal(), 0.1).all()
    assert not prediction_set([new], conformal(np.full(9, 0.9)), 0.9).any()


# -- temperature ----------------------------------------------------------


@pytest.mark.parametrize("true", [0.3, 2.5])
def test_the_temperature_is_that_of_the_least_log_loss(true: float) -> None:
    rng = np.random.default_rng(16)
    log = log_softmax(2 * rng.normal(size=(600, 5)), axis=1)
    code = (tempered(log, true) + rng.gumbel(size=log.shape)).argmax(1)
    weight = rng.gamma(2.0, size=600)

    def loss(log_t: float) -> float:
        logits = log / np.exp(log_t)
        scores = logits - logsumexp(logits, axis=1)[:, None]
        doubt = 1 / (weight.sum() + 2)  # shared by the four other classes
        picked = (1 - 1.25 * doubt) * scores[np.arange(600), code] + doubt / 4 * scores.sum(1)
        return -float(np.average(picked, weights=weight))

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    found = fit_temperature(log, code, weight)
    assert found == pytest.approx(np.exp(best.x), rel=1e-5)
    assert found == pytest.approx(true, rel=0.15)


def test_the_temperature_of_right_probabilities_is_seldom_changed() -> None:
    """Half of a standard normal exceeds 1 in size: 4.6 % of 400 tables, a band of 4 errors."""
    rng, changed, tables = np.random.default_rng(17), 0, 400
    for _ in range(tables):
        log = log_softmax(rng.normal(size=(300, 3)), axis=1)
        code = (log + rng.gumbel(size=log.shape)).argmax(1)
        changed += fit_temperature(log, code, np.ones(300)) != 1
    assert changed / tables == pytest.approx(0.0455, abs=4 * math.sqrt(0.0455 / tables))


def test_whole_weights_are_repetitions_for_the_temperature() -> None:
    rng = np.random.default_rng(18)
    log, code = classes(rng, 200)
    counts = rng.integers(0, 4, 200)
    repeated = fit_temperature(
        np.repeat(log, counts, axis=0), np.repeat(code, counts), np.ones(counts.sum())
    )
    assert fit_temperature(log, code, counts) == pytest.approx(repeated, rel=1e-8)


def test_the_temperature_is_bounded() -> None:
    rows = np.tile([[0.6, 0.4], [0.4, 0.6]], (5000, 1))
    code = np.tile([0, 1], 5000)
    assert fit_temperature(np.log(rows), code, np.ones(10_000)) == pytest.approx(0.05)
    log = np.log(np.tile([0.6, 0.4], (50, 1)))
    # Of one class nothing is known: it could only lose by bolder probabilities.
    assert fit_temperature(log, np.zeros(50, dtype=int), np.ones(50)) == 1
    assert fit_temperature(log, np.ones(50, dtype=int), np.ones(50)) == pytest.approx(20)


@pytest.mark.parametrize("pairs", [5, 25, 500])
def test_right_rows_alone_do_not_prove_that_none_is_ever_wrong(pairs: int) -> None:
    """Platt's target: the winning class of n right rows has probability 1 - 1 / (n + 2)."""
    rows = np.tile([[0.6, 0.4], [0.4, 0.6]], (pairs, 1))
    code, n = np.tile([0, 1], pairs), 2 * pairs
    expected = math.log(0.6 / 0.4) / math.log(n + 1)
    assert fit_temperature(np.log(rows), code, np.ones(n)) == pytest.approx(expected, rel=1e-6)


def test_a_probability_of_nothing_does_not_break_the_temperature() -> None:
    log = np.tile([0.0, -np.inf], (50, 1))
    code = np.repeat([0, 1], [45, 5])
    assert 1 < fit_temperature(log, code, np.ones(50)) <= 20


def test_no_rows_leave_the_temperature() -> None:
    empty = np.empty((0, 3))
    assert fit_temperature(empty, np.empty(0, dtype=int), np.empty(0)) == 1


def test_tempered_probabilities_sum_to_one_and_keep_their_order() -> None:
    log, _ = classes(np.random.default_rng(19), 50)
    for temperature in (0.3, 1.0, 7.0):
        found = tempered(log, temperature)
        np.testing.assert_allclose(np.exp(found).sum(1), 1, rtol=1e-12)
        np.testing.assert_array_equal(found.argsort(1), log.argsort(1))


def test_a_few_rows_that_are_all_right_do_not_make_it_certain() -> None:
    code = np.arange(12) % 2
    log = np.log(np.where(code[:, None] == np.arange(2), 0.8, 0.2))
    sure = np.exp(tempered(log, fit_temperature(log, code, np.ones(12))))[np.arange(12), code]
    np.testing.assert_allclose(sure, 13 / 14)
