"""Points that averages over noise are taken at: always the same, evenly spread."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def quasi_random(draws: int, features: int) -> Tensor:
    """Return points in the unit cube, float64 of shape (draws, features), always the same.

    Scrambled Sobol points as far as there are direction numbers, independent ones beyond.
    """
    if draws == 0 or features == 0:
        return torch.empty(draws, features, dtype=torch.float64)
    covered = min(features, torch.quasirandom.SobolEngine.MAXDIM)
    engine = torch.quasirandom.SobolEngine(  # type: ignore[no-untyped-call]  # torch has no types
        covered, scramble=True, seed=0
    )
    points = engine.draw(draws, dtype=torch.float64)
    points[:1] = points[:1].float()  # torch computes the first one in the caller's default dtype
    generator = torch.Generator().manual_seed(0)
    rest = torch.rand(draws, features - covered, generator=generator, dtype=torch.float64)
    return torch.cat([points, rest], dim=1)


class Fill:
    r"""The law that missing cells are drawn from, behind the preprocessing.

    .. math:: u \sim N(0, 1), \qquad \text{on a circle}\quad u \sim U(-\pi, \pi)

    Parameters
    ----------
    features : int
        D.
    circles : tuple of int
        Positions of the dimensions that are angles.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.draws import Fill
    >>> value, log_q = Fill(1, ())(torch.tensor([[0.5]]))
    >>> value, log_q
    (tensor([[0.]]), tensor([[-0.9189]]))
    """

    def __init__(self, features: int, circles: tuple[int, ...]) -> None:
        self.circle = torch.zeros(features, dtype=torch.bool)
        self.circle[list(circles)] = True

    def __call__(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Return draws and the logarithm of their density, from numbers on [0, 1)."""
        inside = uniform.clamp(1e-12, 1 - 1e-12)
        normal = torch.special.ndtri(inside)
        circle = self.circle.to(uniform.device)
        value = torch.where(circle, math.pi * (2 * inside - 1), normal)
        flat, bell = -math.log(2 * math.pi), -0.5 * (normal.square() + math.log(2 * math.pi))
        return value, torch.where(circle, flat, bell)
