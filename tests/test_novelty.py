"""Scores, conformal p-values and how they combine, against closed forms and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import betabinom, chi2, multivariate_normal, norm

from hybridflow.calibration import Fold
from hybridflow.errors import ConfigError
from hybridflow.novelty import (
    COMBINED,
    SCORES,
    NoveltyReport,
    Reading,
    conformal_pvalue,
    fit_scores,
    harmonic_mean,
    log_tail,
    novelty_share,
    rows_needed,
    worst_case,
)
from hybridflow.novelty.calibration import TIES, Novelty, calibrate, ordered
from hybridflow.novelty.scores import quantile

RNG = np.random.default_rng(0)
WEIGHTS = RNG.integers(1, 4, size=60).astype(float)


def fold(scores: np.ndarray, weight: np.ndarray | None = None) -> Fold:
    return Fold.of((0,), scores, np.ones(len(scores)) if weight is None else weight)


def gaussian(rows: np.ndarray, scale: float = 1.0) -> Reading:
    """Return what a model that is N(0, scale²) says, of columns measured in units of 10."""
    z = rows / scale
    ladj = np.full(len(rows), -rows.shape[1] * np.log(10.0))
    return Reading(norm.logpdf(rows, scale=scale).sum(1) + ladj, z, rows, ladj)


# -- p-values ------------------------------------------------------------------


def test_pvalue_is_the_rank_by_brute_force() -> None:
    reference = RNG.integers(-10, 10, size=60).astype(float)
    new = np.arange(-12.0, 12.0)
    expected = [
        (1 + sum(w for r, w in zip(reference, WEIGHTS, strict=True) if r <= c))
        / (1 + WEIGHTS.sum())
        for c in new
    ]
    np.testing.assert_allclose(conformal_pvalue(fold(reference, WEIGHTS), new), expected)


def test_weight_is_a_repetition() -> None:
    reference, new = RNG.normal(size=60), RNG.normal(size=40) * 3
    repeated = fold(np.repeat(reference, WEIGHTS.astype(int)))
    weighted = fold(reference, WEIGHTS)
    np.testing.assert_allclose(
        conformal_pvalue(weighted, new), conformal_pvalue(repeated, new), rtol=1e-14
    )


def test_a_reference_row_computed_again_ranks_with_itself() -> None:
    reference = RNG.normal(size=50) * 1e3
    exact = conformal_pvalue(fold(reference), reference)
    for nudge in (-1e-12, 1e-12):
        np.testing.assert_array_equal(
            conformal_pvalue(fold(reference), reference * (1 + nudge)), exact
        )


@pytest.mark.parametrize(("alpha", "rows"), [(0.05, 19), (0.01, 99), (0.5, 1), (0.3, 3)])
def test_rows_that_a_level_needs(alpha: float, rows: int) -> None:
    assert rows_needed(alpha) == rows
    assert conformal_pvalue(fold(np.arange(float(rows))), [-1.0])[0] <= alpha + 1e-12
    assert conformal_pvalue(fold(np.arange(rows - 1.0)), [-1.0])[0] > alpha


@pytest.mark.parametrize("calibrated", [19, 30, 200])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_false_alarms_are_beta_binomial(calibrated: int, alpha: float) -> None:
    """Over many draws of calibration rows; each count is beta-binomial, false alarm < 1e-4."""
    tested, times, rng = 50, 400, np.random.default_rng(1)
    counts = [
        (
            conformal_pvalue(fold(rng.normal(size=calibrated)), rng.normal(size=tested)) <= alpha
        ).sum()
        for _ in range(times)
    ]
    rank = int(np.floor(alpha * (calibrated + 1) + 1e-9))
    law = betabinom(tested, rank, calibrated + 1 - rank)
    assert law.mean() / tested <= alpha + 1e-12
    error = law.std() / np.sqrt(times)
    assert abs(np.mean(counts) - law.mean()) < 4 * error
    assert (np.array(counts) <= law.ppf(1 - 1e-4 / times)).all()


# -- the tail ------------------------------------------------------------------


def test_tail_is_strictly_monotone_and_below_zero() -> None:
    reference = fold(RNG.normal(size=40))
    new = np.sort(np.concatenate([np.linspace(-50, 6, 500), reference.scores]))
    tail = log_tail(reference, new)
    assert (np.diff(tail)[np.diff(new) > 0] > 0).all()
    assert (tail < 0).all()
    assert log_tail(reference, [-np.inf])[0] == -np.inf


def test_tail_of_an_exponential_law() -> None:
    """-log p of an exponential falls with slope one; the standard error of its scale is 3 %."""
    reference = fold(-np.random.default_rng(2).exponential(size=10_000))
    slope = (log_tail(reference, [-30.0]) - log_tail(reference, [-20.0]))[0]
    assert slope == pytest.approx(-10, rel=0.13)
    inside = np.linspace(0.1, 5, 20)
    np.testing.assert_allclose(log_tail(reference, -inside), -inside, atol=0.25)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_tail_of_few_rows_still_ranks(count: int) -> None:
    tail = log_tail(fold(np.zeros(count) + np.arange(count)), np.array([-100.0, -1.0, 0.5, 9.0]))
    assert (np.diff(tail) > 0).all()


# -- combining -----------------------------------------------------------------


def test_harmonic_mean_of_equal_ones_and_against_the_plain_formula() -> None:
    p = RNG.uniform(size=(4, 30))
    np.testing.assert_allclose(np.exp(harmonic_mean(np.log(p))), 4 / (1 / p).sum(0))
    np.testing.assert_allclose(harmonic_mean(np.log(p[:1].repeat(3, 0))), np.log(p[0]))
    assert harmonic_mean([[-np.inf], [-1.0]])[0] == -np.inf


@pytest.mark.parametrize("count", [2, 3, 5, 20])
@pytest.mark.parametrize("dependence", [0.0, 0.5, 0.9])
def test_level_of_the_harmonic_mean(count: int, dependence: float) -> None:
    """Simulated with Gaussian dependence: within the bound, and near the level where strong."""
    rng, n = np.random.default_rng(3), 40_000
    shared = np.sqrt(dependence) * rng.normal(size=n)
    each = norm.logsf(shared + np.sqrt(1 - dependence) * rng.normal(size=(count, n)))
    alpha = 0.05
    rate = (harmonic_mean(each) <= np.log(alpha)).mean()
    error = np.sqrt(alpha / n)
    assert rate <= worst_case(count) * alpha + 4 * error
    if dependence == 0.9 and count <= 5:
        assert rate == pytest.approx(alpha, abs=0.012)


def test_worst_case_is_reached() -> None:
    """Two p-values that avoid each other double the level: 2 / (1/p + 1/q) <= 2 min(p, q)."""
    u = np.linspace(0.5e-4, 1 - 0.5e-4, 10_000)
    rate = (harmonic_mean(np.log([u, 1 - u])) <= np.log(1e-3)).mean()
    assert 1.9e-3 / 2 < rate <= worst_case(2) * 1e-3
    assert worst_case(1) == 1
    values = [worst_case(k) for k in range(1, 40)]
    assert (np.diff(values) > 0).all()


@pytest.mark.parametrize("p", [1e-6, 0.01, 0.2, 0.9])
def test_share_of_novel_rows(p: float) -> None:
    bound = -np.e * p * np.log(p) if p < 1 / np.e else 1.0
    # The least factor over the alternatives of density a p^(a - 1).
    a = np.linspace(1e-3, 1, 100_000)
    assert bound == pytest.approx(1 / (a * p ** (a - 1)).max(), rel=1e-4)
    assert novelty_share(np.log(p), 0.3) == pytest.approx(0.3 / (0.3 + 0.7 * bound))
    assert novelty_share(-np.inf) == 1


def test_ties_are_ordered_by_the_evidence_and_never_leave_their_rank() -> None:
    p = np.array([0.05, 0.05, 0.05, 0.1])
    evidence = np.array([-1e8, -3.0, -np.inf, -1.0])
    found = ordered(p, evidence)
    assert found.argsort().tolist() == [2, 0, 1, 3]
    assert ((found <= p) & (found >= p * (1 - TIES))).all()


# -- scores --------------------------------------------------------------------


def test_weighted_quantile_is_that_of_repeated_rows() -> None:
    values = RNG.normal(size=(60, 2))
    repeated = np.repeat(values, WEIGHTS.astype(int), axis=0)
    for level in (0.25, 0.5, 0.9):
        np.testing.assert_array_equal(
            quantile(values, WEIGHTS, level),
            np.quantile(repeated, level, axis=0, method="inverted_cdf"),
        )


def test_density_is_that_of_the_mixture() -> None:
    rows = RNG.normal(size=(20, 3))
    readings = [gaussian(rows), gaussian(rows, 2.0)]
    fits = [fit_scores(reading, np.ones(20)) for reading in readings]
    mixture = np.mean([norm.pdf(rows, scale=s).prod(1) for s in (1, 2)], axis=0) / 1e3
    np.testing.assert_allclose(SCORES["density"](readings, fits), -np.log(mixture))


def test_latent_is_chi_square() -> None:
    """The squared robust distance of 20,000 normal rows in 4 columns, at its quantiles."""
    rows = np.random.default_rng(4).normal(size=(20_000, 4))
    rows[:50] *= 1e3  # a few wild rows do not move the scale
    reading = gaussian(rows)
    score = SCORES["latent"]([reading], [fit_scores(reading, np.ones(len(rows)))])
    for level in (0.1, 0.5, 0.9):
        found = np.quantile(score[50:], level)
        assert chi2.cdf(found, 4) == pytest.approx(level, abs=0.02)


def test_typicality_is_two_sided() -> None:
    rows = RNG.normal(size=(500, 30))
    fit = fit_scores(gaussian(rows), np.ones(500))
    middle, usual, far = gaussian(np.outer([0.0, 1.0, 3.0], np.ones(30))).log_density
    assert middle > usual > far  # the density alone takes the middle for the most usual
    score = SCORES["typicality"]([gaussian(np.stack([np.zeros(30), np.ones(30)]))], [fit])
    assert score[0] > 10 > score[1]


def test_background_sees_what_is_strange_together_only() -> None:
    """Against the closed form of a correlated normal over its independent columns."""
    covariance = np.array([[1.0, 0.9], [0.9, 1.0]])
    law = multivariate_normal(np.zeros(2), covariance)
    sample = law.rvs(4000, random_state=5)
    weight = np.ones(len(sample))

    def read(rows: np.ndarray) -> Reading:
        whitened = np.linalg.solve(np.linalg.cholesky(covariance), rows.T).T
        return Reading(law.logpdf(rows), whitened, rows, np.zeros(len(rows)))

    fit = fit_scores(read(sample), weight)
    fit = fit.replace(mean=(0.0, 0.0), deviation=(1.0, 1.0))
    rows = np.array([[2.5, 2.5], [1.5, -1.5], [0.0, 0.0]])
    expected = norm.logpdf(rows).sum(1) - law.logpdf(rows)
    found = SCORES["background"]([read(rows)], [fit])
    np.testing.assert_allclose(found, expected)
    assert found[1] > found[2] > found[0]


def test_disagreement_is_zero_where_members_agree() -> None:
    rows = RNG.normal(size=(100, 2))
    readings = [gaussian(rows), gaussian(rows)]
    fits = [fit_scores(reading, np.ones(100)) for reading in readings]
    np.testing.assert_allclose(SCORES["disagreement"](readings, fits), 0, atol=1e-12)
    other = [gaussian(rows), gaussian(rows, 2.0)]
    fits = [fit_scores(reading, np.ones(100)) for reading in other]
    score = SCORES["disagreement"](other, fits)
    assert np.corrcoef(score, (rows**2).sum(1))[0, 1] > 0.5


@pytest.mark.parametrize("name", SCORES)
def test_a_row_outside_the_support_is_infinitely_unusual(name: str) -> None:
    rows = RNG.normal(size=(30, 2))
    usual = gaussian(rows)
    fit = fit_scores(usual, np.ones(30))
    outside = Reading(
        np.array([-np.inf]), np.full((1, 2), np.nan), np.full((1, 2), np.nan), np.zeros(1)
    )
    assert SCORES[name]([outside, outside], [fit, fit]) == np.inf


@pytest.mark.parametrize("name", SCORES)
def test_score_says_what_it_is_and_where_it_fails(name: str) -> None:
    score = SCORES[name]
    assert score.name == name
    assert all([score.formula, score.source, score.fails, score.__doc__])


# -- what is kept --------------------------------------------------------------


def kept(source: str, members: int = 2, rows: int = 200, seed: int = 0) -> Novelty:
    rng = np.random.default_rng(seed)

    def read(n: int) -> list[Reading]:
        x = rng.normal(size=(n, 2))
        return [gaussian(x, 1 + 0.1 * m) for m in range(members)]

    weight = np.ones(rows)
    fits = [fit_scores(reading, weight) for reading in read(rows)]
    references = [(read(rows)[m], weight) for m in range(members)]
    final = (read(rows), weight) if source == "calibration" else None
    return calibrate(source, fits, references, final)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["calibration", "folds"])
def test_false_alarms_of_each_score(source: str) -> None:
    """Over 40 draws of 200 calibration and 200 new rows, within four standard errors."""
    rates: dict[str, list[float]] = {}
    for seed in range(40):
        novelty = kept(source, seed=seed)
        x = np.random.default_rng(1000 + seed).normal(size=(200, 2))
        readings = [gaussian(x), gaussian(x, 1.1)]
        for name in novelty.names:
            rates.setdefault(name, []).append((novelty.pvalue(readings, name) <= 0.05).mean())
    assert ("disagreement" in rates) == (source == "calibration")
    law = betabinom(200, 10, 191)
    error = law.std() / 200 / np.sqrt(40)
    for name, found in rates.items():
        slack = 0.0 if source == "calibration" else 0.012  # the harmonic mean is not exact
        assert abs(np.mean(found) - law.mean() / 200) < 4 * error + slack, name


@pytest.mark.parametrize("source", ["calibration", "folds", "training"])
def test_it_survives_json(source: str) -> None:
    novelty = kept(source, rows=20)
    again = Novelty.from_json(novelty.model_dump(mode="json"))
    x = RNG.normal(size=(10, 2)) * 3
    readings = [gaussian(x), gaussian(x, 1.1)]
    for name in novelty.names:
        np.testing.assert_array_equal(again.pvalue(readings, name), novelty.pvalue(readings, name))


@pytest.mark.parametrize("source", ["calibration", "folds"])
def test_stranger_rows_have_smaller_pvalues_beyond_every_reference(source: str) -> None:
    novelty = kept(source)
    x = np.array([[10.0, 0], [20, 0], [40, 0], [1e3, 0], [1e5, 0]])
    p = novelty.pvalue([gaussian(x), gaussian(x, 1.1)])
    assert (np.diff(p) < 0).all()
    assert p == pytest.approx(1 / 201, rel=2 * TIES)


def test_combined_is_between_its_parts() -> None:
    novelty = kept("folds")
    x = RNG.normal(size=(50, 2)) * 2
    readings = [gaussian(x), gaussian(x, 1.1)]
    parts = np.stack([novelty.pvalue(readings, name) for name in COMBINED])
    combined = novelty.pvalue(readings)
    assert (combined >= parts.min(0) * (1 - 2 * TIES)).all()
    assert (combined <= parts.max(0) * (1 + 2 * TIES)).all()


def test_names_of_scores_are_checked() -> None:
    novelty = kept("folds")
    with pytest.raises(ConfigError, match="did you mean 'density'"):
        novelty.check_name("densty")
    with pytest.raises(ConfigError, match="needs members=2 or more and calibration rows"):
        novelty.check_name("disagreement")


def test_members_and_references_must_agree() -> None:
    novelty = kept("folds", rows=5)
    with pytest.raises(ConfigError, match="references of 'density' for 1 fits"):
        novelty.replace(fits=novelty.fits[:1])


# -- the report ----------------------------------------------------------------


def report(rows: int = 2) -> NoveltyReport:
    values = np.linspace(0.01, 0.5, rows)
    return NoveltyReport(
        columns=("age", "<b>"),
        scores={"density": -np.log(values)},
        pvalues={"combined": values, "density": values},
        contributions=np.array([[7.0, 0.0]] * rows),
        source="folds",
        rows=30,
    )


def test_report_names_columns_pvalues_and_failures() -> None:
    text = str(report())
    assert "age (7.0)" in text
    assert "30 or more" in text
    assert SCORES["density"].fails in text
    assert report().strangest(0, 1) == [("age", 7.0)]
    assert report().to_frame().columns == [
        "score_density",
        "p_combined",
        "p_density",
        "nats_age",
        "nats_<b>",
    ]


def test_report_in_html_escapes_names() -> None:
    found = report()
    found.contributions[:, 1] = 9.0  # type: ignore[index]
    shown = found._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt; (9.0)" in shown


def test_long_report_says_what_it_leaves_out() -> None:
    assert "... 5 more rows in to_frame()" in str(report(25))
    assert "5 more rows" in report(25)._repr_html_()
    assert len(report(25)) == 25


def test_report_without_samples_has_no_columns() -> None:
    found = NoveltyReport(("a",), {}, {"combined": np.array([0.5])}, None, "training", 10)
    assert found.strangest(0) == []
    assert "training rows" in str(found)
    assert found.to_frame().columns == ["p_combined"]
