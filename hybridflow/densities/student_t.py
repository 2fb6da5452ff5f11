"""Independent Student-t distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.densities.base import Base
from hybridflow.densities.positive import Degrees, log_gamma_step
from hybridflow.errors import ConfigError


class StudentT(Base):
    r"""Independent Student-t dimensions of scale 1.

    .. math:: \log p(z) = \sum_j \log\Gamma\bigl(\tfrac{\nu_j + 1}{2}\bigr)
        - \log\Gamma\bigl(\tfrac{\nu_j}{2}\bigr) - \tfrac12 \log(\pi\nu_j)
        - \tfrac{\nu_j + 1}{2} \log\bigl(1 + z_j^2 / \nu_j\bigr)

    The scale is 1 and the variance therefore above 1: location and scale are
    the flow's to learn.

    Parameters
    ----------
    features : int
        Number of dimensions, which may be 0.
    df : float, optional
        Degrees of freedom of every dimension; learned for each, between 1 and
        100, if not given.

    Raises
    ------
    ConfigError
        If `df` is not positive.

    References
    ----------
    .. [1] Tails of Lipschitz Triangular Flows, P. Jaini, I. Kobyzev, Y. Yu and
           M. Brubaker, 2020
    .. [2] Polar Generation of Random Variates with the t-Distribution,
           R. W. Bailey, 1994

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import StudentT
    >>> StudentT(1, df=1.0).log_prob(torch.zeros(1, 1))
    tensor([-1.1447])
    """

    fixed: Tensor

    def __init__(self, features: int, df: float | None = None) -> None:
        super().__init__()
        if df is not None and not df > 0:
            raise ConfigError(f"df must be positive, got {df}")
        self.features = features
        self.degrees = Degrees(features, low=1.0) if df is None else None
        self.register_buffer("fixed", torch.full((features,), df or 1.0), persistent=False)

    def df(self) -> Tensor:
        """Return the degrees of freedom of the dimensions, shape (d,)."""
        return self.fixed if self.degrees is None else self.degrees()

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row, shape (n,), nats."""
        df = self.df()
        normaliser = log_gamma_step(df / 2) - 0.5 * torch.log(math.pi * df)
        return (normaliser - (df + 1) / 2 * torch.log1p(z**2 / df)).sum(-1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows of shape (n, d), as `rsample` does."""
        return self.rsample(n, context, generator)

    def rsample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Draw rows of shape (n, d) with gradients to the degrees of freedom.

        A smooth function of two uniforms each, whose law does not depend on them:

        .. math:: t = \sqrt{\nu\,(u^{-2/\nu} - 1)}\,\cos(2\pi v)
        """
        df = self.df()
        # Float32 has no uniform below 6e-8, which would cut the tails.
        u, v = torch.rand(
            2,
            n,
            self.features,
            generator=generator,
            dtype=torch.float64,
            device=df.device,
        )
        # At 0, which comes once in 2^53 draws, the root has no derivative.
        rest = -torch.log1p(-u.clamp(min=2.0**-54))
        wide = df.to(torch.float64)
        radius = torch.sqrt(wide * torch.expm1(2 / wide * rest))
        return (radius * torch.cos(2 * math.pi * v)).to(df.dtype)
