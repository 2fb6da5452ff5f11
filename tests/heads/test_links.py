"""Links against high precision, in tails and at their joints."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from hybridflow.laws import stirling as numpy_stirling
from hybridflow.likelihoods import stirling
from hybridflow.likelihoods.links import (
    POSITIVE_LINKS,
    PROBABILITY_LINKS,
    PositiveLink,
    ProbabilityLink,
    log_ndtr,
    tempered,
    untempered,
)

mpf = mpmath.mpf
CDF: dict[str, tuple[Callable[[mpf], mpf], Callable[[mpf], mpf]]] = {
    "logit": (lambda x: 1 / (1 + mpmath.exp(-x)), lambda x: 1 / (1 + mpmath.exp(x))),
    "probit": (
        lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
        lambda x: mpmath.erfc(x / mpmath.sqrt(2)) / 2,
    ),
    "cloglog": (
        lambda x: -mpmath.expm1(-mpmath.exp(x)),
        lambda x: mpmath.exp(-mpmath.exp(x)),
    ),
}
"""The cdf and the sf of each link, by their definitions."""

POINTS = [-300.0, -40.0, -18.6, -18.4, -5.0, -1.0, -0.3, 0.0, 0.7, 1.0, 3.0, 4.9]
HUGE = [-1e8, -1e4, -21.0, 0.0, 21.0, 1e4, 1e8]


@pytest.fixture(params=PROBABILITY_LINKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def link(name: str) -> ProbabilityLink:
    return PROBABILITY_LINKS[name]


@pytest.fixture(params=POSITIVE_LINKS)
def positive(request: pytest.FixtureRequest) -> PositiveLink:
    return POSITIVE_LINKS[str(request.param)]


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x).sum(), x)
    return gradient


@pytest.mark.parametrize("x", POINTS, ids=str)
def test_log_probabilities_keep_their_digits_in_both_tails(
    name: str, link: ProbabilityLink, x: float
) -> None:
    cdf, sf = CDF[name]
    with mpmath.workdps(300):
        expected = [float(mpmath.log(part(mpf(x)))) for part in (cdf, sf)]
    found = [link.log_cdf(double(x)).item(), link.log_sf(double(x)).item()]
    assert_allclose(found, expected, rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("x", POINTS, ids=str)
def test_slopes_of_log_probabilities(name: str, link: ProbabilityLink, x: float) -> None:
    cdf, sf = CDF[name]
    with mpmath.workdps(300):
        h = mpf("1e-60")
        expected = [
            float((mpmath.log(part(x + h)) - mpmath.log(part(x - h))) / (2 * h))
            for part in (cdf, sf)
        ]
    found = [slope(part, double(x)).item() for part in (link.log_cdf, link.log_sf)]
    assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("width", [1e-6, 0.3, 2.0, 60.0], ids=str)
@pytest.mark.parametrize("low", [-38.0, -6.0, -0.5, -0.1, 0.0, 2.0, 3.5], ids=str)
def test_mass_between_two_cutpoints(
    name: str, link: ProbabilityLink, low: float, width: float
) -> None:
    cdf, _ = CDF[name]
    with mpmath.workdps(400):
        mass = cdf(mpf(low) + mpf(width)) - cdf(mpf(low))
        expected = float(mpmath.log(mass))
    found = link.log_between(double(low), double(width)).item()
    # A slice of a millionth of a normal tail keeps eight digits of its mass.
    assert_allclose(found, expected, rtol=1e-13, atol=1e-8 if width < 1e-3 else 1e-13)


@pytest.mark.parametrize("probability", [1e-12, 0.03, 0.5, 0.97, 1 - 1e-9])
def test_eta_is_the_inverse_of_the_cdf(link: ProbabilityLink, probability: float) -> None:
    eta = link.eta(double(probability))
    assert_allclose(torch.exp(link.log_cdf(eta)), [probability], rtol=1e-9)


@pytest.mark.parametrize("size", HUGE)
def test_probabilities_of_huge_predictors(link: ProbabilityLink, size: float) -> None:
    def loss(eta: Tensor) -> Tensor:
        x = link.limited(eta)
        wrong = link.log_sf if size > 0 else link.log_cdf
        return -wrong(x) - link.log_between(x, torch.ones_like(x))

    eta = double(size)
    assert torch.isfinite(loss(eta)).all()
    pull = slope(loss, eta) * (np.sign(size) or 1)
    assert torch.isfinite(pull).all()
    if size:
        assert (pull > 0.5).all()  # towards 0, however far out


def test_limited_is_increasing_and_smooth_at_its_joints(link: ProbabilityLink) -> None:
    eta = torch.linspace(-30, 30, 601, dtype=torch.float64)
    assert (torch.diff(link.limited(eta)) > 0).all()
    joints = double(-20.0, 0.0, 5.0, 20.0)
    steps = (link.limited(joints + 1e-6) - link.limited(joints - 1e-6)) / 2e-6
    assert_allclose(slope(link.limited, joints), steps, rtol=1e-6)
    inside = double(-5.0, 0.0, 4.5)
    assert_allclose(link.limited(inside), inside, rtol=0)


@pytest.mark.parametrize("size", HUGE)
def test_positive_links_never_underflow(positive: PositiveLink, size: float) -> None:
    log_mean = positive.log_mean(double(size))
    assert torch.isfinite(log_mean).all()
    assert (torch.exp(log_mean) > 0).all()
    assert (slope(positive.log_mean, double(size)) > 0).all()


@pytest.mark.parametrize("mean", [1e-12, 1e-4, 0.5, 30.0, 1e7])
def test_positive_links_are_inverted(positive: PositiveLink, mean: float) -> None:
    assert_allclose(torch.exp(positive.log_mean(positive.eta(double(mean)))), [mean], rtol=1e-9)


def test_softplus_link_by_its_definition() -> None:
    eta = double(-19.0, -3.0, 0.0, 2.0, 500.0)
    expected = [float(mpmath.log(mpmath.log1p(mpmath.exp(mpf(x))))) for x in eta.tolist()]
    assert_allclose(POSITIVE_LINKS["softplus"].log_mean(eta), expected, rtol=1e-14)
    assert_allclose(slope(POSITIVE_LINKS["softplus"].log_mean, double(0.0)), 0.5 / np.log(2))


@pytest.mark.parametrize("limit", [5.0, 20.0])
def test_tempered_has_slope_one_up_to_its_limit(limit: float) -> None:
    at = double(-limit, -1.0, 0.0, limit)
    assert_allclose(slope(lambda eta: tempered(eta, limit), at), 1.0)
    far = double(-1e8, 3 * limit)
    assert_allclose(untempered(tempered(far, limit), limit), far, rtol=1e-12)


def test_normal_tail_has_the_right_slope_where_that_of_torch_has_not() -> None:
    x = double(-1e8, -1e4, -40.0)
    assert_allclose(slope(log_ndtr, x), [1e8, 1e4 + 1e-4, 40.02496884720726], rtol=1e-11)


@pytest.mark.parametrize("x", [1e-15, 0.3, 1.0, 15.999, 16.0, 16.001, 300.0, 1e12], ids=str)
def test_rest_of_stirlings_formula(x: float) -> None:
    with mpmath.workdps(50):
        a = mpf(x)
        leading = (a - 0.5) * mpmath.log(a) - a + mpmath.log(2 * mpmath.pi) / 2
        expected = float(mpmath.loggamma(a) - leading)
        rate = float(mpmath.digamma(a) - mpmath.log(a) + 0.5 / a)
    assert_allclose(stirling.stirling_rest(double(x)).item(), expected, rtol=1e-12)
    assert_allclose(numpy_stirling.stirling_rest(np.array([x])), [expected], rtol=1e-12)
    assert_allclose(slope(stirling.stirling_rest, double(x)).item(), rate, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("a", [1e-10, 0.4, 20.0, 1e9], ids=str)
@pytest.mark.parametrize("b", [1e-10, 1.0, 350.0, 1e12], ids=str)
def test_rest_of_the_beta_function(a: float, b: float) -> None:
    with mpmath.workdps(50):
        x, y = mpf(a), mpf(b)
        powers = x * mpmath.log(x / (x + y)) + y * mpmath.log(y / (x + y))
        logs = mpmath.loggamma(x) + mpmath.loggamma(y) - mpmath.loggamma(x + y)
        expected = float(logs - powers)
    assert_allclose(stirling.log_beta_rest(double(a), double(b)).item(), expected, rtol=1e-13)
    found = numpy_stirling.log_beta_rest(np.array([a]), np.array([b]))
    assert_allclose(found, [expected], rtol=1e-13)
