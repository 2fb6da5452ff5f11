"""Contractive residual blocks: free-form maps that are inverted by iteration."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridflow.errors import InverseError
from hybridflow.transforms.base import Transform
from hybridflow.transforms.contractive import (
    Activation,
    Contraction,
    ContractiveMLP,
    Linearised,
    sine,
)
from hybridflow.transforms.implicit import attach_gradient

_CELLS = 2**22
"""Numbers that one dense product of the log-determinant holds; bounds memory, not results."""

_FIRST_TERMS = 2
"""Terms of the power series that are always taken."""


class Residual(Transform):
    r"""Add a contractive network.

    .. math:: z = x + g(x, c), \qquad
        |g(x, c) - g(x', c)| \le \ell\, |x - x'|, \qquad \ell < 1

    Every feature moves every other at once, with no order or split. The
    inverse is the fixed point of :math:`x \mapsto z - g(x)`, found to a tolerance
    that is checked: an error of x is at most its residual over :math:`1 - \ell`.

    The log-determinant is exact, from the product of the network's own factors; it takes
    d times the work of the network. With `estimate_above` and more
    features than that it is exact in evaluation mode, but *in training mode* an
    unbiased estimate of the power series, at a work that d does not enter:

    .. math:: \log\det(I + J) = \sum_{k \ge 1} \frac{(-1)^{k+1}}{k} \mathrm{tr}\, J^k
        = E_{N, v} \sum_{k=1}^{N} \frac{(-1)^{k+1}}{k} \frac{v^\top J^k v}{P(N \ge k)}

    with random signs v for every row and a random number of terms N (Russian
    roulette), :math:`P(N \ge k) = \ell^{k-2}` from the third term on, at which the
    variance is finite. Its gradient is estimated by the Neumann series of
    :math:`(I + J)^{-1}`, which keeps one product for backward. The random numbers
    come from a seed and a count among the buffers: a training run repeats, and goes
    on from a checkpoint, with no state outside of the module touched.

    Parameters
    ----------
    features : int
        Number d of features.
    hidden : tuple of int
        Widths of the hidden layers of g; at least one.
    lipschitz : float, default=0.9
        The bound :math:`\ell`. Closer to 1 bends more and inverts more slowly.
    context_features : int, default=0
        Width of the context.
    activation : callable, default=sine
        The activation of g: `sine` or `lip_swish`.
    estimate_above : int, optional
        Most features of which the log-determinant is exact in training; any number
        if not given.

    References
    ----------
    Jens Behrmann, Will Grathwohl, Ricky Chen, David Duvenaud, Jörn-Henrik
    Jacobsen. Invertible Residual Networks. 2019.

    Ricky Chen, Jens Behrmann, David Duvenaud, Jörn-Henrik Jacobsen. Residual
    Flows for Invertible Generative Modeling. 2019.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Residual
    >>> block, x = Residual(2, hidden=(8,)), torch.randn(5, 2)
    >>> torch.equal(block(x)[0], x)  # the identity until trained
    True
    """

    seed: Tensor
    count: Tensor

    def __init__(
        self,
        features: int,
        hidden: tuple[int, ...],
        lipschitz: float = 0.9,
        context_features: int = 0,
        activation: Activation = sine,
        estimate_above: int | None = None,
    ) -> None:
        super().__init__()
        self.net = ContractiveMLP(features, hidden, lipschitz, context_features, activation)
        self.estimated = estimate_above is not None and features > estimate_above
        if self.estimated:
            self.register_buffer("seed", torch.randint(2**62, ()))
            self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @property
    def exact_inverse(self) -> bool:
        """Whether the inverse is a formula: it iterates."""
        return False

    @property
    def repeatable(self) -> bool:
        """Whether a second pass gives the same: an estimate draws other numbers."""
        return not (self.estimated and self.training)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Add the network."""
        g, jacobian = self.net.bind(x, context).linearise(x)
        if self.estimated and self.training:
            return x + g, self._estimated_log_det(jacobian, x)
        return x + g, log_det(jacobian)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Iterate to the fixed point.

        Raises
        ------
        InverseError
            If the iteration does not reach its tolerance.
        """
        with torch.no_grad():
            x = fixed_point(self.net.bind(z, context), z, self.net.lipschitz)

        def solve(g: Tensor, z: Tensor, x: Tensor) -> Tensor:
            with torch.no_grad():
                _, jacobian = self.net.bind(x, context).linearise(x)
                solved: Tensor = torch.linalg.solve(_plus_identity(jacobian), g[..., None])
                return solved[..., 0]

        return attach_gradient(lambda x: self.forward(x, context), x, z, solve)

    def _estimated_log_det(self, jacobian: Linearised, x: Tensor) -> Tensor:
        """Return the estimate, with the estimate of its gradient, and count the draw."""
        generator = torch.Generator().manual_seed(int(self.seed) + int(self.count))
        self.count += 1
        signs = 2 * torch.randint(2, x.shape, generator=generator).to(x) - 1
        terms = _FIRST_TERMS + roulette(generator, self.net.lipschitz)
        return power_series(jacobian, signs, terms, self.net.lipschitz)


def log_det(jacobian: Linearised) -> Tensor:
    """Return log|det(I + J)| of every row, shape (n,).

    Parameters
    ----------
    jacobian : Linearised
    """
    n = jacobian.slopes[0].shape[0]
    cells = jacobian.slopes[0].shape[1] * max(slope.shape[1] for slope in jacobian.slopes)
    size = max(1, _CELLS // cells)
    parts = [jacobian.rows(slice(start, start + size)) for start in range(0, max(1, n), size)]
    # I + J is positive, since |J| < 1: there is no sign to look at.
    return torch.cat([torch.linalg.slogdet(_plus_identity(part)).logabsdet for part in parts])


def _plus_identity(jacobian: Linearised) -> Tensor:
    """Return the transpose of I + J, shape (n, d, d)."""
    transposed = jacobian.transposed()
    identity = torch.eye(transposed.shape[-1], dtype=transposed.dtype, device=transposed.device)
    return transposed + identity


def roulette(generator: torch.Generator, lipschitz: float) -> int:
    """Return a random number of further terms, G, with P(G >= k) = lipschitz^k."""
    uniform = float(torch.rand((), generator=generator, dtype=torch.float64))
    return int(math.log1p(-uniform) / math.log(lipschitz))


def power_series(jacobian: Linearised, v: Tensor, terms: int, lipschitz: float) -> Tensor:
    r"""Return an estimate of log det(I + J) whose gradient is an estimate of its gradient.

    Parameters
    ----------
    jacobian : Linearised
        Of n rows.
    v : Tensor of shape (n, d)
        Random, of mean 0 and covariance I.
    terms : int
        The number N, 2 and a draw of `roulette`.
    lipschitz : float
        Of `roulette`.

    Returns
    -------
    Tensor of shape (n,)
        :math:`\sum_{k=1}^N \frac{(-1)^{k+1}}{k} \frac{v^\top J^k v}{P(N \ge k)}`. Its gradient
        is that of :math:`w^\top J v` with w a constant,
        :math:`w = \sum_{k=0}^N \frac{(-1)^k}{P(N \ge k)} (J^\top)^k v`.
    """
    with torch.no_grad():
        value = v.new_zeros(v.shape[0])
        u = w = v
        for k in range(1, terms + 1):
            u = jacobian.transposed_times(u)
            factor = (-1) ** k / lipschitz ** max(0, k - _FIRST_TERMS)
            value = value - factor / k * (u * v).sum(1)
            w = w + factor * u
    carrier = (w * jacobian.times(v)).sum(1)
    return value + (carrier - carrier.detach())


def fixed_point(contraction: Contraction, z: Tensor, lipschitz: float) -> Tensor:
    r"""Return the x with x + g(x) = z, to a checked tolerance.

    A row is done when the residual of each entry is at most 32 rounding units of
    that entry of z (of 1, if that is smaller), and is then left alone: rows do not influence
    each other. Since g is contractive, the error of x is at most
    :math:`1/(1 - \ell)` times the residual, in the Euclidean norm. A row that is not finite
    is done too, and stays so.

    Parameters
    ----------
    contraction : Contraction
    z : Tensor of shape (n, d)
    lipschitz : float

    Returns
    -------
    Tensor of shape (n, d)

    Raises
    ------
    InverseError
        If a row has not met its tolerance after as many steps as a contraction
        can take, of which rounding noise is the only cause.

    References
    ----------
    Stefan Banach. Sur les opérations dans les ensembles abstraits et leur
    application aux équations intégrales. 1922.
    """
    unit = torch.finfo(z.dtype).eps
    tolerance = 32 * unit * z.abs().clamp(min=1)
    most = math.ceil(math.log(1e-3 * unit) / math.log(lipschitz)) + 10
    x = z.clone()
    active = torch.arange(z.shape[0], device=z.device)
    for _ in range(most):
        step = z[active] - contraction.rows(active).linearise(x[active])[0] - x[active]
        x[active] = x[active] + step
        active = active[(step.abs() > tolerance[active]).any(1)]
        if not len(active):
            return x
    raise InverseError(
        f"the inverse of a residual block: {len(active)} of {len(z)} rows did not converge in "
        f"{most} steps (largest residual {float(step.abs().max()):.1e}); use float64, or a "
        f"smaller lipschitz (now {lipschitz:g})"
    )
