"""Maps between bounded supports and the real line."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch

from hybridflow.errors import ConfigError
from hybridflow.transforms import IntervalToReal, OnColumns, Permutation, PositiveToReal, Transform

CASES: dict[str, tuple[Callable[[], Transform], list[float], list[float]]] = {
    # name: (build, lower bounds, upper bounds)
    "positive": (lambda: PositiveToReal(2), [0.0, 0.0], [math.inf, math.inf]),
    "interval": (lambda: IntervalToReal([0.0, -5.0], [1.0, 700.0]), [0.0, -5.0], [1.0, 700.0]),
}
F64 = torch.float64


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> tuple[Transform, torch.Tensor, torch.Tensor]:
    build, low, high = CASES[request.param]
    return build(), torch.tensor(low, dtype=F64), torch.tensor(high, dtype=F64)


def test_log_det_is_that_of_the_jacobian(case) -> None:
    transform, _, _ = case
    for direction, rows in (
        (transform.inverse, 3 * torch.randn(20, 2, dtype=F64)),
        (transform.forward, transform.inverse(3 * torch.randn(20, 2, dtype=F64))[0]),
    ):
        rows = rows.detach().requires_grad_()
        image, ladj = direction(rows)
        (slopes,) = torch.autograd.grad(image.sum(), rows)
        torch.testing.assert_close(ladj, slopes.log().sum(1), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(("dtype", "digits"), [(F64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_round_trip_near_the_bounds_and_far_out(case, dtype, digits) -> None:
    """Distances from a bound come back in relative terms, down to 1e-30 of the width."""
    transform, low, high = case
    small = torch.logspace(-30, 0, 61, dtype=F64)
    if high.isinf().all():
        x = torch.cat([small, 1 / small])[:, None].repeat(1, 2).to(dtype)
        back = transform.inverse(transform(x)[0])[0]
        # A logarithm of size 70 has as many digits less as it has itself.
        assert ((back - x) / x).abs().max().item() < 100 * digits
        return
    for share in (small[:-1] / 2, 1 - small[:-1] / 2):
        x = (low + (high - low) * share[:, None]).to(dtype)
        x = x[((x > low.to(dtype)) & (x < high.to(dtype))).all(1)]
        back = transform.inverse(transform(x)[0])[0]
        assert back.dtype == dtype
        assert ((back - x).abs() / (high - low)).max().item() < digits


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.float16], ids=str)
def test_inverse_never_leaves_the_support(case, dtype) -> None:
    transform, low, high = case
    size = [0.0, 1.0, 30.0, 40.0, 100.0, 800.0, 6e4]
    z = torch.tensor([*size, *(-s for s in size)], dtype=dtype)[:, None].repeat(1, 2)
    x, _ = transform.inverse(z)
    assert x.isfinite().all()
    assert (x > low.to(dtype)).all()
    assert (x < high.to(dtype)).all()


def test_gradients_are_finite_everywhere(case) -> None:
    transform, low, high = case
    ends = torch.stack([low, high.clamp(max=1e300)])
    x = torch.cat([ends, ends + 1, ends - 1, 0.4 * torch.ones(1, 2, dtype=F64)]).requires_grad_()
    z, ladj = transform(x)
    assert z.isfinite().all()
    (gradient,) = torch.autograd.grad(z.sum() + ladj[ladj.isfinite()].sum(), x)
    assert gradient.isfinite().all()
    latent = torch.tensor([[-1e8, 1e8], [-800.0, 800.0], [0.0, 1.0]], dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(sum(part.sum() for part in transform.inverse(latent)), latent)
    assert gradient.isfinite().all()


OUTSIDE = {
    # name: (case, value of both features, latent of the nearest training row)
    "negative": ("positive", -3.0, -1.0),
    "zero": ("positive", 0.0, -1.0),
    "below": ("interval", -9.0, -1.0),
    "above": ("interval", 900.0, 1.0),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_there_is_no_density_and_the_image_of_the_nearest_row(name: str) -> None:
    kind, value, nearest = OUTSIDE[name]
    transform = CASES[kind][0]()
    transform.initialize(transform.inverse(torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=F64))[0])
    z, ladj = transform(torch.full((1, 2), value, dtype=F64))
    assert ladj.tolist() == [-math.inf]
    torch.testing.assert_close(z, torch.full_like(z, nearest))


def test_a_bound_itself_is_outside() -> None:
    z, ladj = IntervalToReal([0.0], [1.0])(torch.tensor([[0.0], [1.0]], dtype=F64))
    assert ladj.tolist() == [-math.inf] * 2
    assert z.isfinite().all()


def test_a_margin_says_what_a_bound_is_read_as() -> None:
    log = PositiveToReal(1, margin=[0.25])
    log.initialize(torch.tensor([[3.0]]))
    assert log(torch.tensor([[0.0]], dtype=F64))[0].item() == pytest.approx(math.log(0.25))
    logit = IntervalToReal([0.0], [1.0], margin=[0.1])
    z = logit(torch.tensor([[0.0], [1.0]], dtype=F64))[0]
    assert z.flatten().tolist() == pytest.approx([math.log(1 / 9), math.log(9)])


def test_rows_without_weight_are_not_looked_at() -> None:
    log = PositiveToReal(1)
    log.initialize(torch.tensor([[3.0], [1e-9]]), weight=torch.tensor([1.0, 0.0]))
    assert log(torch.tensor([[-1.0]], dtype=F64))[0].item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("name", ["log-normal", "logit-normal"])
def test_density_is_that_of_scipy(name: str) -> None:
    """A normal law behind the layer is the log-normal, or the logit-normal, law."""
    normal = scipy.stats.norm(0.5, 0.8)
    if name == "log-normal":
        transform: Transform = PositiveToReal(1)
        x = np.array([1e-3, 0.2, 1.0, 9.0])
        expected = scipy.stats.lognorm(0.8, scale=math.exp(0.5)).logpdf(x)
    else:
        transform = IntervalToReal([2.0], [6.0])
        x = np.array([2.01, 3.0, 4.0, 5.9])
        odds = np.log((x - 2) / (6 - x))
        expected = normal.logpdf(odds) + np.log(1 / (x - 2) + 1 / (6 - x))
    z, ladj = transform(torch.as_tensor(x)[:, None])
    np.testing.assert_allclose(normal.logpdf(z[:, 0]) + ladj.numpy(), expected, rtol=1e-12)


def test_a_light_straight_tail_would_be_worse() -> None:
    """The reason for the logarithm: ten times the largest of 1,000 log-normal rows."""
    x = torch.exp(torch.randn(1000, dtype=F64, generator=torch.Generator().manual_seed(0)))
    truth = scipy.stats.lognorm(1.0).logpdf(10 * float(x.max()))
    z, ladj = PositiveToReal(1)(10 * x.max()[None, None])
    assert scipy.stats.norm.logpdf(float(z)) + float(ladj) > truth - 1e-9
    softplus = torch.log(torch.expm1(x))
    far = scipy.stats.norm(float(softplus.mean()), float(softplus.std()))
    assert far.logpdf(10 * float(x.max())) < truth - 60


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: PositiveToReal(2, margin=[1.0]), "margin: expected 2 numbers"),
        (lambda: PositiveToReal(1, margin=[-1.0]), "margin: expected 1 numbers of at least 0"),
        (lambda: IntervalToReal([0.0], [0.0]), "low and high: expected pairs in order"),
        (lambda: IntervalToReal([0.0], [1.0, 2.0]), "low and high: expected pairs in order"),
        (lambda: OnColumns(PositiveToReal(2), [0, 0], 3), "columns: expected different positions"),
        (lambda: OnColumns(PositiveToReal(1), [3], 3), "columns: expected different positions"),
    ],
    ids=["margins", "negative-margin", "equal", "lengths", "repeated", "beyond"],
)
def test_what_makes_no_sense_is_refused(build, said) -> None:
    with pytest.raises(ConfigError, match=said):
        build()


def test_on_columns_touches_no_other() -> None:
    layer = OnColumns(PositiveToReal(2), [2, 0], 3)
    x = torch.tensor([[1.0, -5.0, math.e], [2.0, 7.0, 1.0]], dtype=F64)
    layer.initialize(x)
    z, ladj = layer(x)
    torch.testing.assert_close(z, torch.stack([x[:, 0].log(), x[:, 1], x[:, 2].log()], 1))
    torch.testing.assert_close(ladj, -x[:, 0].log() - x[:, 2].log())
    back, back_ladj = layer.inverse(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(back_ladj, -ladj)
    turned = OnColumns(Permutation.reverse(2), [0, 2], 3)
    turned.finish([(x, None)])
    assert turned(x)[0][0].tolist() == [math.e, -5.0, 1.0]
