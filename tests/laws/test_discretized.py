"""Laws rounded to a lattice against enumeration, high precision and the laws they round."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from hybridflow.errors import ConfigError
from hybridflow.laws import (
    Discretized,
    GaussianLaw,
    Law,
    MixtureLaw,
    StudentTLaw,
    WeibullLaw,
)

STEPS = {"ones": (1.0, 0.0), "halves": (0.5, 0.25), "tens": (10.0, -3.0), "hundredths": (0.01, 0.0)}


def mixture(scale: float) -> MixtureLaw:
    near = GaussianLaw([0.3, 1.2], [0.4 * scale, 2 * scale])
    far = StudentTLaw([5.0, 9.0], [-4.0, 8.0], [0.3 * scale, 1.0 * scale])
    return MixtureLaw([near, far], [0.3, 0.7])


def laws(scale: float) -> dict[str, Law]:
    return {
        "gaussian": GaussianLaw([0.3, -7.75], [0.4 * scale, 3 * scale]),
        "student-t": StudentTLaw([4.0, 30.0], [0.3, -7.75], [0.4 * scale, 3 * scale]),
        "mixture": mixture(scale),
    }


@pytest.fixture(params=["gaussian", "student-t", "mixture"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def lattice_points(law: Discretized, reach: int = 1500) -> np.ndarray:
    centre = np.round((law.law.quantile(0.5).mean() - law.origin) / law.step)
    return law.origin + law.step * (centre + np.arange(-reach, reach + 1))[None]


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("relative", [1e-3, 0.3, 1.0, 8.0], ids=lambda s: f"scale-{s}")
def test_masses_sum_to_the_cdf(family: str, name: str, relative: float) -> None:
    step, origin = STEPS[name]
    law = Discretized(laws(relative * step)[family], step, origin)
    y = lattice_points(law)
    mass = np.exp(law.log_prob(y))
    assert_allclose(law.cdf(y[:, :1])[:, 0] + mass[:, 1:].sum(1), law.cdf(y)[:, -1], rtol=1e-12)
    steps_up = np.diff(law.cdf(y), axis=1)
    assert_allclose(mass[:, 1:], steps_up, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("relative", [1e-9, 0.05, 0.25, 0.6, 1.7, 3.9, 4.1, 30.0], ids=str)
def test_gaussian_moments_by_enumeration(relative: float) -> None:
    law = Discretized(GaussianLaw([0.3, 2.5, -7.75], relative * np.array([1.0, 0.5, 2.0])), 1.0)
    y = lattice_points(law, 900)
    mass = np.exp(law.log_prob(y))
    mean = (mass * y).sum(1)
    assert_allclose(law.mean(), mean, rtol=1e-12, atol=1e-12)
    assert_allclose(law.std(), np.sqrt((mass * (y - mean[:, None]) ** 2).sum(1)), atol=1e-9)


@pytest.mark.parametrize("relative", [0.05, 0.25, 1.0, 3.9, 4.1], ids=str)
@pytest.mark.parametrize("df", [2.05, 3.0, 12.0])
def test_student_t_moments_by_series(df: float, relative: float) -> None:
    law = Discretized(StudentTLaw([df], [0.3], [relative]), 1.0)
    with mpmath.workdps(25):
        # The tail sums of the rounded value, P(K > k), for many k; beyond, their integral.
        k = np.arange(200_000)
        reference = stats.t(df, 0.3, relative)
        above, below = reference.sf(k + 0.5), reference.cdf(-k - 0.5)
        nu, end = mpmath.mpf(df), 200_000 / mpmath.mpf(relative)
        factor = mpmath.gamma((nu + 1) / 2) / mpmath.gamma(nu / 2) / mpmath.sqrt(mpmath.pi * nu)
        # sf(t) ~ constant * t^-nu out there, to 1e-10 of itself.
        constant = factor * nu ** ((nu + 1) / 2) / nu
        second = 2 * constant * end ** (2 - nu) / (nu - 2) * relative**2
        mean = float(above.sum() - below.sum())
        square = float(((2 * k + 1) * (above + below)).sum() + 2 * second)
    assert_allclose(law.mean()[0], mean, atol=1e-7)
    assert_allclose(law.std()[0] ** 2 + law.mean()[0] ** 2, square, rtol=1e-7)


def test_mixture_moments_by_enumeration() -> None:
    law = Discretized(
        MixtureLaw([GaussianLaw([0.4], [0.1]), GaussianLaw([40.0], [30.0])], [0.9, 0.1]), 2.0, 1.0
    )
    y = lattice_points(law, 400)
    mass = np.exp(law.log_prob(y))[0]
    mean = (mass * y[0]).sum()
    assert_allclose(law.mean(), mean, rtol=1e-12)
    assert_allclose(law.std(), np.sqrt((mass * (y[0] - mean) ** 2).sum()), rtol=1e-12)


def test_wide_laws_gain_the_variance_of_rounding() -> None:
    law = Discretized(StudentTLaw([3.0], [17.2], [1e6]), 1.0)
    assert_array_equal(law.mean(), 17.2)
    assert_allclose(law.std() ** 2, 3e12 + 1 / 12, rtol=1e-15)


def test_moments_that_do_not_exist() -> None:
    law = Discretized(StudentTLaw([0.9, 2.0], [0.0, 0.0], [0.5, 0.5]), 1.0)
    assert_array_equal(np.isnan(law.mean()), [True, False])
    assert np.isnan(law.std()[0])
    assert law.std()[1] == np.inf


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("relative", [1e-3, 0.3, 8.0], ids=lambda s: f"scale-{s}")
def test_quantile_is_the_smallest_point_that_reaches_p(
    family: str, name: str, relative: float
) -> None:
    step, origin = STEPS[name]
    law = Discretized(laws(relative * step)[family], step, origin)
    p = np.array([[1e-12, 0.01, 0.25, 0.5, 0.9, 1 - 1e-9]])
    y = law.quantile(p)
    index = (y - origin) / step
    assert_allclose(index, np.round(index), atol=1e-6)
    assert (law.cdf(y) >= p - 1e-15).all()
    assert (law.cdf(y - step) < p + 1e-15).all()


def test_quantile_at_the_ends() -> None:
    law = Discretized(GaussianLaw([0.0], [1.0]), 1.0)
    assert_array_equal(law.quantile([[0.0, 1.0]]), [[-np.inf, np.inf]])


def test_cdf_finds_points_that_are_not_exact_in_binary() -> None:
    law = Discretized(GaussianLaw([0.3], [0.2]), 0.1)
    for k in range(-20, 20):
        assert_allclose(law.cdf(k / 10), stats.norm.cdf(k / 10 + 0.05, 0.3, 0.2), rtol=1e-9)


@pytest.mark.parametrize("y", [50.0, 400.0, 1e5])
def test_far_tails_keep_their_log_mass(y: float) -> None:
    law = Discretized(GaussianLaw([0.0], [1.0]), 1.0)
    with mpmath.workdps(50):
        expected = mpmath.log(
            mpmath.quad(
                lambda u: mpmath.exp(-(u * u - (y - 0.5) ** 2) / 2),
                [y - 0.5, y - 0.5 + 20 / y, y - 0.5 + 90 / y, y + 0.5],
            )
        )
        expected = expected - mpmath.mpf(y - 0.5) ** 2 / 2 - mpmath.log(2 * mpmath.pi) / 2
    assert_allclose(law.log_prob(y)[0], float(expected), rtol=1e-12)
    assert_allclose(law.log_prob(-y), law.log_prob(y), rtol=1e-14)
    heavy = Discretized(StudentTLaw([100.0], [0.0], [1.0]), 1.0)
    assert np.isfinite(heavy.log_prob([[y * 1e6, -y * 1e6]])).all()


def test_samples_are_rounded_draws(family: str) -> None:
    inner = laws(2.0)[family]
    law = Discretized(inner, 0.5, 0.25)
    draws = law.sample(200, np.random.default_rng(3))
    plain = inner.sample(200, np.random.default_rng(3))
    assert (np.abs(draws - plain) <= 0.25 + 1e-12).all()
    assert_array_equal((draws - 0.25) % 0.5, 0)


def test_rows_are_picked() -> None:
    law = Discretized(mixture(1.0), 0.5, 0.25)
    part = law[np.array([1])]
    assert part.lattice == (0.25, 0.5)
    assert_array_equal(part.log_prob(0.25), law.log_prob(0.25)[1:])
    assert_array_equal(part.std(), law.std()[1:])


@pytest.mark.parametrize("step", [0.0, -1.0, np.nan], ids=str)
def test_step_must_be_positive(step: float) -> None:
    with pytest.raises(ConfigError, match="step must be positive"):
        Discretized(GaussianLaw([0.0], [1.0]), step)


@pytest.mark.parametrize("scale", [0.05, 0.4, 3.0, 9.0], ids=lambda s: f"scale-{s}")
def test_moments_of_other_families_by_enumeration(scale: float) -> None:
    law = Discretized(WeibullLaw([scale, 2 * scale], [1.5, 4.0]), 1.0)
    y = np.arange(0.0, 400.0)[None]
    mass = np.exp(law.log_prob(y))
    assert_allclose(mass.sum(1), 1, rtol=1e-12)
    mean = (mass * y).sum(1)
    assert_allclose(law.mean(), mean, rtol=1e-10, atol=1e-10)
    assert_allclose(law.std(), np.sqrt((mass * (y - mean[:, None]) ** 2).sum(1)), atol=1e-8)
