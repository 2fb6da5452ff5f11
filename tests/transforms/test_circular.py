"""Angles: the same everywhere on the circle, the cut included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.transforms import (
    CircleFeatures,
    CircleToAngle,
    CircularCoupling,
    CircularSplineMap,
    EqualizeAngles,
    RationalQuadraticMap,
    Transform,
)
from hybridflow.transforms.circular import wrap

F64 = torch.float64
PI = math.pi


def around(a: Tensor, b: Tensor) -> Tensor:
    """The distance on the circle."""
    return wrap(a - b).abs()


def even(n: int) -> Tensor:
    return torch.linspace(-PI, PI, n + 1, dtype=F64)[:-1]


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("period", [24.0, 2 * PI, 360.0, 1e-3, 7e3], ids=str)
def test_numbers_come_back_within_the_first_period(dtype, period) -> None:
    circle = CircleToAngle([period])
    x = torch.linspace(-3, 3, 1001, dtype=dtype)[:, None] * period
    z, ladj = circle(x)
    assert z.abs().max().item() <= PI + torch.finfo(dtype).eps * 4
    assert ladj[0].item() == pytest.approx(math.log(2 * PI / period), rel=1e-2)
    back, _ = circle.inverse(z)
    assert (back >= 0).all()
    assert (back < torch.tensor(period, dtype=dtype)).all()
    gap = ((back - x) / period).double()
    assert (gap - gap.round()).abs().max().item() < 20 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [F64, torch.float32, torch.float16], ids=str)
def test_just_below_zero_does_not_round_to_the_period(dtype) -> None:
    z = torch.tensor([[-1e-8], [-1e-17], [-0.0], [PI], [-PI], [1e8]], dtype=dtype)
    x, _ = CircleToAngle([24.0]).inverse(z[z.isfinite().all(1)])
    assert ((x >= 0) & (x < 24)).all()


def test_features_are_those_of_the_point() -> None:
    read = CircleFeatures(3, circles=[1])
    x = torch.tensor([[1.0, 0.3, 2.0]], dtype=F64)
    turned = x + torch.tensor([[0.0, 2 * PI, 0.0]], dtype=F64)
    torch.testing.assert_close(read(x), read(turned))
    assert read(x).shape == (1, read.width) == (1, 4)


def params(spread: float, bins: int = 6, rows: int = 400, seed: int = 0) -> Tensor:
    """The same random parameters for every row."""
    generator = torch.Generator().manual_seed(seed)
    one = spread * torch.randn(3 * bins + 1, 1, generator=generator, dtype=F64)
    return one.expand(-1, rows)


@pytest.mark.parametrize("cut", [0.0, 2.0], ids=str)
@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0], ids=str)
class TestSplineMap:
    def test_goes_there_and_back(self, spread, cut) -> None:
        spline, x, p = CircularSplineMap(6, cut), even(400), params(spread)
        y, ladj = spline.forward(x, p)
        back, back_ladj = spline.inverse(y, p)
        assert y.abs().max().item() <= PI + 1e-12
        assert around(back, x).max().item() < 1e-11
        torch.testing.assert_close(back_ladj, -ladj, atol=1e-9, rtol=0)

    def test_log_derivative_is_that_of_autograd(self, spread, cut) -> None:
        x = (even(400) + 1e-3).requires_grad_()
        y, ladj = CircularSplineMap(6, cut).forward(x, params(spread))
        (slope,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(ladj, slope.log(), atol=1e-10, rtol=0)

    def test_covers_the_circle_once(self, spread, cut) -> None:
        _, ladj = CircularSplineMap(6, cut).forward(even(20_000), params(spread, rows=20_000))
        assert ladj.exp().mean().item() == pytest.approx(1, abs=1e-5)

    def test_knows_of_no_cut(self, spread, cut) -> None:
        """Values and slopes agree on both sides of every point, the two cuts included."""
        spline, p = CircularSplineMap(6, cut), params(spread, rows=2)
        own = float(wrap(PI - spline._rotation(p[:, :1])))
        for point in (PI, own, 0.3):
            sides = torch.tensor([point - 1e-9, point + 1e-9], dtype=F64)
            y, ladj = spline.forward(sides, p)
            assert around(y[0], y[1]).item() < 1e-7
            assert ladj[0].item() == pytest.approx(ladj[1].item(), abs=1e-6)

    def test_a_whole_turn_changes_nothing(self, spread, cut) -> None:
        spline, x, p = CircularSplineMap(6, cut), even(400), params(spread)
        for turned in (x + 2 * PI, x - 4 * PI):
            y, ladj = spline.forward(turned, p)
            assert around(y, spline.forward(x, p)[0]).max().item() < 1e-10
            torch.testing.assert_close(ladj, spline.forward(x, p)[1], atol=1e-9, rtol=0)


def test_zero_parameters_are_the_identity() -> None:
    x = even(50)
    y, ladj = CircularSplineMap(4, cut=1.3).forward(x, torch.zeros(13, 50, dtype=F64))
    assert around(y, x).max().item() < 1e-14
    assert ladj.abs().max().item() < 1e-14


def test_the_rotation_can_follow_another_angle_once_around() -> None:
    theta = even(60)
    turning = torch.zeros(13, 60, dtype=F64)
    turning[-2], turning[-1] = torch.cos(theta) - 1, torch.sin(theta)
    y, _ = CircularSplineMap(4).forward(torch.zeros(60, dtype=F64), turning)
    assert around(y, theta).max().item() < 1e-12


def test_gradients_are_finite_also_where_the_rotation_has_no_direction() -> None:
    p = params(0.3, bins=4, rows=3).clone()
    p[-2], p[-1] = torch.tensor([-1.0, -1.0 + 1e-5, 5.0]), 0.0
    p.requires_grad_()
    x = torch.tensor([-PI, 0.0, PI], dtype=F64, requires_grad=True)
    y, ladj = CircularSplineMap(4).forward(x, p)
    for gradient in torch.autograd.grad(y.sum() + ladj.sum(), [x, p]):
        assert gradient.isfinite().all()


def coupling(mask: list[bool], circles: list[int], context: int = 0) -> CircularCoupling:
    torch.manual_seed(0)
    layer = CircularCoupling(
        RationalQuadraticMap(5), CircularSplineMap(5, 1.0), mask, circles, (16,), context
    ).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return layer


MIXED = {
    "angle-by-angle": ([True, False], [0, 1]),
    "angle-by-number": ([True, False], [1]),
    "number-by-angle": ([True, False], [0]),
    "both-by-both": ([True, False, True, False], [0, 3]),
    "one-angle": ([False], [0]),
    "no-angle": ([True, False], []),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("width", [0, 2], ids=["no-context", "context"])
def test_coupling_is_exact(name: str, width: int) -> None:
    mask, circles = MIXED[name]
    layer, d = coupling(mask, circles, width), len(mask)
    x = 1.5 * torch.randn(6, d, dtype=F64)
    context = torch.randn(6, width, dtype=F64) if width else None
    z, ladj = layer(x, context)
    back, back_ladj = layer.inverse(z, context)
    gap = back - x
    gap[:, circles] = wrap(gap[:, circles])
    assert gap.abs().max().item() < 1e-10
    torch.testing.assert_close(back_ladj, -ladj, atol=1e-9, rtol=0)
    for i in range(6):
        copies = x[i].repeat(d, 1).requires_grad_()
        given = None if context is None else context[i].expand(d, -1)
        (jacobian,) = torch.autograd.grad(layer(copies, given)[0].diagonal().sum(), copies)
        expected = torch.linalg.slogdet(jacobian).logabsdet
        assert ladj[i].item() == pytest.approx(expected.item(), abs=1e-9)


def test_a_conditioner_reads_the_point_and_not_the_number() -> None:
    layer = coupling([True, False], [0])
    ends = torch.tensor([[PI, 0.4], [-PI, 0.4]], dtype=F64)
    z, ladj = layer(ends)
    torch.testing.assert_close(z[0, 1], z[1, 1])
    torch.testing.assert_close(ladj[0], ladj[1])


class TestEqualize:
    def fitted(self, n: int = 2000, kappa: float = 4.0, mean: float = 3.0) -> EqualizeAngles:
        rng = np.random.default_rng(0)
        layer = EqualizeAngles(1)
        layer.initialize(torch.as_tensor(rng.vonmises(mean, kappa, n))[:, None])
        return layer

    @pytest.mark.parametrize("kappa", [0.01, 2.0, 10.0, 100.0], ids=str)
    @pytest.mark.parametrize("mean", [0.0, 3.1], ids=["middle", "on-the-cut"])
    def test_density_is_close_to_von_mises(self, kappa, mean) -> None:
        grid = even(8000)
        _, ladj = self.fitted(kappa=kappa, mean=mean)(grid[:, None])
        truth = torch.as_tensor(scipy.stats.vonmises(kappa, loc=mean).logpdf(grid.numpy()))
        divergence = (truth.exp() * (truth - ladj + math.log(2 * PI))).mean() * 2 * PI
        assert -1e-6 < divergence.item() < 0.03
        assert ladj.exp().mean().item() == pytest.approx(1, abs=1e-4)

    def test_goes_there_and_back_with_the_right_slope(self) -> None:
        layer = self.fitted()
        x = (even(500)[:, None] + 1e-4).requires_grad_()
        z, ladj = layer(x)
        (slope,) = torch.autograd.grad(z.sum(), x)
        torch.testing.assert_close(ladj, slope.log()[:, 0], atol=1e-9, rtol=0)
        back, back_ladj = layer.inverse(z)
        assert around(back, x).max().item() < 1e-12
        torch.testing.assert_close(back_ladj, -ladj, atol=1e-8, rtol=0)

    def test_knows_of_no_cut(self) -> None:
        z, ladj = self.fitted()(torch.tensor([[PI - 1e-9], [PI + 1e-9], [-PI]], dtype=F64))
        assert around(z[0], z[1]).item() < 1e-7
        torch.testing.assert_close(ladj, ladj[:1].expand(3), atol=1e-6, rtol=0)

    def test_a_weight_is_a_repetition(self) -> None:
        x = torch.randn(60, 2, dtype=F64)
        times = torch.arange(60) % 4
        weighted, repeated = EqualizeAngles(2), EqualizeAngles(2)
        weighted.initialize(x, weight=times.double())
        repeated.initialize(x.repeat_interleave(times, 0))
        torch.testing.assert_close(weighted.image, repeated.image, atol=1e-12, rtol=0)

    @pytest.mark.parametrize("rows", [0, 1, 2], ids=str)
    def test_few_rows_make_no_angle_impossible(self, rows: int) -> None:
        layer = EqualizeAngles(1)
        layer.initialize(torch.full((rows, 1), 1.0, dtype=F64))
        _, ladj = layer(even(300)[:, None])
        assert ladj.min().item() > -1
        assert ladj.max().item() < 1


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: CircleToAngle([0.0]), "periods: expected positive numbers"),
        (lambda: coupling([True, True], [0]), "at least one feature must not be kept"),
    ],
    ids=["period", "mask"],
)
def test_what_makes_no_sense_is_refused(build, said) -> None:
    with pytest.raises(ConfigError, match=said):
        build()


def test_float32_inputs_give_float32() -> None:
    layers: list[Transform] = [CircleToAngle([24.0]), EqualizeAngles(1)]
    for layer in layers:
        x = torch.tensor([[3.0]])
        for direction in (layer.forward, layer.inverse):
            assert {part.dtype for part in direction(x)} == {torch.float32}
