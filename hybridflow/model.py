"""The hybrid model: preprocessing, flow, base and head as one module with two views.

``HybridModel`` is what is trained, saved and exported. Its *density view* sees
tied cells with uniform noise, its *task view* sees them clean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hybridflow.densities.base import Base
from hybridflow.errors import PluginContractError
from hybridflow.likelihoods.base import Head
from hybridflow.specs import Event, Positive
from hybridflow.transforms.base import Transform
from hybridflow.transforms.circular import CircleFeatures, wrap

_CELLS = 2**20  # rows times columns that one pass holds; bounds memory, not results
_INSIDE = 1e-9  # share of a cell that its noise keeps away from a bound of the support
_ROUNDING = 1e-6  # share of a step by which a point of a lattice may be off


class HybridModel(nn.Module):
    r"""A flow with its base and, for a hybrid, a head on its latent.

    .. math::
        \log p(x, y) = \log p(y \mid z) + \log p_{base}(z) + \log|\det dz/dx|,
        \qquad z = f(x).

    A tied column with step s is scored as a mass, a column with a noise floor
    as a smoothed density, both by the same average over fixed quasi-random
    draws :math:`u` on :math:`(-1/2, 1/2)^D`:

    .. math:: \log P(x) = \sum_{j \in lattice} \log s_j + \log E_u\, p(x + s u).

    The average over finitely many draws is in expectation a lower bound. Where
    a cell crosses a bound of its column's support, what lies beyond is cut off and
    :math:`s_j` is the width that is left; on a circle cells go around. A row
    outside the support scores :math:`-\infty`.

    Parameters
    ----------
    event : Event
        The D columns that carry a density, with their supports.
    preprocess : Transform
        Fitted elementwise layers, from the supports to real numbers and
        angles; always float64.
    flow : Transform
    base : Base
    head : Head or None
    step : Tensor of shape (D,)
        Width of the noise of the density view, 0 for none.
    lattice : Tensor of shape (D,)
        Boolean: which columns are masses.
    origin : Tensor of shape (D,)
        A value on the lattice.
    draws : int, default=32
        Number of draws in the average.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import Normal
    >>> from hybridflow.model import HybridModel
    >>> from hybridflow.specs import Event
    >>> from hybridflow.transforms import Identity, Standardize
    >>> model = HybridModel(
    ...     Event.real(2), Standardize(2), Identity(), Normal(2), None,
    ...     step=torch.zeros(2), lattice=torch.zeros(2, dtype=torch.bool), origin=torch.zeros(2),
    ... )
    >>> model.log_score(torch.zeros(1, 2, dtype=torch.float64))  # -log(2 pi)
    tensor([-1.8379], dtype=torch.float64)
    """

    step: Tensor
    lattice: Tensor
    origin: Tensor
    low: Tensor
    high: Tensor
    lowest: Tensor
    highest: Tensor
    least: Tensor
    period: Tensor
    noise: Tensor
    mixing: Tensor

    def __init__(
        self,
        event: Event,
        preprocess: Transform,
        flow: Transform,
        base: Base,
        head: Head | None,
        *,
        step: Tensor,
        lattice: Tensor,
        origin: Tensor,
        draws: int = 32,
    ) -> None:
        super().__init__()
        self.event = event
        self.preprocess = preprocess
        self.flow = flow
        self.base = base
        self.head = head
        self.dtype = torch.float64
        self.register_buffer("step", step.double())
        self.register_buffer("lattice", lattice)
        self.register_buffer("origin", origin.double())
        self.noised = bool((step > 0).any())
        for name, ends in _bounds(event, self.step, self.origin).items():
            self.register_buffer(name, ends, persistent=False)
        self.bounded = bool((self.low.isfinite() | self.high.isfinite()).any())
        self.read = CircleFeatures(event.features, event.circles)
        count = draws if self.noised and event.features else 0
        read = self.read.width if head is not None else 0
        self.register_buffer("mixing", torch.eye(read, dtype=torch.float64))
        self.register_buffer("noise", _quasi_random(count, event.features))

    def network_to(self, dtype: torch.dtype) -> None:
        """Run flow, base and head in `dtype`; preprocessing stays float64."""
        for part in (self.flow, self.base, self.head):
            if part is not None:
                part.to(dtype)
        self.dtype = dtype

    def latent(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return z of shape (n, D) and log|det dz/dx| of shape (n,), the latter in float64."""
        standard, outer = self.preprocess(x, context)
        z, inner = self.flow(standard.to(self.dtype), context)
        return z, outer + inner.double()

    def log_density(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return log p(x) of shape (n,) at exactly x, in nats and units of x."""
        z, ladj = self.latent(x, context)
        log_prob: Tensor = self.base.log_prob(z, context).double()
        return log_prob + ladj

    def cell(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far the cell of each value reaches below and above it."""
        half = self.step / 2
        if not self.bounded:
            return half, half
        below = torch.minimum(half, (x - self.low).clamp(min=0))
        return below, torch.minimum(half, (self.high - x).clamp(min=0))

    def dequantise(self, x: Tensor, uniform: Tensor) -> Tensor:
        """Return x with noise on its tied cells; `uniform` lies in [0, 1).

        Noise does not leave the support. A value of a circle may leave its
        first period: it stands for the same point.
        """
        below, above = self.cell(x)
        noisy = x + ((below + above) * uniform - below)
        if not self.bounded:
            return noisy
        return torch.minimum(torch.maximum(noisy, self.lowest), self.highest)

    def smooth(self, standard: Tensor, noise: Tensor) -> Tensor:
        """Return rows behind the preprocessing with noise added, on circles around them."""
        noisy = standard + noise
        circles = self.event.circles
        if not circles:
            return noisy
        return noisy.index_copy(1, torch.tensor(circles, device=noisy.device), wrap(noisy[:, circles]))

    def log_score(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the score of each row, shape (n,): masses for tied columns, densities else."""
        if not self.noised:
            score = torch.cat([self.log_density(*part) for part in self._parts(x, context)])
        else:
            score = torch.cat(
                [self._log_mass(*part) for part in self._parts(x, context, len(self.noise))]
            )
        if not self.bounded:
            return score
        outside = ((x < self.low) | (x > self.high)).any(1)
        return torch.where(outside, -math.inf, score)

    def _log_mass(self, x: Tensor, context: Tensor | None) -> Tensor:
        draws = len(self.noise)
        noisy = self.dequantise(x[None], self.noise[:, None]).flatten(0, 1)
        repeated = None if context is None else context.repeat(draws, 1)
        log_density = self.log_density(noisy, repeated).view(draws, len(x))
        below, above = self.cell(x)
        width = torch.where(self.lattice, below + above, 1.0)
        return torch.logsumexp(log_density, 0) - math.log(draws) + width.log().sum(-1)

    def eta(self, x: Tensor, context: Tensor | None = None, offset: Tensor | None = None) -> Tensor:
        """Return the linear predictor of clean rows, shape (n, k), in float64."""
        if self.head is None:
            raise TypeError("a density model has no head")
        etas = []
        start = 0
        for rows, rows_context in self._parts(x, context):
            z, _ = self.latent(rows, rows_context)
            part = None if offset is None else offset[start : start + len(rows)]
            etas.append(self.predictor(z, rows_context, part))
            start += len(rows)
        return torch.cat(etas).double()

    def predictor(
        self, z: Tensor, context: Tensor | None = None, offset: Tensor | None = None
    ) -> Tensor:
        """Return the linear predictor of latent rows, shape (n, k)."""
        if self.head is None:
            raise TypeError("a density model has no head")
        eta: Tensor = self.head(self.readout(z), context, offset)
        return eta

    def readout(self, z: Tensor) -> Tensor:
        """Return latent rows as the head reads them, angles by cosine and sine.

        They are in the coordinates of the standardised data: a fixed linear
        map, fitted once, undoes what whitening did to the scales of
        correlated columns. Directions of little variance, mostly noise, stay
        small.
        """
        read: Tensor = self.read(z)
        return read @ self.mixing.to(z.dtype).T

    @torch.no_grad()
    def fit_mixing(self, z: Tensor, standard: Tensor, weight: Tensor) -> None:
        """Fit the least-squares linear map from z back to the standardised data."""
        z, standard = self.read(z), self.read(standard)
        share = (weight / weight.sum())[:, None]
        ridge = 1e-6 * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        gram = z.T @ (share * z) + ridge
        self.mixing.copy_(torch.linalg.solve(gram, z.T @ (share * standard)).T)

    def data(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the rows x of shape (n, D) whose latent is z, in float64."""
        rows = []
        for part, part_context in self._parts(z, context):
            standard, _ = self.flow.inverse(part.to(self.dtype), part_context)
            rows.append(self.preprocess.inverse(standard.double(), part_context)[0])
        return torch.cat(rows)

    def sample(
        self, n: int, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw n rows, shape (n, D), in float64, within the support.

        Cells of tied columns lie on their lattice. A bound itself occurs only
        there: the ends of an interval, and 0 if training rows held it.
        """
        x = self.data(self.base.sample(n, context, generator), context)
        step = torch.where(self.lattice, self.step, 1.0)
        level = self.origin + step * torch.round((x - self.origin) / step)
        level = self._within(level, step)
        level = _as_written(level, self.origin, step)
        level = torch.minimum(torch.maximum(level, self.low), self.high)
        return torch.where(self.lattice, level, x)

    def rsample(
        self, n: int, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw n rows with gradients to the context and to what base and flow have learned.

        Cells of tied columns are not rounded to their lattice, since a rounded
        number has no gradient; apart from that the rows are those of `sample`.

        Returns
        -------
        Tensor of shape (n, D)
            In float64.
        """
        return self.data(self.base.rsample(n, context, generator), context)

    def _within(self, level: Tensor, step: Tensor) -> Tensor:
        """Move points of lattices that rounding brought out of the support one step back."""
        off = _ROUNDING * step
        level = torch.where(level < self.least, level + step, level)
        level = torch.where(level > self.high + off, level - step, level)
        level = torch.where(level < -off, level + self.period, level)
        past = (self.period > 0) & (level > self.period - off)
        return torch.where(past, level - self.period, level)

    def _parts(
        self, x: Tensor, context: Tensor | None, copies: int = 1
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        size = max(1, _CELLS // (copies * max(8, self.event.features)))
        for start in range(0, max(1, len(x)), size):
            rows = slice(start, start + size)
            yield x[rows], None if context is None else context[rows]


def _bounds(event: Event, step: Tensor, origin: Tensor) -> dict[str, Tensor]:
    """Return where the support of each dimension ends, for values, noise and lattices.

    ``low`` and ``high`` are the bounds, ``lowest`` and ``highest`` the ends of
    noised values, ``least`` lies just below the first point of a lattice, and
    ``period`` is that of circles, 0 for others.
    """
    supports = event.dimensions
    ends = step.new_tensor([support.bounds for support in supports]).reshape(-1, 2)
    low, high = ends.t().contiguous()
    inset, off = _INSIDE * step, _ROUNDING * step
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


def _quasi_random(draws: int, features: int) -> Tensor:
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
    generator = torch.Generator().manual_seed(0)
    rest = torch.rand(draws, features - covered, generator=generator, dtype=torch.float64)
    return torch.cat([points, rest], dim=1)


def _as_written(level: Tensor, origin: Tensor, step: Tensor) -> Tensor:
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


def check_contract(flow: Transform, event: Event, name: str, z: Tensor) -> None:
    """Raise unless a built flow keeps the contract of shapes, types and devices.

    Parameters
    ----------
    flow : Transform
    event : Event
    name : str
        What to call the flow in the message.
    z : Tensor of shape (n, D)
        Rows to try it on.

    Raises
    ------
    PluginContractError
        Naming the flow, what was expected and what it returned.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.model import check_contract
    >>> from hybridflow.specs import Event
    >>> from hybridflow.transforms import Identity
    >>> check_contract(Identity(), Event.real(2), "nothing", torch.zeros(5, 2))
    """
    for direction in (flow.forward, flow.inverse):
        title = f"flow {name!r}: {direction.__name__}"
        context = z.new_zeros(len(z), event.context_features) if event.context_features else None
        before = z.clone()
        with torch.no_grad():
            try:
                result = direction(z, context)
            except NotImplementedError:
                continue  # its spec says so; whoever needs the inverse gets that error
        if not (isinstance(result, tuple) and len(result) == 2):
            raise PluginContractError(
                f"{title} must return (Tensor, ladj), returned {type(result).__name__}"
            )
        for what, tensor, shape in zip(
            ("its rows", "ladj"), result, (z.shape, z.shape[:1]), strict=True
        ):
            expected = (tuple(shape), z.dtype, z.device)
            seen = (
                (tuple(tensor.shape), tensor.dtype, tensor.device)
                if isinstance(tensor, Tensor)
                else None
            )
            if seen != expected:
                found = type(tensor).__name__ if seen is None else _described(*seen)
                raise PluginContractError(
                    f"{title} must return {what} of {_described(*expected)}, got {found}"
                )
        if not torch.equal(before, z):
            raise PluginContractError(f"{title} changed its input in place")


def _described(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> str:
    return f"shape {shape} and {dtype} on {device}"
