"""Rows, quadrature and distance on each support that a column may have."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from hybridflow.specs import Circle, Event, Interval, Positive, Real, Support
from hybridflow.testing.case import normal
from hybridflow.testing.check import CheckSkipped

SUPPORTS: dict[str, Support] = {
    "real": Real(),
    "positive": Positive(),
    "interval": Interval(low=-1.0, high=2.0),
    "circle": Circle(period=2 * math.pi),  # flows and their latent count angles in radians
}
"""The supports that the checks draw rows on; there are none for tokens yet."""


_FIBONACCI = ((17711, 10946), (75025, 46368), (317811, 196418), (1346269, 832040))


def event_on(kind: str, features: int, context: int) -> Event:
    """Return the event of rows whose columns all have one kind of support.

    Raises
    ------
    CheckSkipped
        If the kit has no rows on that support.
    """
    if kind not in SUPPORTS:
        raise CheckSkipped(f"the kit has no rows on the support {kind!r}")
    return Event(shape=(features,), support=(SUPPORTS[kind],), context_features=context)


def rows_on(kind: str, n: int, features: int, seed: int) -> Tensor:
    """Return n rows on a support, float64, the same for the same seed."""
    return onto(kind, normal(n, features, seed))


def onto(kind: str, rows: Tensor) -> Tensor:
    """Take real rows onto a support: monotone, and the identity on the real line."""
    support = SUPPORTS[kind]
    if isinstance(support, Positive):
        return torch.exp(rows)
    if isinstance(support, Interval):
        return support.low + (support.high - support.low) * torch.sigmoid(rows)
    if isinstance(support, Circle):
        return support.period * (torch.sigmoid(rows) - 0.5)
    return rows


def inside(kind: str, rows: Tensor) -> Tensor:
    """Say of each entry whether it lies on the support."""
    support = SUPPORTS[kind]
    if isinstance(support, Positive):
        return rows > 0
    if isinstance(support, Interval):
        return (rows >= support.low) & (rows <= support.high)
    return torch.isfinite(rows)


def distance(kind: str, one: Tensor, other: Tensor) -> Tensor:
    """Return the distance of each entry from another: around the circle the shorter way."""
    gap = (one - other).abs()
    support = SUPPORTS[kind]
    if isinstance(support, Circle):
        turned = torch.remainder(gap, support.period)
        return torch.minimum(turned, support.period - turned)
    return gap


def line(kind: str, points: int, reach: float = 60.0) -> tuple[Tensor, Tensor]:
    """Return points on a support and their weights, for integrals over it.

    Parameters
    ----------
    kind : str
    points : int
    reach : float, default=60
        How far out the points on the real line go.
    """
    u = (torch.arange(points, dtype=torch.float64) + 0.5) / points
    x, slope = _spread(kind, u, reach)
    return x, slope / points


def plane(kind: str, reach: float = 300.0, finer: int = 1) -> tuple[Tensor, Tensor]:
    """Return pairs of points on a support and their weights, for integrals over both.

    A Fibonacci lattice, which edges and bends of a density hurt less than a
    grid of as many points.

    Parameters
    ----------
    kind : str
    reach : float, default=300
        How far out the points on the real line go.
    finer : {0, 1, 2, 3}, default=1
        Which of the lattices, each four times as fine as the one before.

    References
    ----------
    Harald Niederreiter. Random Number Generation and Quasi-Monte Carlo
    Methods. 1992.
    """
    points, step = _FIBONACCI[finer]
    i = torch.arange(points, dtype=torch.float64)
    u = torch.stack([(i + 0.5) / points, torch.remainder(i * step / points, 1.0)], 1)
    x, slope = _spread(kind, u, reach)
    return x, slope.prod(1) / points


def excess_mass_on_the_plane(
    density: Callable[[Tensor], Tensor], kind: str, limit: float, reach: float = 300.0
) -> float:
    """Return by how much the integral of a density differs from 1.

    Lattices become finer until the figure is within the limit: smooth
    densities need few points, those with edges many.
    """
    excess = math.inf
    for finer in range(len(_FIBONACCI)):
        x, weight = plane(kind, reach, finer)
        excess = abs(float((density(x) * weight).sum()) - 1)
        if excess <= limit:
            break
    return excess


def _spread(kind: str, u: Tensor, reach: float) -> tuple[Tensor, Tensor]:
    """Take (0, 1) to a support, closer where rows are, with the slope of that."""
    support = SUPPORTS[kind]
    v = 2 * u - 1
    if isinstance(support, Circle):
        return support.period / 2 * v, torch.full_like(u, support.period)
    if isinstance(support, Interval):
        share, width = torch.sigmoid(18 * v), support.high - support.low
        return support.low + width * share, 36 * width * share * (1 - share)
    if isinstance(support, Positive):
        x = torch.exp(20 * v)
        return x, 40 * x
    stretch = math.asinh(reach)
    return torch.sinh(stretch * v), 2 * stretch * torch.cosh(stretch * v)
