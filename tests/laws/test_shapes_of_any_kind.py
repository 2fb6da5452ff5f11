"""Laws by quantiles and by splines against quadrature, differences and enumeration."""

from __future__ import annotations

from itertools import pairwise

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from hybridflow.errors import InputError
from hybridflow.laws import Discretized, Law, QuantileLaw, SplineLaw
from hybridflow.laws.monotone_spline import MonotoneSpline

LEVELS = np.array([0.05, 0.3, 0.5, 0.6, 0.95])


def quantile_law(n: int = 4) -> QuantileLaw:
    rng = np.random.default_rng(0)
    gaps = rng.gamma(2.0, 1.0, (n, len(LEVELS)))
    densities = 0.05 + rng.gamma(2.0, 0.1, (n, len(LEVELS)))
    return QuantileLaw(LEVELS, gaps.cumsum(1) + 10 * rng.normal(size=(n, 1)), densities)


def spline_law(n: int = 4, bins: int = 5, bound: float = 6.0) -> SplineLaw:
    rng = np.random.default_rng(1)
    x, y = (
        bound * (2 * np.pad(rng.dirichlet([3.0] * bins, n).cumsum(1), ((0, 0), (1, 0))) - 1)
        for _ in range(2)
    )
    for knots in (x, y):
        knots[:, 0], knots[:, -1] = -bound, bound
    slopes = np.exp(0.5 * rng.normal(size=(n, bins + 1)))
    slopes[:, [0, -1]] = 1.0
    return SplineLaw(rng.normal(size=n), rng.gamma(3.0, 1.0, n), MonotoneSpline(x, y, slopes))


LAWS: dict[str, Law] = {"quantiles": quantile_law(), "spline": spline_law()}


@pytest.fixture(params=LAWS)
def law(request: pytest.FixtureRequest) -> Law:
    return LAWS[request.param]


def integral(law: Law, power: int, centre: np.ndarray) -> np.ndarray:
    """Integrate the density times a power, between many quantiles and all knots."""
    logits = np.linspace(-34, 34, 3001)
    p = np.where(logits < 0, np.exp(logits) / (1 + np.exp(logits)), 1 / (1 + np.exp(-logits)))
    if isinstance(law, SplineLaw):
        knots = law.location[:, None] + law.scale[:, None] * law.spline.x
    else:
        knots = law.quantiles
    edges = np.sort(np.concatenate([law.quantile(p[None]), knots], 1), 1)
    half = np.diff(edges, axis=1)[..., None] / 2
    nodes, weights = np.polynomial.legendre.leggauss(6)
    y = (edges[:, :-1, None] + half * (1 + nodes)).reshape(len(law), -1)
    mass = (half * weights).reshape(len(law), -1) * np.exp(law.log_prob(y))
    return np.asarray((mass * (y - centre[:, None]) ** power).sum(1))


def test_moments_by_quadrature(law: Law) -> None:
    centre = law.quantile(0.5)
    assert_allclose(integral(law, 0, centre), 1, atol=1e-9)
    first, second = integral(law, 1, centre), integral(law, 2, centre)
    assert_allclose(law.mean() - centre, first, atol=1e-8)
    assert_allclose(law.std(), np.sqrt(second - first**2), rtol=1e-7)


def test_density_is_the_derivative_of_the_cdf(law: Law) -> None:
    y = law.quantile(np.array([[0.001, 0.02, 0.11, 0.35, 0.47, 0.52, 0.71, 0.9, 0.98, 0.9999]]))
    h = 1e-5
    slope = np.where(
        y > law.quantile(0.5)[:, None],
        law.sf(y - h) - law.sf(y + h),
        law.cdf(y + h) - law.cdf(y - h),
    ) / (2 * h)
    assert_allclose(slope, np.exp(law.log_prob(y)), rtol=1e-5)


def test_density_is_continuous_at_the_knots() -> None:
    law = quantile_law()
    for side in (-1e-9, 1e-9):
        assert_allclose(np.exp(law.log_prob(law.quantiles + side)), law.densities, rtol=1e-6)
    law = spline_law()
    edges = (law.location - 6 * law.scale, law.location + 6 * law.scale)
    for edge in edges:
        assert_allclose(law.log_prob(edge - 1e-9), law.log_prob(edge + 1e-9), rtol=1e-6)


@pytest.mark.parametrize("p", [1e-300, 1e-12, 0.01, 0.3, 0.5, 0.77, 0.99, 1 - 1e-12], ids=str)
def test_quantile_inverts_the_tail_that_keeps_its_digits(law: Law, p: float) -> None:
    y = law.quantile(p)
    found, wanted = (law.sf(y), 1 - p) if p > 0.5 else (law.cdf(y), p)
    assert_allclose(found, wanted, rtol=1e-9)
    assert_allclose(law.cdf(y) + law.sf(y), 1, rtol=1e-13)


