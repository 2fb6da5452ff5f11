"""What a head implies for y, in operations of a graph: means, tails, quantiles.

The numpy laws of `hybridflow.laws` say the same; the export compares the two on rows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from scipy import special
from torch import Tensor

from hybridflow.export.loops import repeated
from hybridflow.export.normal import COEFFICIENTS, tail

_EPSILON = torch.finfo(torch.float64).eps
_STEPS = 300
_SHIFT = 16
_HARMONICS = 8  # spreads are a quarter of a cell at least, so that the ninth is nothing


class Law(ABC):
    """The predictive distribution of n rows, of one output."""

    step: float = 0.0
    """Of the lattice that y lies on, 0 for none; one of its points is 0."""

    @abstractmethod
    def mean(self) -> Tensor:
        """Return the expectations, shape (n,)."""


class MeanLaw(Law):
    """A law of which a graph knows the mean alone.

    Parameters
    ----------
    means : Tensor of shape (n,)
    """

    def __init__(self, means: Tensor) -> None:
        self._mean = means

    def mean(self) -> Tensor:
        """Return the expectations, shape (n,)."""
        return self._mean


class Family(ABC):
    """A standard law T, of which others are shifted and scaled."""

    def constants(self) -> Tensor:
        """Return what `tails` needs, made outside of any loop."""
        return torch.zeros(0, dtype=torch.float64)

    @abstractmethod
    def tails(self, t: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Return P(T <= t) and P(T > t), each with its digits."""

    @abstractmethod
    def density(self, t: Tensor) -> Tensor:
        """Return the density of T."""

    @abstractmethod
    def quantile(self, p: float) -> float:
        """Return the t with P(T <= t) = p."""

    @abstractmethod
    def wave(self, frequency: Tensor) -> tuple[Tensor, Tensor]:
        """Return the real and the imaginary part of E exp(i f T)."""

    @abstractmethod
    def exponential(self, scale: Tensor) -> Tensor:
        """Return the logarithm of E exp(scale T)."""


