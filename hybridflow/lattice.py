"""Numbers on lattices and within supports: where noise may go, and where samples are rounded to."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.specs import Event, Positive

INSIDE = 1e-9
"""Share of a cell that its noise keeps away from a bound of the support."""

ROUNDING = 1e-6
"""Share of a step by which a point of a lattice may be off."""


def bounds(event: Event, step: Tensor, origin: Tensor) -> dict[str, Tensor]:
    """Return where the support of each dimension ends, for values, noise and lattices.

    ``low`` and ``high`` are the bounds, ``lowest`` and ``highest`` the ends of
    noised values, ``least`` lies just below the first point of a lattice, and
    ``period`` is that of circles, 0 for others.
    """
    supports = event.dimensions
    ends = step.new_tensor([support.bounds for support in supports]).reshape(-1, 2)
    low, high = ends.t().contiguous()
    inset, off = INSIDE * step, ROUNDING * step
    lowest = torch.maximum(low + inset, torch.nextafter(low, high))
    highest = torch.minimum(high - inset, torch.nextafter(high, low))
    # 0 is no positive number, unless the rows say that it occurs.
    positive = [isinstance(support, Positive) for support in supports]
    unseen = torch.tensor(positive, dtype=torch.bool) & (origin > off)
    return {
        "low": low,
        "high": high,
        "lowest": torch.where(step > 0, lowest, low),
        "highest": torch.where(step > 0, highest, high),
        "least": torch.where(unseen, low + off, low - off),
        "period": step.new_tensor([getattr(support, "period", 0.0) for support in supports]),
    }


def as_written(level: Tensor, origin: Tensor, step: Tensor) -> Tensor:
    """Return points of lattices as their decimals are read: 5.1, not 5.1000000000000005.

    A column whose step or origin is no decimal number keeps its values.

    Parameters
    ----------
    level : Tensor of shape (n, D)
        ``origin + k * step``.
    origin, step : Tensor of shape (D,)
    """
    powers = origin.new_tensor([10.0**digits for digits in range(23)])[:, None]  # all exact
    steps, origins = step * powers, origin * powers
    fits = (steps - steps.round()).abs() <= 1e-12 * steps
    fits &= steps < 1e9  # with more digits any number would do
    fits &= (origins - origins.round()).abs() <= 1e-6 + 1e-15 * origins.abs()
    power = powers[fits.int().argmax(0), 0]  # the fewest digits
    # Whole numbers over a power of ten: the division gives the float that is nearest. No -0.0.
    return torch.where(fits.any(0), torch.round(level * power) / power + 0.0, level)
