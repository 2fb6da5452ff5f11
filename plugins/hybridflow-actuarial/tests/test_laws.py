"""Laws, losses and the base against scipy, and what is learned from real shapes of data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hybridflow_actuarial import (
    DiscreteHazardHead,
    GeneralizedParetoHead,
    SplicedHead,
    build_skew_t,
    discrete_hazard,
    generalized_pareto,
    spliced,
)
from hybridflow_actuarial import SkewTBase as Settings
from hybridflow_actuarial.laws import GeneralizedParetoLaw, HazardLaw, SplicedLaw
from scipy import integrate, stats

from hybridflow.errors import InputError
from hybridflow.laws import Law, LogNormalLaw
from hybridflow.likelihoods import Likelihood, TargetBatch
from hybridflow.specs import Event, Target

Y = np.array([[0.1, 3.0, 12.0, 400.0], [0.5, 2.0, 30.0, 1e5]])
P = np.array([[1e-6, 0.3, 0.95, 1 - 1e-9]])
SCALE, SHAPE = np.array([4.0, 20.0]), np.array([0.2, 0.8])
PARETO = GeneralizedParetoLaw(SCALE, SHAPE)
SCIPY = stats.genpareto(SHAPE[:, None], scale=SCALE[:, None])
SPLICED = SplicedLaw(LogNormalLaw([1.0, 2.0], [0.5, 1.0]), PARETO, 10.0, [-2.0, 0.5])
HAZARDS = np.array([[0.1, 0.4, 0.2], [0.9, 0.05, 0.01]])
HAZARD = HazardLaw(np.log(HAZARDS), np.log1p(-HAZARDS))


def test_generalized_pareto_is_that_of_scipy() -> None:
    for ours, theirs in (
        (PARETO.log_prob(Y), SCIPY.logpdf(Y)),
        (PARETO.cdf(Y), SCIPY.cdf(Y)),
        (PARETO.sf(Y), SCIPY.sf(Y)),
        (PARETO.quantile(P), SCIPY.ppf(P)),
        (PARETO.mean(), SCIPY.mean()[:, 0]),
        (PARETO.std()[:1], SCIPY.std()[:1, 0]),  # of the other row it is infinite
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7)


def test_a_thin_slice_of_a_pareto_tail_keeps_its_digits() -> None:
    low = np.array([1e6, 1e6])
    density = PARETO.log_prob(low + 5e-4) + np.log(1e-3)
    np.testing.assert_allclose(PARETO.log_mass(low, low + 1e-3), density, rtol=1e-6)


@pytest.mark.parametrize("row", [0, 1])
def test_spliced_is_its_two_parts(row: int) -> None:
    law = SPLICED[row]
    body = stats.lognorm([0.5, 1.0][row], scale=np.exp([1.0, 2.0][row]))
    tail = stats.genpareto(SHAPE[row], loc=10, scale=SCALE[row])
    share = stats.logistic.cdf([-2.0, 0.5][row])

    def density(y: float) -> float:
        below = (1 - share) * body.pdf(y) / body.cdf(10)
        return float(below if y <= 10 else share * tail.pdf(y))

    y = Y[row]
    np.testing.assert_allclose(np.exp(law.log_prob(y[None]))[0], [density(v) for v in y], rtol=1e-9)
    below = [min(body.cdf(v), body.cdf(10)) / body.cdf(10) * (1 - share) for v in y]
    expected = np.array(below) + share * tail.cdf(y)
    np.testing.assert_allclose(law.cdf(y[None])[0], expected, rtol=1e-9)
    np.testing.assert_allclose(law.cdf(law.quantile(P))[0], P[0], rtol=1e-9)
    inside = integrate.quad(lambda v: v * density(v), 0, 10)[0]
    np.testing.assert_allclose(law.mean(), inside + share * tail.mean(), rtol=1e-7)
    slices = np.log(law.cdf(12.0) - law.cdf(8.0))
    np.testing.assert_allclose(law.log_mass(8.0, 12.0), slices, rtol=1e-9)


def test_spliced_standard_deviation_is_that_of_its_density() -> None:
    law = SPLICED[0]
    square = integrate.quad(lambda v: v**2 * np.exp(law.log_prob(v)[0]), 0, 10)[0]
    square += integrate.quad(lambda v: v**2 * np.exp(law.log_prob(v)[0]), 10, np.inf)[0]
    np.testing.assert_allclose(law.std(), np.sqrt(square - law.mean() ** 2), rtol=1e-6)
    assert np.isinf(SPLICED[1].std()).all()  # shape 0.8


def test_hazards_multiply_up() -> None:
    k = np.arange(400.0)
    hazards = HAZARDS[:, np.minimum(k, 2).astype(int)]
    lasting = np.cumprod(np.c_[[1.0, 1.0], 1 - hazards[:, :-1]], axis=1)
    mass = hazards * lasting
    np.testing.assert_allclose(np.exp(HAZARD.log_prob(k[None])), mass, rtol=1e-12)
    np.testing.assert_allclose(HAZARD.sf(k[None]), lasting * (1 - hazards), rtol=1e-10)
    k, mass = np.arange(6000.0), np.exp(HAZARD.log_prob(np.arange(6000.0)[None]))
    np.testing.assert_allclose(HAZARD.mean(), (k * mass).sum(1), rtol=1e-9)
    square = (k**2 * mass).sum(1)
    np.testing.assert_allclose(HAZARD.std(), np.sqrt(square - HAZARD.mean() ** 2), rtol=1e-9)
    assert np.isneginf(HAZARD.log_prob([[-1.0, 0.5, np.inf]])).all()


def test_one_period_is_a_geometric_law() -> None:
    law = HazardLaw([[np.log(0.3)]], [[np.log(0.7)]])
    geometric = stats.geom(0.3, loc=-1)
    np.testing.assert_allclose(law.quantile(P)[0], geometric.ppf(P[0]))
    np.testing.assert_allclose(law.std(), geometric.std())


@pytest.mark.parametrize("law", [PARETO, SPLICED, HAZARD], ids=lambda law: type(law).__name__)
def test_samples_follow_the_law(law: Law) -> None:
    draws = law.sample(20_000, np.random.default_rng(0))
    points = law.quantile(np.array([[0.2, 0.5, 0.8, 0.99]]))
    found = (draws[:, :, None] <= points[:, None]).mean(1)
    np.testing.assert_allclose(found, law.cdf(points), atol=0.015)


@pytest.mark.parametrize(("left", "right"), [(1.5, 9.0), (4.0, 4.0), (30.0, 1.2)])
def test_skew_t_is_that_of_scipy(left: float, right: float) -> None:
    base = build_skew_t(Event.real(1), None, Settings()).double()
    for degrees, wanted in ((base.left, left), (base.right, right)):
        share = (1 / wanted - 1 / 100) / (1 - 1 / 100)
        degrees.raw.data.fill_(float(np.log(share / (1 - share))))
    theirs = stats.jf_skew_t(left / 2, right / 2)
    z = np.array([-1e4, -30.0, -1.0, 0.0, 0.4, 7.0, 1e3])
    ours = base.log_prob(torch.from_numpy(z)[:, None]).detach().numpy()
    np.testing.assert_allclose(ours, theirs.logpdf(z), rtol=1e-6)
    draws = base.sample(4000, generator=torch.Generator().manual_seed(0)).numpy()[:, 0]
    assert stats.kstest(draws, theirs.cdf).pvalue > 1e-3


TARGET = Target(kind="regression", location=(5.0,), scale=(4.0,))
FAMILIES = {
    "generalized-pareto": generalized_pareto(TARGET, GeneralizedParetoHead()),
    "spliced": spliced(TARGET, SplicedHead()),
    "discrete-hazard": discrete_hazard(TARGET, DiscreteHazardHead()),
    "discrete-hazard-cloglog": discrete_hazard(
        TARGET, DiscreteHazardHead(link="cloglog", effects="period")
    ),
}
each_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def bounds(low: list[float], high: list[float]) -> TargetBatch:
    lower, upper = torch.tensor(low).double()[:, None], torch.tensor(high).double()[:, None]
    values = torch.where(torch.isfinite(upper), upper, lower)
    return TargetBatch(values, torch.ones_like(values, dtype=torch.bool), lower, upper)


@each_family
def test_a_censored_target_is_scored_by_the_probability_of_its_bounds(family: Likelihood) -> None:
    targets = bounds([3.0, 0.0, 20.0, 9.0, 7.0], [np.inf, 4.0, 40.0, 11.0, 7.0])
    eta = 0.3 * torch.arange(5 * family.outputs).double().view(5, -1).sin()
    law = family.law(eta)
    is_discrete = law.lattice is not None
    low, high = (part.numpy()[:, 0] for part in (targets.lower, targets.upper))
    mass = law.sf(low - 1 if is_discrete else low) - law.sf(np.minimum(high, 1e300))
    mass[4] = np.exp(law.log_prob(7.0))[4]
    np.testing.assert_allclose(np.exp(-family.nll(eta, targets).detach().numpy()), mass, rtol=1e-9)


@each_family
def test_gradients_of_censored_targets_are_finite(family: Likelihood) -> None:
    targets = bounds([0.0, 1e9, 5.0, 0.0], [np.inf, np.inf, 5.0, 2.0])
    eta = torch.full((4, family.outputs), -3.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(family.nll(eta, targets).sum(), eta)
    assert torch.isfinite(slope).all()


@each_family
def test_impossible_targets_are_refused(family: Likelihood) -> None:
    values = torch.tensor([[4.0], [-1.0]], dtype=torch.float64)
    with pytest.raises(InputError, match=r"1 values that are not, first at row 1 \(-1\)"):
        family.check(TargetBatch(values, torch.ones_like(values, dtype=torch.bool)))


def test_the_threshold_is_a_quantile_and_the_start_has_the_share_beyond() -> None:
    y = torch.from_numpy(stats.lognorm(1.0).ppf((np.arange(1000) + 0.5) / 1000))[:, None]
    family = spliced(TARGET, SplicedHead(level=0.8))
    targets, weight = TargetBatch(y, torch.ones_like(y, dtype=torch.bool)), torch.ones(len(y))
    with torch.no_grad():
        family.initialize(targets, weight)
    assert float(family.threshold) == pytest.approx(stats.lognorm(1.0).ppf(0.8), rel=0.01)
    law = family.law(family.start(targets, weight)[None])
    assert law.sf(float(family.threshold))[0] == pytest.approx(0.2, abs=0.01)


def test_the_life_table_counts_censored_rows_as_long_as_they_last() -> None:
    family = discrete_hazard(TARGET, DiscreteHazardHead(periods=3, effects="period"))
    lasting = [0.0] * 30 + [1.0] * 20 + [1.0] * 10 + [5.0] * 40
    high = [0.0] * 30 + [1.0] * 20 + [np.inf] * 10 + [5.0] * 40
    start = family.start(bounds(lasting, high), torch.ones(100))
    hazards = np.exp(family.law(start[None]).log_hazard[0])
    expected = [30.5 / 101, 20.5 / 71, 40.5 / (40 * 4 + 1)]
    np.testing.assert_allclose(hazards, expected, rtol=1e-6)
