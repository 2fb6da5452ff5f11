"""Gaussian, Student-t and mixture laws against scipy, quadrature and high precision."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from hybridflow.errors import InputError
from hybridflow.laws import GaussianLaw, Law, MixtureLaw, StudentTLaw

GAUSSIAN = GaussianLaw([0.0, -3.0, 1e6], [1.0, 0.02, 40.0])
STUDENT = StudentTLaw([2.5, 8.0, 60.0], [0.0, -3.0, 1e6], [1.0, 0.02, 40.0])
MIXTURE = MixtureLaw(
    [
        GaussianLaw([0.0, -2.0, 5.0], [1.0, 0.1, 2.0]),
        GaussianLaw([4.0, 2.0, 5.5], [0.5, 3.0, 0.3]),
        GaussianLaw([-6.0, 2.1, 90.0], [2.0, 0.2, 1.0]),
    ],
    [[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.6, 0.4, 0.0]],
)
LAWS = {"gaussian": GAUSSIAN, "student-t": STUDENT, "mixture": MIXTURE}
REFERENCES = {
    "gaussian": stats.norm(GAUSSIAN.location[:, None], GAUSSIAN.scale[:, None]),
    "student-t": stats.t(STUDENT.df[:, None], STUDENT.location[:, None], STUDENT.scale[:, None]),
}


@pytest.fixture(params=LAWS, ids=str)
def law(request: pytest.FixtureRequest) -> Law:
    return LAWS[request.param]


def spread_out(law: Law, m: int = 41) -> np.ndarray:
    return law.mean()[:, None] + law.std()[:, None] * np.linspace(-8, 8, m)


@pytest.mark.parametrize("name", REFERENCES)
def test_agrees_with_scipy(name: str) -> None:
    law, reference = LAWS[name], REFERENCES[name]
    y = spread_out(law)
    assert_allclose(law.log_prob(y), reference.logpdf(y), rtol=1e-12, atol=1e-12)
    assert_allclose(law.cdf(y), reference.cdf(y), rtol=1e-10)
    assert_allclose(law.sf(y), reference.sf(y), rtol=1e-10)
    assert_allclose(law.mean(), reference.mean()[:, 0], rtol=1e-14)
    assert_allclose(law.std(), reference.std()[:, 0], rtol=1e-14)
    p = np.array([[1e-12, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-12]])
    # scipy's t loses the last digits of the upper tail, so both are asked through the cdf.
    assert_allclose(reference.cdf(law.quantile(p)), np.broadcast_to(p, (3, 7)), rtol=1e-9)


def test_density_is_the_derivative_of_the_cdf(law: Law) -> None:
    y = law.mean()[:, None] + law.std()[:, None] * np.linspace(-2, 2, 21)
    h = 1e-3 * np.exp(-law.log_prob(y)).clip(max=law.std()[:, None]) / 40
    around = [law.cdf(y + k * h) for k in (-2, -1, 1, 2)]
    slope = (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / (12 * h)
    assert_allclose(slope, np.exp(law.log_prob(y)), rtol=2e-5, atol=1e-9)


@pytest.mark.parametrize("row", range(3))
def test_moments_by_quadrature(law: Law, row: int) -> None:
    one = law[row]
    middle, scale = one.quantile(0.5)[0], (one.quantile(0.75) - one.quantile(0.25))[0]

    # y = middle + scale * sinh(u) reaches far into the tails; the trapezoidal
    # rule converges exponentially for what is smooth on the whole line.
    u = np.linspace(-60, 60, 60_001)
    y = middle + scale * np.sinh(u)
    density = np.exp(one.log_prob(y[None])[0]) * scale * np.cosh(u) * (u[1] - u[0])

    def moment(power: int) -> float:
        return float((density * (y - middle) ** power).sum())

    assert_allclose(moment(0), 1, rtol=1e-8)
    mean = moment(1)
    assert_allclose(middle + mean, one.mean()[0], rtol=1e-8, atol=1e-8 * scale)
    assert_allclose(np.sqrt(moment(2) - mean**2), one.std()[0], rtol=1e-6)


@pytest.mark.parametrize(
    "p", [1e-300, 1e-100, 1e-15, 1e-3, 0.2, 0.5, 0.8, 1 - 1e-3, 1 - 1e-12], ids=str
)
def test_quantile_inverts_the_tail_that_keeps_its_digits(law: Law, p: float) -> None:
    y = law.quantile(p)
    found, wanted = (law.sf(y), 1 - p) if p > 0.5 else (law.cdf(y), p)
    # The error of y is a few units in its last place, times the hazard.
    slack = 8 * np.spacing(np.abs(y)) * np.exp(law.log_prob(y)) / wanted
    assert (np.abs(found / wanted - 1) < 1e-11 + slack).all()


def test_quantile_at_the_ends(law: Law) -> None:
    assert_array_equal(law.quantile(0.0), -np.inf)
    assert_array_equal(law.quantile(1.0), np.inf)


def test_cdf_and_sf_add_to_one_and_are_ordered(law: Law) -> None:
    y = spread_out(law)
    assert_allclose(law.cdf(y) + law.sf(y), 1, rtol=1e-14)
    assert (np.diff(law.cdf(y), axis=1) >= 0).all()
    assert_array_equal(law.cdf(np.inf), 1)
    assert_array_equal(law.sf(-np.inf), 1)


@pytest.mark.parametrize("row", range(3))
def test_samples_follow_the_cdf(law: Law, row: int) -> None:
    draws = law.sample(4000, np.random.default_rng(row))
    assert draws.shape == (3, 4000)
    assert stats.kstest(law.cdf(draws)[row], "uniform").pvalue > 1e-3


def test_samples_repeat_with_the_seed(law: Law) -> None:
    first, second = (law.sample(5, np.random.default_rng(7)) for _ in range(2))
    assert_array_equal(first, second)


def test_shapes_line_up_with_rows(law: Law) -> None:
    by_row = law.mean() + np.array([0.0, 1.0, 2.0])
    grid = by_row[:, None] + np.zeros((1, 2))
    for method in (law.cdf, law.sf, law.log_prob):
        assert method(0.5).shape == (3,)
        assert method(by_row).shape == (3,)
        assert method([[0.1, 0.2, 0.3, 0.4]]).shape == (3, 4)
        assert_array_equal(method(grid)[:, 1], method(by_row))
    levels = law.quantile([[0.1, 0.9]])
    assert levels.shape == (3, 2)
    assert_allclose(law.quantile(0.9), levels[:, 1], rtol=1e-14)


@pytest.mark.parametrize("bad", [np.zeros(2), np.zeros((2, 3)), np.zeros((3, 1, 1))], ids=np.shape)
def test_other_shapes_are_refused(law: Law, bad: np.ndarray) -> None:
    with pytest.raises(InputError, match="a law of 3 rows takes"):
        law.cdf(bad)


@pytest.mark.parametrize("bad", [-0.1, 1.5, np.nan], ids=str)
def test_levels_outside_zero_to_one_are_refused(law: Law, bad: float) -> None:
    with pytest.raises(InputError, match="p must lie between 0 and 1"):
        law.quantile(bad)


def test_nan_in_nan_out(law: Law) -> None:
    assert np.isnan(law.cdf(np.nan)).all()
    assert np.isnan(law.log_prob(np.nan)).all()


@pytest.mark.parametrize(
    ("rows", "index"),
    [
        (1, [1]),
        (-1, [2]),
        (slice(1, None), [1, 2]),
        (np.array([2, 0, 0]), [2, 0, 0]),
        (np.array([True, False, True]), [0, 2]),
    ],
    ids=["integer", "negative", "slice", "indices", "mask"],
)
def test_rows_are_picked(law: Law, rows: object, index: list[int]) -> None:
    part = law[rows]  # type: ignore[index]
    assert len(part) == len(index)
    assert_array_equal(part.mean(), law.mean()[index])
    assert_array_equal(part.cdf(0.7), law.cdf(0.7)[index])
    assert_array_equal(part.log_prob(0.7), law.log_prob(0.7)[index])


def test_student_t_moments_that_do_not_exist() -> None:
    law = StudentTLaw([0.5, 1.0, 1.5, 2.0, 3.0], np.ones(5), np.ones(5))
    assert_array_equal(law.mean(), [np.nan, np.nan, 1, 1, 1])
    assert_array_equal(law.std(), [np.nan, np.nan, np.inf, np.inf, np.sqrt(3)])


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: GaussianLaw([0.0], [0.0]), "scale must be positive, got 0"),
        (lambda: GaussianLaw([0.0], [np.nan]), "scale must be positive, got nan"),
        (lambda: GaussianLaw(np.zeros((2, 2)), [1.0]), r"one entry per row, got shape \(2, 2\)"),
        (lambda: StudentTLaw([-1.0], [0.0], [1.0]), "df must be positive"),
        (lambda: MixtureLaw([]), "at least one law"),
        (lambda: MixtureLaw([GAUSSIAN, GAUSSIAN[:2]]), r"same number of rows, got \[3, 2\]"),
        (lambda: MixtureLaw([GAUSSIAN], [0.5, 0.5]), r"shape \(1,\) or \(3, 1\), got \(2,\)"),
        (lambda: MixtureLaw([GAUSSIAN, STUDENT], [0.5, 0.6]), "must sum to 1"),
    ],
    ids=["zero-scale", "nan-scale", "matrix", "df", "empty", "rows", "weights", "sum"],
)
def test_bad_parameters_are_refused(make: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("t", [-1e8, -300.0, -20.0, 0.3], ids=str)
@pytest.mark.parametrize("df", [2.05, 8.0, 100.0])
def test_student_t_tail_against_high_precision(df: float, t: float) -> None:
    law = StudentTLaw([df], [0.0], [1.0])
    with mpmath.workdps(60):
        x = mpmath.mpf(df) / (df + mpmath.mpf(t) ** 2)
        half = mpmath.betainc(mpmath.mpf(df) / 2, 0.5, 0, x, regularized=True) / 2
        below = half if t < 0 else 1 - half
        expected = float(mpmath.log(below))
    if expected > -700:
        assert_allclose(np.log(law.cdf(t)), expected, rtol=1e-12, atol=1e-12)
        assert_allclose(law.sf(-t), law.cdf(t), rtol=0)


INTERVALS = [(-0.5, 0.5), (3.0, 3.0001), (9.5, 10.5), (-45.0, -44.0), (60.0, 60.2), (1e4, 1e4 + 1)]


@pytest.mark.parametrize(("a", "b"), INTERVALS, ids=str)
@pytest.mark.parametrize("scale", [0.3, 1.0, 50.0])
def test_gaussian_log_mass_against_high_precision(a: float, b: float, scale: float) -> None:
    with mpmath.workdps(80):
        # A log-mass below the smallest double is wanted, so ratios are taken of huge numbers.
        low, high = sorted((abs(a), abs(b))) if a * b > 0 else (mpmath.mpf(a), mpmath.mpf(b))
        below = mpmath.erfc(mpmath.mpf(low) / scale / mpmath.sqrt(2))
        mass = (below - mpmath.erfc(mpmath.mpf(high) / scale / mpmath.sqrt(2))) / 2
        expected = float(mpmath.log(mass))
    found = GaussianLaw([0.0], [scale]).log_mass(a, b)[0]
    assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("a", "b"), INTERVALS, ids=str)
@pytest.mark.parametrize("df", [2.05, 8.0, 100.0])
@pytest.mark.parametrize("scale", [0.3, 50.0])
def test_student_t_log_mass_against_high_precision(
    a: float, b: float, df: float, scale: float
) -> None:
    law = StudentTLaw([df], [0.0], [scale])
    with mpmath.workdps(40):
        nu = mpmath.mpf(df)
        factor = mpmath.gamma((nu + 1) / 2) / mpmath.gamma(nu / 2) / mpmath.sqrt(mpmath.pi * nu)
        mass = mpmath.quad(
            lambda y: factor * (1 + (y / scale) ** 2 / nu) ** (-(nu + 1) / 2) / scale,
            mpmath.linspace(a, b, 9),
        )
        expected = float(mpmath.log(mass))
    assert_allclose(law.log_mass(a, b)[0], expected, rtol=1e-11, atol=1e-10)


def test_mixture_log_mass_sees_a_spike_inside_the_interval() -> None:
    spike = MixtureLaw(
        [GaussianLaw([0.0], [1e3]), GaussianLaw([5e3 + 0.1], [1e-4])], [1 - 1e-9, 1e-9]
    )
    expected = np.log(1e-9 + (1 - 1e-9) * stats.norm.pdf(5.0) * 1e-3)
    assert_allclose(spike.log_mass(5e3 - 0.5, 5e3 + 0.5), expected, rtol=1e-6)


def test_mixture_ignores_components_without_weight() -> None:
    law = MixtureLaw([GaussianLaw([0.0], [1.0]), StudentTLaw([0.5], [1e9], [1.0])], [1.0, 0.0])
    plain = GaussianLaw([0.0], [1.0])
    assert_array_equal(law.mean(), plain.mean())
    assert_array_equal(law.std(), plain.std())
    assert_allclose(law.quantile([[0.01, 0.99]]), plain.quantile([[0.01, 0.99]]), rtol=1e-14)
    assert_allclose(law.log_prob(2.0), plain.log_prob(2.0), rtol=1e-14)
    assert (law.sample(1000, np.random.default_rng(0)) < 10).all()


def test_mixture_of_mixtures_is_the_flat_mixture() -> None:
    parts = [GaussianLaw([m], [s]) for m, s in ((0.0, 1.0), (3.0, 0.2), (-4.0, 5.0), (9.0, 1.0))]
    nested = MixtureLaw([MixtureLaw(parts[:2]), MixtureLaw(parts[2:])])
    flat = MixtureLaw(parts)
    p = np.array([[1e-9, 0.2, 0.6, 0.999]])
    assert_allclose(nested.quantile(p), flat.quantile(p), rtol=1e-13)
    assert_allclose(nested.std(), flat.std(), rtol=1e-14)
    assert_allclose(nested.log_prob(p), flat.log_prob(p), rtol=1e-13)


def test_mixture_quantile_across_a_gap_of_no_density() -> None:
    law = MixtureLaw([GaussianLaw([-1e6], [1e-3]), GaussianLaw([1e6], [1e-3])], [0.25, 0.75])
    p = np.array([[0.125, 0.625]])
    assert_allclose(law.quantile(p), [[-1e6, 1e6]], rtol=1e-12)
    assert -1e6 < law.quantile(0.25)[0] <= 1e6
    tight = MixtureLaw([GaussianLaw([0.0], [1e-8]), GaussianLaw([1e6], [1.0])])
    assert_allclose(tight.quantile(0.25), 1e-8 * stats.norm.ppf(0.5), atol=1e-20)


def test_golden_numbers() -> None:
    # Computed with 40 digits by mpmath.
    assert_allclose(
        MIXTURE.log_prob([0.0, 2.0, 5.0]),
        [-1.60986637900322645, -0.497767180533372972, -1.37706163747756243],
        rtol=1e-13,
    )
    assert_allclose(
        MIXTURE[0].quantile([[0.05, 0.9]]), [[-7.34897950039373476, 4.21539237305986576]], 1e-14
    )