class Normal(Family):
    """The standard normal law."""

    def constants(self) -> Tensor:
        """Return the coefficients of the polynomial."""
        return torch.tensor(COEFFICIENTS, dtype=torch.float64)

    def tails(self, t: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Return both tails."""
        small = tail(t, constants)
        return torch.where(t < 0, small, 1 - small), torch.where(t < 0, 1 - small, small)

    def density(self, t: Tensor) -> Tensor:
        """Return the density."""
        return torch.exp(-0.5 * t.square()) / math.sqrt(2 * math.pi)

    def quantile(self, p: float) -> float:
        """Return the normal quantile."""
        return float(special.ndtri(p))

    def wave(self, frequency: Tensor) -> tuple[Tensor, Tensor]:
        """Return the characteristic function."""
        return torch.exp(-0.5 * frequency.square()), torch.zeros_like(frequency)

    def exponential(self, scale: Tensor) -> Tensor:
        """Return the cumulant function."""
        return 0.5 * scale.square()


class Minimum(Family):
    """The law of the logarithm of a standard exponential variable."""

    def tails(self, t: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Return both tails."""
        hazard = torch.exp(t.clamp(max=700.0))
        above = torch.exp(-hazard)
        # 1 - exp(-h) by its series where h is small: a graph has no expm1.
        small = hazard.clamp(max=1e-3)
        series = small * (1 - small / 2 * (1 - small / 3 * (1 - small / 4 * (1 - small / 5))))
        return torch.where(hazard < 1e-3, series, 1 - above), above

    def density(self, t: Tensor) -> Tensor:
        """Return the density."""
        return torch.exp(t - torch.exp(t.clamp(max=700.0)))

    def quantile(self, p: float) -> float:
        """Return the logarithm of the exponential quantile."""
        return math.log(-math.log1p(-p))

    def wave(self, frequency: Tensor) -> tuple[Tensor, Tensor]:
        """Say that it is not needed: the law is one of logarithms."""
        raise NotImplementedError("the gamma function of a complex number has no graph")

    def exponential(self, scale: Tensor) -> Tensor:
        """Return the logarithm of the gamma function of 1 + scale."""
        return log_gamma(1 + scale)


def log_gamma(x: Tensor) -> Tensor:
    """Return the logarithm of the gamma function of positive numbers, by Stirling's series.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.export.laws import log_gamma
    >>> round(log_gamma(torch.tensor(5.0, dtype=torch.float64)).exp().item(), 9)  # 4!
    24.0
    """
    steps = [torch.log(x + k) for k in range(_SHIFT)]
    y = x + _SHIFT
    r = 1 / (y * y)
    series = (1 / 12 + r * (-1 / 360 + r * (1 / 1260 - r * (1 / 1680 - r / 1188)))) / y
    stirling = (y - 0.5) * torch.log(y) - y + 0.5 * math.log(2 * math.pi) + series
    return stirling - torch.stack(steps).sum(0)


class Mixture(Law):
    r"""Mixtures of shifted and scaled laws of one family, or of their exponentials.

    .. math:: Y = \mu_j + \sigma_j T \quad\text{with probability } w_j, \qquad
        \text{or}\quad Y = e^{\mu_j + \sigma_j T}

    Parameters
    ----------
    family : Family
    location, scale, weight : Tensor of shape (n, m)
    logarithmic : bool
        Whether these are of log y.
    step : float
        Of a lattice that y is rounded to; 0 for none.
    """

    def __init__(
        self,
        family: Family,
        location: Tensor,
        scale: Tensor,
        weight: Tensor,
        *,
        logarithmic: bool = False,
        step: float = 0.0,
    ) -> None:
        self.family, self.logarithmic, self.step = family, logarithmic, step
        self.location, self.scale, self.weight = location, scale, weight

    @classmethod
    def of(cls, laws: Sequence[Mixture]) -> Mixture:
        """Return the uniform mixture of some laws of one family."""
        first = laws[0]
        if len(laws) == 1:
            return first
        return cls(
            first.family,
            torch.cat([law.location for law in laws], 1),
            torch.cat([law.scale for law in laws], 1),
            torch.cat([law.weight / len(laws) for law in laws], 1),
            logarithmic=first.logarithmic,
            step=first.step,
        )

    def mean(self) -> Tensor:
        r"""Return the expectations, shape (n,).

        On a lattice of step s, with :math:`\phi` the characteristic function of T,

        .. math:: E\,\mathrm{round}(Y) = \mu + \sum_{k \ge 1} \frac{(-1)^k s}{\pi k}\,
            \mathrm{Im}\, e^{2\pi i k \mu / s} \phi(2\pi k \sigma / s),

        which a spread of a quarter of a step makes short.
        """
        if self.logarithmic:
            each = torch.exp(self.location + self.family.exponential(self.scale))
            return (self.weight * each).sum(1)
        each = self.location
        if self.step > 0:
            turn = 2 * math.pi / self.step
            for k in range(1, _HARMONICS + 1):
                real, imaginary = self.family.wave(k * turn * self.scale)
                # Reduced before the sine, whose argument would lose the digits.
                cell = self.location / self.step
                angle = 2 * math.pi * k * (cell - torch.round(cell))
                wave = torch.sin(angle) * real + torch.cos(angle) * imaginary
                each = each + (-1) ** k * self.step / (math.pi * k) * wave
        return (self.weight * each).sum(1)

    def tails(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return P(Y <= y) and P(Y > y), shape (n, q); on a lattice of the rounded Y."""
        if self.step > 0:
            # Points such as 0.3 = 3 * 0.1 divide to a hair less than a whole number.
            y = self.step * (torch.floor(y / self.step + 1e-6) + 0.5)
        if self.logarithmic:
            y = torch.log(y.clamp(min=1e-300))
        return tails_of(self.family, y, *self.parameters)

    def quantile(self, p: Sequence[float]) -> Tensor:
        """Return the smallest y with P(Y <= y) >= p for each p, shape (n, q)."""
        levels = [self.family.quantile(level) for level in p]
        standard = torch.tensor(levels, dtype=torch.float64)
        each = self.location[:, None] + self.scale[:, None] * standard[:, None]
        y = each[..., 0] if self.location.shape[1] == 1 else self._root(p, each)
        if self.logarithmic:
            y = torch.exp(y)
        if self.step == 0:
            return y
        index = torch.ceil(y / self.step - 0.5)
        # The quantile is rounded itself: one point lower may do already.
        lower = self.step * (index - 1)
        below, above = self.tails(lower)
        level = torch.tensor(list(p), dtype=torch.float64)
        enough = either(level > 0.5, above <= 1 - level, below >= level)
        return torch.where(enough, lower, self.step * index)

    def _root(self, p: Sequence[float], each: Tensor) -> Tensor:
        """Return where the mixture reaches p, between the quantiles of its components.

        Newton steps on the logarithm of the tail, replaced by bisection where they
        leave the bracket, as `hybridflow.laws.MixtureLaw` does.
        """
        # A loop holds on to tensors, but not to those that are attributes.
        family, (location, scale, weight, constants) = self.family, self.parameters
        level = torch.tensor(list(p), dtype=torch.float64)
        upper = level > 0.5
        wanted = torch.where(upper, 1 - level, level)
        used = weight[:, None] > 0
        low = torch.where(used, each, torch.inf).min(-1).values
        high = torch.where(used, each, -torch.inf).max(-1).values
        resolution = 1e-12 * _EPSILON * (high - low)

        def unsettled(step: Tensor, y: Tensor, low: Tensor, high: Tensor, done: Tensor) -> Tensor:
            return (step < _STEPS) & (~done).any()

        def narrowed(
            step: Tensor, y: Tensor, low: Tensor, high: Tensor, done: Tensor
        ) -> tuple[Tensor, ...]:
            below, above = tails_of(family, y, location, scale, weight, constants)
            beyond = torch.where(upper, above, below)
            reached = either(upper, beyond <= wanted, beyond >= wanted)
            bottom, top = torch.where(reached, low, y), torch.where(reached, y, high)
            standard = (y[..., None] - location[:, None]) / scale[:, None]
            density = (weight[:, None] * family.density(standard) / scale[:, None]).sum(-1)
            gap = torch.log(beyond / wanted)
            guess = y + torch.where(upper, 1.0, -1.0) * gap * beyond / density
            inside = (guess >= bottom) & (guess <= top)
            newton = inside & ((step % 3 != 2) | (step < 10))
            width = 2 * _EPSILON * torch.maximum(bottom.abs(), top.abs()) + resolution
            closed = ~(top - bottom > width)
            exact = newton & (((guess - y).abs() <= width) | (gap.abs() <= 2 * _EPSILON))
            after = torch.where(newton, guess, (bottom + top) / 2)
            after = torch.where(closed, top, after)
            return (
                step + 1,
                torch.where(done, y, after),
                torch.where(done, low, bottom),
                torch.where(done, high, top),
                done | closed | exact,
            )

        start = (torch.zeros((), dtype=torch.int64), (low + high) / 2, low, high, ~(high > low))
        return repeated(unsettled, narrowed, start)[1]

    @property
    def parameters(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return locations, scales and weights, and the constants of the family."""
        return self.location, self.scale, self.weight, self.family.constants()


def tails_of(
    family: Family,
    y: Tensor,
    location: Tensor,
    scale: Tensor,
    weight: Tensor,
    constants: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return P(Y <= y) and P(Y > y) under a mixture, (n, q) for parameters (n, m)."""
    standard = (y[..., None] - location[..., None, :]) / scale[..., None, :]
    below, above = family.tails(standard, constants)
    weight = weight[..., None, :]
    return (weight * below).sum(-1), (weight * above).sum(-1)


def either(condition: Tensor, one: Tensor, other: Tensor) -> Tensor:
    """Return where(condition, one, other) of booleans, which runtimes do not select from."""
    return (condition & one) | (~condition & other)
