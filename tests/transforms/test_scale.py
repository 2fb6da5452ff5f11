"""Fitted scales: the usual numbers on usual data, sane ones on the rest."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.covariance import LedoitWolf

from hybridflow.errors import ConfigError
from hybridflow.transforms import ActNorm, Gaussianize, Standardize, Whiten
from hybridflow.transforms.statistics import MidDistribution

FITTED = {"standardize": Standardize, "gaussianize": Gaussianize, "whiten": Whiten}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def normal_rows(n: int, features: int = 1) -> torch.Tensor:
    return torch.randn(n, features, dtype=torch.float64)


def fitted(cls, x: torch.Tensor, weight: torch.Tensor | None = None):
    transform = cls(x.shape[1])
    transform.initialize(x, weight=weight)
    return transform


@pytest.mark.parametrize("cls", [Standardize, ActNorm])
def test_well_behaved_columns_get_the_usual_mean_and_deviation(cls) -> None:
    x = 3 + 2 * normal_rows(400, 4)
    weight = torch.rand(400, dtype=torch.float64)
    z, ladj = fitted(cls, x, weight).double()(x)
    mean = (weight[:, None] * x).sum(0) / weight.sum()
    std = ((weight[:, None] * (x - mean).square()).sum(0) / weight.sum()).sqrt()
    torch.testing.assert_close(z, (x - mean) / std, atol=1e-6, rtol=1e-6)
    assert ladj[0].item() == pytest.approx(-std.log().sum().item(), abs=1e-6)


@pytest.mark.parametrize("cls", FITTED.values(), ids=FITTED)
def test_the_common_factor_of_weights_does_not_matter_to_location(cls) -> None:
    x, weight = normal_rows(200, 2).exp(), torch.rand(200, dtype=torch.float64)
    one, other = fitted(cls, x, weight), fitted(cls, x, 8 * weight)
    if cls is Whiten:  # the number of rows sets the shrinkage
        torch.testing.assert_close(one.location, other.location)
    else:
        torch.testing.assert_close(one(x)[0], other(x)[0])


@pytest.mark.parametrize("cls", FITTED.values(), ids=FITTED)
def test_rows_of_no_weight_are_not_seen(cls) -> None:
    x = normal_rows(60, 2)
    absurd = torch.cat([x, torch.full((3, 2), 1e9, dtype=torch.float64)])
    weight = torch.cat([torch.ones(60), torch.zeros(3)]).double()
    assert torch.equal(fitted(cls, x)(x)[0], fitted(cls, absurd, weight)(x)[0])


@pytest.mark.parametrize("cls", FITTED.values(), ids=FITTED)
def test_one_absurd_value_does_not_move_the_others(cls) -> None:
    x = normal_rows(2000, 2)
    with_outlier = torch.cat([x, torch.tensor([[1e12, 0.0]], dtype=torch.float64)])
    before = fitted(cls, x)(x)
    transform = fitted(cls, with_outlier)
    after = transform(x)
    assert (after[0] - before[0]).abs().max().item() < 0.1
    moved = (after[1] - before[1]).abs()
    assert moved.quantile(0.98).item() < 0.05
    assert moved.max().item() < 0.3  # the slope of a tail rests on few rows
    far, _ = transform(with_outlier[-1:])
    assert far[0, 0].item() > 1e11


@pytest.mark.parametrize("cls", [Standardize, Gaussianize], ids=["standardize", "gaussianize"])
@pytest.mark.parametrize("factor", [1e300, 1e38, 1e-150, 1e-310], ids=str)
def test_magnitudes_near_the_ends_of_float64(cls, factor: float) -> None:
    x = normal_rows(500, 1)
    scaled = x * factor
    z, ladj = fitted(cls, scaled)(scaled)
    # Denormal numbers carry few digits, so only those are compared loosely.
    torch.testing.assert_close(
        z, fitted(cls, x)(x)[0], atol=1e-2 if factor < 1e-307 else 1e-9, rtol=0
    )
    assert ladj.isfinite().all()
    back, _ = fitted(cls, scaled).inverse(z)
    assert ((back - scaled).abs() <= 1e-9 * factor).all()


@pytest.mark.parametrize("cls", FITTED.values(), ids=FITTED)
@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -1e9, 1e300], ids=str)
def test_constant_columns_are_only_shifted(cls, value: float) -> None:
    if cls is Whiten and value > 1e100:
        value = 1e100  # it comes after a scale, which takes care of larger ones
    x = torch.cat([torch.full((40, 1), value, dtype=torch.float64), normal_rows(40)], dim=1)
    z, ladj = fitted(cls, x)(x)
    assert z.isfinite().all()
    assert ladj.isfinite().all()
    assert z[:, 0].abs().max().item() < 1e-5


@pytest.mark.parametrize("cls", FITTED.values(), ids=FITTED)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 10])
def test_a_handful_of_rows(cls, n: int) -> None:
    x = normal_rows(n, 3)
    transform = fitted(cls, x)
    probe = normal_rows(20, 3)
    z, ladj = transform(probe)
    torch.testing.assert_close(transform.inverse(z)[0], probe, atol=1e-9, rtol=0)
    assert ladj.isfinite().all()


def test_a_scale_from_two_tied_values() -> None:
    x = torch.tensor([0.0] * 97 + [1.0] * 3, dtype=torch.float64)[:, None]
    z, _ = fitted(Standardize, x)(x)
    assert z.std(correction=0).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "draw",
    [
        lambda n: torch.randn(n).exp(),
        lambda n: torch.rand(n),
        lambda n: torch.randn(n) + 6 * (torch.rand(n) < 0.4),
        lambda n: -torch.log(torch.rand(n)),
        lambda n: torch.distributions.StudentT(3.0).sample((n,)),
    ],
    ids=["lognormal", "uniform", "bimodal", "exponential", "student-t"],
)
def test_held_out_rows_come_out_normal(draw) -> None:
    train, test = draw(4000).double()[:, None], draw(4000).double()[:, None]
    z, _ = fitted(Gaussianize, train)(test)
    assert scipy.stats.kstest(z[:, 0].numpy(), "norm").statistic < 0.04


def test_gaussianize_improves_the_density_of_skewed_data() -> None:
    train, test = normal_rows(500).exp(), normal_rows(500).exp()

    def log_density(transform) -> float:
        z, ladj = transform(test)
        return (ladj + torch.distributions.Normal(0, 1).log_prob(z).sum(1)).mean().item()

    truth = scipy.stats.lognorm(s=1).logpdf(test.numpy()).mean()
    bent = log_density(fitted(Gaussianize, train))
    assert bent == pytest.approx(truth, abs=0.1)
    assert bent > log_density(fitted(Standardize, train)) + 0.3


@pytest.mark.parametrize(
    "spike",
    [
        lambda n: torch.where(torch.rand(n) < 0.6, 0.0, torch.randn(n)),
        lambda n: torch.where(torch.rand(n) < 0.6, 1e-12 * torch.rand(n), torch.randn(n)),
        lambda n: torch.where(torch.rand(n) < 0.6, 0.0, torch.rand(n)),
        lambda n: torch.randn(n).round(),
        lambda n: torch.randn(n).clamp(max=0.3),
    ],
    ids=["spike-inside", "near-ties", "spike-at-the-end", "integers", "censored"],
)
def test_ties_cannot_create_an_unbounded_density(spike) -> None:
    x = spike(1000).double()[:, None]
    transform = fitted(Gaussianize, x)
    probe = torch.linspace(-3, 3, 10_001, dtype=torch.float64)[:, None]
    probe = torch.cat([probe, x])
    z, ladj = transform(probe)
    steepest = 2 * 20 * transform.standardize.unit.item() / transform.standardize.scale.item()
    assert ladj.exp().max().item() < steepest
    assert (ladj.exp() > 0).all()
    assert z.isfinite().all()


def test_gaussianize_has_a_continuous_density() -> None:
    transform = fitted(Gaussianize, normal_rows(400).exp())

    def largest_jump(points: int) -> float:
        probe = torch.linspace(-2, 20, points, dtype=torch.float64)[:, None]
        z, ladj = transform(probe)
        assert (z.diff(dim=0) > 0).all()
        return ladj.diff().abs().max().item()

    # The jumps of a continuous function shrink with the grid; that of a step would stay.
    assert largest_jump(400_001) < 0.02
    assert largest_jump(1_600_001) < 0.3 * largest_jump(400_001)


def test_few_distinct_values_leave_the_map_affine() -> None:
    x = torch.tensor([0.0, 1.0, 2.0, 3.0] * 50, dtype=torch.float64)[:, None]
    torch.testing.assert_close(fitted(Gaussianize, x)(x), fitted(Standardize, x)(x))


def test_the_state_has_the_same_shapes_whatever_the_data() -> None:
    shapes = [
        {name: tensor.shape for name, tensor in fitted(Gaussianize, x).state_dict().items()}
        for x in (normal_rows(2, 3), normal_rows(5000, 3), torch.zeros(10, 3))
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_gaussianize_refuses_too_few_knots() -> None:
    with pytest.raises(ConfigError, match="knots: expected at least 4, got 3"):
        Gaussianize(2, knots=3)


def test_mid_distribution_is_that_of_scipy() -> None:
    x = torch.randint(0, 6, (50, 1)).double()
    distribution = MidDistribution(x, torch.ones(50, dtype=torch.float64))
    below = scipy.stats.percentileofscore(x[:, 0].numpy(), range(6), kind="mean") / 100
    levels = distribution.level(torch.arange(6.0, dtype=torch.float64)[:, None])
    np.testing.assert_allclose(levels[:, 0].numpy(), below, atol=1e-15)
    back = distribution.quantile(levels)
    np.testing.assert_allclose(back[:, 0].numpy(), range(6), atol=1e-12)
    assert distribution.distinct.tolist() == [6]


@pytest.mark.parametrize("n", [20, 500], ids=["few-rows", "many-rows"])
def test_whiten_is_the_ledoit_wolf_gaussian(n: int) -> None:
    mixing = torch.randn(6, 6, dtype=torch.float64)
    x, probe = normal_rows(n, 6) @ mixing, normal_rows(50, 6) @ mixing
    z, ladj = fitted(Whiten, x)(probe)
    ours = ladj + torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    scale = x.std(0, correction=0)
    reference = LedoitWolf().fit((x / scale).numpy())
    expected = scipy.stats.multivariate_normal(reference.location_, reference.covariance_).logpdf(
        (probe / scale).numpy()
    )
    np.testing.assert_allclose(ours.numpy(), expected - scale.log().sum().item(), atol=1e-9)


def test_whitening_survives_collinear_columns() -> None:
    x = normal_rows(100, 1)
    x = torch.cat([x, x, 2 * x + 1], dim=1)
    transform = fitted(Whiten, x)
    z, ladj = transform(x)
    assert z.isfinite().all()
    assert ladj[0].item() < 3 * 5  # three features, each at most 100 times as dense
    torch.testing.assert_close(transform.inverse(z)[0], x, atol=1e-9, rtol=0)


@pytest.mark.parametrize("share", [0.5, 0.74, 0.85, 0.95, 0.99])
def test_a_value_that_most_rows_share_leaves_the_others_in_sight(share: float) -> None:
    random = np.random.default_rng(0)
    seen = random.uniform(0, 10, 2000).round(2)
    sight = torch.tensor(np.where(random.random(2000) < share, 10.0, seen))[:, None]
    z = fitted(Standardize, sight)(sight)[0]
    assert z.abs().max().item() < 1.5 * (sight - sight.mean()).abs().max() / sight.std()


def test_an_absurd_value_does_not_move_a_column_of_two_values() -> None:
    flags = torch.cat([torch.zeros(120), torch.ones(80)]).double()[:, None]
    absurd = torch.cat([flags, torch.full((1, 1), 1e12, dtype=torch.float64)])
    clean, moved = fitted(Standardize, flags)(flags)[0], fitted(Standardize, absurd)(flags)[0]
    assert (clean - moved).abs().max().item() < 0.5


@pytest.mark.parametrize("share", [0.8, 0.92, 0.98])
def test_rare_values_far_from_a_wide_tie_stay_near(share: float) -> None:
    """Of a gain that most people do not have, in noise of one step, as a model is fitted."""
    torch.manual_seed(0)
    n = 4000
    gain = torch.where(torch.rand(n, 1) < share, 0.0, torch.randn(n, 1).exp() * 8000).double()
    noisy = gain.round() + torch.rand(n, 1, dtype=torch.float64) - 0.5
    bent = fitted(Gaussianize, fitted(Standardize, noisy)(noisy)[0])
    z, _ = bent(fitted(Standardize, noisy)(noisy)[0])
    assert z.abs().max() < 8
    assert 0.4 < z.std() < 1.5