def test_quantiles_are_those_given() -> None:
    law = quantile_law()
    assert_allclose(law.quantile(LEVELS[None]), law.quantiles, rtol=1e-12)
    assert_allclose(law.cdf(law.quantiles), np.broadcast_to(LEVELS, (4, 5)), rtol=1e-12)
    assert_array_equal(law.quantile([[0.0, 1.0]]), [[-np.inf, np.inf]] * 4)


def test_tails_are_exponential_and_logistic() -> None:
    law = quantile_law()
    far = law.quantiles[:, -1] + np.array([0.1, 1.0, 100.0, 600.0]) * 0.05 / law.densities[:, -1]
    hazard = np.exp(law.log_prob(far)) / law.sf(far)
    assert_allclose(hazard, law.densities[:, -1] / 0.05, rtol=1e-12)
    spline = spline_law()
    t = np.array([-30.0, -7.0, 8.0, 200.0])
    expected = stats.logistic.logpdf(t) - np.log(spline.scale)
    assert_allclose(spline.log_prob(spline.location + spline.scale * t), expected, rtol=1e-12)


@pytest.mark.parametrize("width", [1e-7, 0.01, 1.0, 30.0], ids=lambda w: f"width-{w}")
def test_masses_add_up(law: Law, width: float) -> None:
    low = law.quantile(np.array([[1e-9, 0.02, 0.3, 0.52, 0.8, 0.96, 1 - 1e-9]]))
    cuts = np.linspace(0, width, 5)
    parts = [law.log_mass(low + a, low + b) for a, b in pairwise(cuts)]
    whole = np.exp(law.log_mass(low, low + width))
    assert_allclose(whole, np.exp(parts).sum(0), rtol=1e-6)
    plain = np.maximum(law.cdf(low + width) - law.cdf(low), law.sf(low) - law.sf(low + width))
    assert_allclose(whole, plain, rtol=1e-6, atol=1e-15)


def test_mass_of_far_cells_in_high_precision() -> None:
    law = quantile_law()
    rate = law.densities[:, -1] / 0.05
    with mpmath.workdps(40):
        expected = [
            float(
                mpmath.log(mpmath.mpf(1) / 20)
                - mpmath.mpf(r) * 5000
                + mpmath.log(1 - mpmath.exp(-mpmath.mpf(r) / 1000))
            )
            for r in rate
        ]
    start = law.quantiles[:, -1] + 5000
    assert_allclose(law.log_mass(start, start + 1e-3), expected, rtol=1e-6)


def test_rounding_to_a_lattice(law: Law) -> None:
    for step in (0.5, 100.0):
        rounded = Discretized(law, step)
        middle = np.round(law.quantile(0.5).mean() / step)
        y = step * (middle + np.arange(-3000, 3001))[None]
        assert_allclose(np.exp(rounded.log_prob(y)).sum(1), 1, rtol=1e-9)


def test_samples_follow_the_cdf(law: Law) -> None:
    draws = law.sample(4000, np.random.default_rng(2))
    for row in range(len(law)):
        assert stats.kstest(law.cdf(draws)[row], "uniform").pvalue > 1e-3


def test_rows_are_picked(law: Law) -> None:
    some = law[np.array([3, 1])]
    assert_allclose(some.mean(), law.mean()[[3, 1]], rtol=1e-14)
    assert len(law[2]) == 1
    assert law[np.zeros(0, dtype=int)].mean().shape == (0,)


def test_missing_values_stay_missing(law: Law) -> None:
    for what in (law.cdf, law.sf, law.log_prob):
        assert np.isnan(what(np.nan)).all()


@pytest.mark.parametrize(
    ("levels", "quantiles", "densities", "message"),
    [
        ([0.5, 0.2], [[0.0, 1.0]], [[1.0, 1.0]], "probabilities must increase"),
        ([0.2, 0.5], [[1.0, 1.0]], [[1.0, 1.0]], "quantiles must increase, got .* in row 0"),
        ([0.2, 0.5], [[0.0, 1.0]], [[1.0, 0.0]], "densities must be positive"),
        ([0.2, 0.5], [[0.0, 1.0, 2.0]], [[1.0, 1.0]], r"quantiles at 2 levels need shape \(n, 2\)"),
    ],
    ids=["levels", "quantiles", "densities", "shape"],
)
def test_impossible_quantiles_are_named(
    levels: list[float], quantiles: list[list[float]], densities: list[list[float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        QuantileLaw(levels, quantiles, densities)
