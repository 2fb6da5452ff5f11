"""Linear splines, logistic mixtures and sigmoidal networks against textbooks, and trained."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logit, softmax
from scipy.stats import logistic
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.transforms import (
    AdditiveMap,
    AffineMap,
    DeepSigmoidalMap,
    ElementwiseMap,
    LinearSplineMap,
    LogisticMixtureMap,
    RationalQuadraticMap,
)
from hybridflow.transforms.logistic_mixture import mix_sigmoids

ANCHORED = {
    "logistic-mixture": LogisticMixtureMap(components=6),
    "sigmoidal": DeepSigmoidalMap(units=4),
}
each_anchored = pytest.mark.parametrize("anchored", ANCHORED.values(), ids=ANCHORED)


def draw_params(elementwise: ElementwiseMap, n: int, spread: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = (elementwise.n_parameters, n)
    return spread * torch.randn(size, dtype=torch.float64, generator=generator)


def bounded(raw: np.ndarray, limit: float) -> np.ndarray:
    return limit * np.tanh(raw / limit)


@pytest.mark.parametrize("bins", [2, 5, 24])
def test_linear_spline_agrees_with_interpolation(bins: int) -> None:
    spline = LinearSplineMap(bins, bound=4.0)
    x = torch.linspace(-6, 6, 301, dtype=torch.float64)
    for seed in range(5):
        logits = draw_params(spline, 1, 2.0, seed)
        heights = 8 * (0.75 * softmax(logits[:, 0].numpy()) + 0.25 / bins)
        knots = np.concatenate([[-6], np.linspace(-4, 4, bins + 1), [6]])
        values = np.concatenate([[-6], -4 + np.cumsum([0, *heights]), [6]])
        y, _ = spline.forward(x, logits.expand(-1, 301))
        np.testing.assert_allclose(y.numpy(), np.interp(x.numpy(), knots, values), atol=1e-13)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_slopes_of_a_linear_spline_keep_their_bounds(direction: str) -> None:
    spline = LinearSplineMap(bins=8)
    x = torch.linspace(-5, 5, 1001, dtype=torch.float64)
    _, ladj = getattr(spline, direction)(x, draw_params(spline, 1001, 1e3))
    slope = torch.exp(ladj if direction == "forward" else -ladj)
    assert slope.min() >= 0.25 - 1e-12
    assert slope.max() <= 0.25 + 0.75 * 8 + 1e-12


def test_logistic_mixture_agrees_with_scipy() -> None:
    mixture = ANCHORED["logistic-mixture"]
    x = np.linspace(-6, 6, 41)
    params = draw_params(mixture, 1, 1.0)
    weight, shift, scale = params[:18, 0].numpy().reshape(3, 6)
    mean = np.linspace(-0.5, 0.5, 6) + bounded(shift, 10.0)
    laws = logistic(mean[:, None], np.exp(bounded(scale, 2.5))[:, None])
    stretch, offset = np.exp(bounded(params[18, 0].numpy(), 2.5)), params[19, 0].item()
    expected = stretch * logit(softmax(weight) @ laws.cdf(x)) + offset
    start = logit(logistic(np.linspace(-0.5, 0.5, 6)[:, None]).cdf(x).mean(0))

    x = torch.from_numpy(x)
    value, _ = mixture.curve(x, params.expand(-1, 41))
    np.testing.assert_allclose(value.numpy(), expected, atol=1e-10)
    y, _ = mixture.forward(x, params.expand(-1, 41))
    np.testing.assert_allclose(y.numpy(), x.numpy() + 0.95 * (expected - start), atol=1e-10)


def test_sigmoidal_network_agrees_with_its_formula() -> None:
    network = ANCHORED["sigmoidal"]
    x = np.linspace(-6, 6, 41)
    params = draw_params(network, 1, 1.0)
    mixing = softmax(params[:16, 0].numpy().reshape(4, 4), axis=0)
    inner, inner_scale, outer, outer_scale, weight = params[16:, 0].numpy().reshape(5, 4)
    grid = np.linspace(-0.5, 0.5, 4)
    units = logistic(
        (grid + bounded(inner, 10.0))[:, None], np.exp(bounded(inner_scale, 2.5))[:, None]
    )
    hidden = logit(mixing.T @ units.cdf(x))
    second = logistic(
        (grid + bounded(outer, 10.0))[:, None], np.exp(bounded(outer_scale, 2.5))[:, None]
    )
    expected = logit(softmax(weight) @ second.cdf(hidden))
    value, _ = network.curve(torch.from_numpy(x), params.expand(-1, 41))
    np.testing.assert_allclose(value.numpy(), expected, atol=1e-10)


def test_mixed_sigmoids_keep_all_digits_in_both_tails() -> None:
    log_weight = np.array([0.3, -2.0])
    u = torch.tensor([[-700.0, 700.0], [-690.0, 720.0]], dtype=torch.float64)
    value, _ = mix_sigmoids(u, torch.zeros_like(u), torch.from_numpy(log_weight)[:, None])
    weight = log_softmax(log_weight)
    below = np.logaddexp(weight[0] - 700, weight[1] - 690)
    above = -np.logaddexp(weight[0] - 700, weight[1] - 720)
    np.testing.assert_allclose(value.numpy(), [below, above], rtol=1e-15)


@each_anchored
def test_the_curve_starts_no_steeper_than_the_identity(anchored) -> None:
    """On which it rests that the map increases for all parameters."""
    x = torch.linspace(-50, 50, 4001, dtype=torch.float64)
    _, log_slope = anchored.curve(x, torch.zeros(anchored.n_parameters, 1, dtype=torch.float64))
    assert log_slope.max() <= 1e-12


@each_anchored
def test_slopes_of_an_anchored_map_keep_their_bounds(anchored) -> None:
    x = torch.linspace(-45, 45, 2001, dtype=torch.float64)
    for spread in (1.0, 10.0, 1e3):
        _, ladj = anchored.forward(x, draw_params(anchored, 2001, spread))
        assert ladj.min() >= math.log(0.05) - 1e-9
        assert ladj.max() <= math.log(1 + 0.95 * math.exp(5.0)) + 1e-9


@each_anchored
def test_the_iterative_inverse_is_exact_to_rounding(anchored) -> None:
    x = torch.linspace(-60, 60, 1001, dtype=torch.float64)
    for spread in (0.1, 1.0, 3.0):
        params = draw_params(anchored, 1001, spread)
        back, ladj = anchored.inverse(anchored.forward(x, params)[0], params)
        torch.testing.assert_close(back, x, atol=1e-11, rtol=0)
        torch.testing.assert_close(ladj, -anchored.forward(x, params)[1], atol=1e-10, rtol=0)


@each_anchored
def test_the_inverse_takes_few_evaluations(anchored, monkeypatch: pytest.MonkeyPatch) -> None:
    params = draw_params(anchored, 500, 0.7)
    y = torch.linspace(-100, 100, 500, dtype=torch.float64)  # on both sides of the box
    curve, calls = anchored.curve, []
    monkeypatch.setattr(anchored, "curve", lambda *given: calls.append(1) or curve(*given))
    with torch.no_grad():
        anchored.inverse(y, params)
    assert len(calls) <= 2 * 30  # bisection alone would need more than fifty


@each_anchored
def test_units_have_gradients_of_their_own_at_the_start(anchored) -> None:
    """Equal gradients would keep equal units equal for ever."""
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)
    params = torch.zeros(anchored.n_parameters, 1, dtype=torch.float64, requires_grad=True)
    y, ladj = anchored.forward(x, params.expand(-1, 50))
    (gradient,) = torch.autograd.grad((y.square() / 2 - ladj).mean(), params)
    units = 6 if isinstance(anchored, LogisticMixtureMap) else 4
    last = anchored.n_parameters - 2 if units == 6 else anchored.n_parameters
    blocks = gradient[last - 3 * units : last, 0].view(3, units)
    assert (blocks.sort(dim=1).values.diff(dim=1).amax(1) > 1e-4).all()


@pytest.fixture(scope="module")
def two_modes() -> Tensor:
    """Half of the rows around -0.7 and half around 1.7, as normal quantiles, without noise."""
    centred = 0.3 * torch.special.ndtri((torch.arange(200, dtype=torch.float64) + 0.5) / 200)
    return torch.cat([centred - 0.7, centred + 1.7])


def fitted_loss(elementwise: ElementwiseMap, x: Tensor) -> float:
    """Return the mean negative log-likelihood after 150 steps from zero parameters."""
    params = torch.zeros(elementwise.n_parameters, 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([params], lr=0.05)
    for _ in range(150):
        z, ladj = elementwise.forward(x, params.expand(-1, len(x)))
        loss = (z.square() / 2 - ladj).mean() + math.log(2 * math.pi) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("elementwise", [AdditiveMap(), AffineMap()], ids=["additive", "affine"])
def test_simple_maps_learn_the_location(elementwise, two_modes) -> None:
    identity = two_modes.square().mean().item() / 2 + math.log(2 * math.pi) / 2
    assert fitted_loss(elementwise, two_modes) < identity - 0.1


@pytest.mark.parametrize(
    "elementwise",
    [
        RationalQuadraticMap(),
        LinearSplineMap(bins=24),
        LogisticMixtureMap(components=4),
        DeepSigmoidalMap(units=3),
    ],
    ids=["spline", "linear-spline", "logistic-mixture", "sigmoidal"],
)
def test_flexible_maps_learn_two_modes(elementwise, two_modes) -> None:
    gaussian = two_modes.std().log().item() + (1 + math.log(2 * math.pi)) / 2
    entropy = math.log(2 * 0.3) + (1 + math.log(2 * math.pi)) / 2
    assert entropy - 0.05 < fitted_loss(elementwise, two_modes) < gaussian - 0.3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LinearSplineMap(bins=1), "bins: a spline needs at least 2, got 1"),
        (lambda: LogisticMixtureMap(components=1), "components: a mixture needs at least 2, got 1"),
        (lambda: DeepSigmoidalMap(units=1), "units: a layer needs at least 2, got 1"),
    ],
    ids=["bins", "components", "units"],
)
def test_a_single_unit_is_refused(build, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
