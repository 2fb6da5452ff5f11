"""Independent dimensions whose two tails are learned apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.densities import Base
from hybridflow.densities.positive import Degrees


class SkewT(Base):
    r"""Skew t distributions: a left and a right tail for every dimension.

    .. math:: p(t) = \frac{1}{2^{c - 1} B(a, b) \sqrt{c}}
        \Bigl(1 + \tfrac{t}{r}\Bigr)^{a + 1/2} \Bigl(1 - \tfrac{t}{r}\Bigr)^{b + 1/2},
        \qquad c = a + b,\; r = \sqrt{c + t^2}

    The left tail is that of 2a degrees of freedom, the right one of 2b; with
    a = b this is a t distribution of scale 1. Location and scale are the
    flow's to learn.

    Parameters
    ----------
    features : int
    heaviest : float
        Fewest degrees of freedom of a tail.

    References
    ----------
    .. [1] A Skew Extension of the t-Distribution, with Applications, M. C. Jones and
           M. J. Faddy, 2003
    """

    def __init__(self, features: int, heaviest: float) -> None:
        super().__init__()
        self.left = Degrees(features, low=heaviest, start=8.0)
        self.right = Degrees(features, low=heaviest, start=8.0)

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row, shape (n,), nats."""
        a, b = self.left() / 2, self.right() / 2
        c = a + b
        size, r = z.abs(), torch.sqrt(c + z**2)
        # On the side where 1 - |t| / r cancels, through (r^2 - t^2) = c.
        large = torch.log1p(size / r)
        small = torch.log(c) - torch.log(r) - torch.log(r + size)
        plus, minus = torch.where(z < 0, small, large), torch.where(z < 0, large, small)
        log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(c)
        normaliser = (c - 1) * math.log(2) + log_beta + 0.5 * torch.log(c)
        return ((a + 0.5) * plus + (b + 0.5) * minus - normaliser).sum(-1)

    @torch.no_grad()
    def sample(
        self, n: int, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw rows of shape (n, d)."""
        return self.rsample(n, context, generator)

    def rsample(
        self, n: int, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        r"""Draw rows of shape (n, d) with gradients to the degrees of freedom.

        .. math:: t = \frac{\sqrt{c}\,(G_a - G_b)}{2 \sqrt{G_a G_b}}

        with gamma variables of shapes a and b.
        """
        a, b = self.left() / 2, self.right() / 2
        gammas = [
            torch._standard_gamma(shape.double().expand(n, -1).contiguous(), generator)
            for shape in (a, b)
        ]
        # A gamma of a small shape may underflow to 0.
        first, second = (gamma.clamp(min=1e-200) for gamma in gammas)
        ratio = (first / second).sqrt()
        return ((a + b).double().sqrt() / 2 * (ratio - 1 / ratio)).to(a.dtype)
