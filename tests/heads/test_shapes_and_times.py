"""Quantile, spline, Weibull and log-normal likelihoods: their laws, censoring, extremes, fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import optimize, stats

from hybridflow.errors import ConfigError, InputError
from hybridflow.laws import Discretized, WeibullLaw
from hybridflow.likelihoods import (
    ConditionalSpline,
    Gaussian,
    GeneralizedLinear,
    Likelihood,
    LinearBasis,
    LogNormal,
    Quantiles,
    TargetBatch,
    Weibull,
)
from hybridflow.likelihoods.base import refuse_censored
from hybridflow.likelihoods.tails import log_normal_between
from hybridflow.specs import Event, Target

FAMILIES: dict[str, Callable[[Target], Likelihood]] = {
    "quantiles": Quantiles,
    "spline": ConditionalSpline,
    "weibull-one": Weibull,
    "weibull-row": lambda target: Weibull(target, per_row=True),
    "log-normal-one": LogNormal,
    "log-normal-row": lambda target: LogNormal(target, per_row=True),
}
STEPS = {"density": 0.0, "whole": 1.0, "fine": 0.001, "coarse": 30.0}
CASES = [(family, unit) for family in FAMILIES for unit in STEPS]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    family, unit = request.param
    return str(family), str(unit)


def build(case: tuple[str, str]) -> Likelihood:
    family, unit = case
    torch.manual_seed(0)
    target = Target(kind="regression", location=(9.0,), scale=(4.0,), step=STEPS[unit])
    return FAMILIES[family](target).double()


def numbers(case: tuple[str, str], n: int, seed: int = 0) -> np.ndarray:
    rng, step = np.random.default_rng(seed), STEPS[case[1]]
    real = case[0] in ("quantiles", "spline")
    y = 9 + 8 * rng.standard_normal(n) if real else rng.gamma(3.0, 3.0, n)
    return np.asarray(step * np.round(y / step) if step else y)


def batch(y: np.ndarray, observed: np.ndarray | None = None) -> TargetBatch:
    seen = np.ones(len(y), bool) if observed is None else observed
    return TargetBatch(torch.tensor(y)[:, None], torch.tensor(seen)[:, None])


def random_eta(likelihood: Likelihood, n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, likelihood.outputs, generator=generator, dtype=torch.float64)


def test_nll_is_minus_the_law(case: tuple[str, str]) -> None:
    likelihood, y = build(case), numbers(case, 200)
    eta = random_eta(likelihood, 200)
    nll = likelihood.nll(eta, batch(y)).detach().numpy()
    law = likelihood.law(eta)
    assert isinstance(law, Discretized) == (STEPS[case[1]] > 0)
    # The images of the ends of a thin cell, of which the spline takes the difference.
    tolerance = 1e-8 if case == ("spline", "fine") else 1e-11
    assert_allclose(nll, -law.log_prob(y), rtol=tolerance, atol=tolerance)


def test_gradients_by_finite_differences(case: tuple[str, str]) -> None:
    likelihood, y = build(case), batch(numbers(case, 8))
    eta = random_eta(likelihood, 8).requires_grad_()
    thin = 1e-3 if case[1] == "fine" else 1e-5
    assert torch.autograd.gradcheck(lambda e: likelihood.nll(e, y), (eta,), atol=thin, rtol=1e-4)


@pytest.mark.parametrize("size", [1e4, -1e4, 1e8, -1e8], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_extremes_stay_finite(case: tuple[str, str], size: float, dtype: torch.dtype) -> None:
    likelihood, step = build(case), STEPS[case[1]]
    y = np.concatenate([numbers(case, 12), [1e-9, 1e9, 1e50] if not step else [step, 3e4 * step]])
    signs = random_eta(likelihood, len(y)).sign()
    for pattern in (torch.ones_like(signs), signs):
        eta = (size * pattern).to(dtype).requires_grad_()
        nll = likelihood.nll(eta, batch(y))
        (slope,) = torch.autograd.grad(nll.clamp(max=1e30).sum(), eta)
        assert torch.isfinite(nll).all()
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("step", [1.0, 40.0])
def test_heavy_rounding_does_not_spike(family: str, step: float) -> None:
    # All rows have one value: the best that a mass can do is to be certain.
    target = Target(kind="regression", location=(3 * step,), scale=(0.6 * step,), step=step)
    likelihood = FAMILIES[family](target).double()
    y = batch(np.full(5, 3 * step))
    eta = likelihood.start(y, torch.ones(5)).repeat(5, 1).requires_grad_()
    optimizer = torch.optim.Adam([eta, *likelihood.parameters()], 0.1)
    for _ in range(300):
        optimizer.zero_grad()
        loss = likelihood.nll(eta, y).mean()
        torch.autograd.backward(loss)
        optimizer.step()
    assert 0 <= loss.item() < 0.1
    assert torch.isfinite(eta).all()


def test_start_takes_weights_as_repetitions(case: tuple[str, str]) -> None:
    likelihood, y = build(case), numbers(case, 6)
    times = np.array([1, 2, 0, 3, 1, 1])
    weighted = likelihood.start(batch(y), torch.tensor(times))
    repeated = likelihood.start(batch(np.repeat(y, times)), torch.ones(8))
    assert_allclose(weighted, repeated, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", ["quantiles", "spline"])
def test_start_has_the_moments_of_y(family: str) -> None:
    likelihood = build((family, "density"))
    y = np.random.default_rng(3).normal(15.0, 2.0, 500)
    law = likelihood.law(likelihood.start(batch(y), torch.ones(500))[None])
    assert_allclose(law.mean(), y.mean(), rtol=1e-3)
    assert_allclose(law.std(), y.std(), rtol=0.02)


def test_unobserved_cells_never_leak(case: tuple[str, str]) -> None:
    likelihood, y = build(case), numbers(case, 9)
    observed = np.arange(9) % 3 != 0
    eta = random_eta(likelihood, 9)
    for junk in (np.nan, np.inf, -1e300):
        spoiled = batch(np.where(observed, y, junk), observed)
        found = likelihood.nll(eta, spoiled)
        assert_array_equal(found.detach()[~observed], 0)
        assert_array_equal(found.detach(), likelihood.nll(eta, batch(y, observed)).detach())
        start = likelihood.start(spoiled, torch.ones(9))
        assert_array_equal(start, likelihood.start(batch(y, observed), torch.ones(9)))


def test_mean_learns_from_a_shift_of_quantiles() -> None:
    # With straight lines between the quantiles the density would not move with them.
    likelihood = build(("quantiles", "density"))
    eta = likelihood.start(batch(numbers(("quantiles", "density"), 300)), torch.ones(300))
    eta = eta.repeat(7, 1).requires_grad_()
    y = likelihood.law(eta[:1]).quantile(np.array([[0.06, 0.15, 0.28, 0.55, 0.7, 0.85, 0.97]]))[0]
    (slope,) = torch.autograd.grad(likelihood.nll(eta, batch(y)).sum(), eta)
    assert (slope[:3, 0] > 0).all()
    assert (slope[4:, 0] < 0).all()


@pytest.mark.parametrize(
    ("low", "gap"),
    [(-1.0, 2.0), (0.0, 1e-9), (30.0, 1e-6), (-40.0, 3.0), (8.0, 50.0), (-500.0, 1e-3)],
    ids=str,
)
def test_normal_intervals_in_high_precision(low: float, gap: float) -> None:
    import mpmath

    with mpmath.workdps(60):
        a = -abs(mpmath.mpf(low)) if low > 0 else mpmath.mpf(low)
        a, b = (a - gap, a) if low > 0 else (a, a + gap)
        if b < -100:  # the integrand hardly changes: its integral by a fine rule
            expected = mpmath.log(mpmath.quad(lambda t: mpmath.exp((b**2 - t**2) / 2), [a, b]))
            expected -= b**2 / 2 + mpmath.log(2 * mpmath.pi) / 2
        else:
            expected = mpmath.log(mpmath.ncdf(b) - mpmath.ncdf(a))
    found = log_normal_between(*torch.tensor([low, gap], dtype=torch.float64))
    assert_allclose(found.item(), float(expected), rtol=1e-9)


# -- censoring -----------------------------------------------------------------


def censored(y: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> TargetBatch:
    return TargetBatch(
        torch.tensor(y)[:, None],
        torch.ones(len(y), 1, dtype=torch.bool),
        torch.tensor(lower)[:, None],
        torch.tensor(upper)[:, None],
    )


@pytest.mark.parametrize("family", ["weibull-row", "log-normal-row"])
@pytest.mark.parametrize("unit", ["density", "whole"])
def test_censored_targets_have_the_probability_of_their_bounds(family: str, unit: str) -> None:
    likelihood = build((family, unit))
    y = np.array([4.0, 4.0, 4.0, 4.0, 4.0])
    lower = np.array([4.0, 4.0, 0.0, -np.inf, 2.5])
    upper = np.array([4.0, np.inf, 4.0, 4.0, 7.5])
    eta = random_eta(likelihood, 5)
    law = likelihood.law(eta)
    inner = law.law if isinstance(law, Discretized) else law
    expected = [
        law.log_prob(4.0)[0],
        np.log(inner.sf(4.0)[1]),
        np.log(inner.cdf(4.0)[2]),
        np.log(inner.cdf(4.0)[3]),
        np.log(inner.cdf(7.5)[4] - inner.cdf(2.5)[4]),
    ]
    found = likelihood.nll(eta, censored(y, lower, upper))
    assert_allclose(-found.detach(), expected, rtol=1e-10)


@pytest.mark.parametrize("family", ["weibull", "log-normal"])
def test_fit_is_the_maximum_of_the_likelihood(family: str) -> None:
    rng = np.random.default_rng(5)
    n = 400
    z = rng.normal(size=(n, 2))
    noise = np.log(rng.exponential(size=n)) if family == "weibull" else rng.normal(size=n)
    time = np.exp(1.5 + z @ [0.8, -0.4] + 0.6 * noise)
    end = rng.exponential(12.0, n)
    y, event = np.minimum(time, end), time <= end
    standard = stats.gumbel_l if family == "weibull" else stats.norm

    def loss(parameters: np.ndarray) -> float:
        scale = np.exp(parameters[3])
        w = (np.log(y) - parameters[0] - z @ parameters[1:3]) / scale
        known = standard.logpdf(w) - np.log(scale) - np.log(y)
        return -float(np.where(event, known, standard.logsf(w)).mean())

    options = {"maxiter": 20_000, "maxfev": 20_000, "xatol": 1e-9, "fatol": 1e-13}
    found = optimize.minimize(loss, np.zeros(4), method="Nelder-Mead", options=options)
    assert 0.2 < 1 - event.mean() < 0.6

    target = Target(kind="regression", location=(y.mean(),), scale=(y.std(),))
    likelihood = Weibull(target) if family == "weibull" else LogNormal(target)
    head = GeneralizedLinear(LinearBasis(Event.real(2)), likelihood).double()
    targets = censored(y, y, np.where(event, y, np.inf))
    inputs = torch.tensor(z)
    head.initialize(inputs, None, targets)
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=300, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = head.nll(head(inputs), targets).mean()
        torch.autograd.backward(value)
        return value

    optimizer.step(closure)
    assert_allclose(closure().item(), found.fun, atol=1e-9)
    slopes = likelihood.width * head.weight.detach().numpy()[0]
    assert_allclose(slopes, found.x[1:3], atol=1e-5)
    law = head.law(head(torch.zeros(1, 2, dtype=torch.float64)))
    assert_allclose(law.scale, np.exp(found.x[3]), rtol=1e-5)
    assert_allclose(law.location, found.x[0], atol=1e-5)


def test_weibull_is_that_of_scipy() -> None:
    likelihood = build(("weibull-row", "density"))
    eta = random_eta(likelihood, 3)
    law = likelihood.law(eta)
    assert isinstance(law, WeibullLaw)
    location, scale = (part.detach().numpy() for part in likelihood.location_and_scale(eta))
    reference = stats.weibull_min(1 / scale, scale=np.exp(location))
    assert_allclose(law.mean(), reference.mean(), rtol=1e-12)
    assert_allclose(law.sf(5.0), reference.sf(5.0), rtol=1e-12)


@pytest.mark.parametrize("location", [9.0, 9e6, 9e-6], ids=str)
def test_units_change_nothing(location: float) -> None:
    unit = location / 9
    target = Target(kind="regression", location=(location,), scale=(4 * unit,))
    likelihood, y = Weibull(target).double(), np.array([3.0, 11.0])
    eta = torch.tensor([[0.3], [-0.7]], dtype=torch.float64)
    nll = likelihood.nll(eta, batch(y * unit)).detach().numpy() - np.log(unit)
    expected = build(("weibull-one", "density")).nll(eta, batch(y)).detach()
    assert_allclose(nll, expected, rtol=1e-9)


def test_impossible_times_are_named() -> None:
    y = np.array([1.0, 0.0, -2.0])
    with pytest.raises(InputError, match=r"Weibull needs y > 0; 2 .* first at row 1 \(0\)"):
        build(("weibull-one", "density")).check(batch(y))
    with pytest.raises(InputError, match=r"LogNormal needs y >= 0; 1 .* first at row 2 \(-2\)"):
        build(("log-normal-one", "whole")).check(batch(y))
    build(("weibull-one", "density")).check(batch(y, y > 0))
    never = censored(np.array([0.0, 3.0]), np.array([0.0, 3.0]), np.array([np.inf, np.inf]))
    build(("weibull-one", "density")).check(never)


def test_other_heads_refuse_censored_targets() -> None:
    target = Target(kind="regression")
    known = censored(np.ones(2), np.ones(2), np.ones(2))
    ended = censored(np.ones(2), np.ones(2), np.array([1.0, np.inf]))
    gaussian, weibull = (
        GeneralizedLinear(LinearBasis(Event.real(1)), family(target))
        for family in (Gaussian, Weibull)
    )
    refuse_censored(gaussian, known)
    refuse_censored(weibull, ended)
    with pytest.raises(InputError, match=r"1 censored values, first at row 1.*head='weibull'"):
        refuse_censored(gaussian, ended)


def test_a_spline_needs_bins() -> None:
    with pytest.raises(ConfigError, match="bins must be at least 2, got 1"):
        ConditionalSpline(Target(kind="regression"), bins=1)
