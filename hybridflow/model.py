"""The hybrid model: preprocessing, flow, base and head as one module with two views.

``HybridModel`` is what is trained, saved and exported. Its *density view* sees
tied cells with uniform noise and missing ones as noise, its *task view* sees the
former clean and the latter filled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from hybridflow.categories import Categories
from hybridflow.densities.base import Base
from hybridflow.draws import Fill, quasi_random
from hybridflow.lattice import ROUNDING, as_written, bounds
from hybridflow.layout import Layout
from hybridflow.likelihoods.base import Head
from hybridflow.specs import Event
from hybridflow.transforms.base import Transform
from hybridflow.transforms.circular import CircleFeatures, wrap

_DRAWS = 32
_CELLS = 2**20  # rows times columns that one pass holds; bounds memory, not results


class HybridModel(nn.Module):
    r"""A flow with its base and, for a hybrid, a head on its latent.

    .. math::
        \log p(x, y) = \log p(y \mid z, c) + \log p_{base}(z) + \log|\det dz/dx|
        + \log P(c), \qquad z = f(x; c).

    c are the categorical columns and a flag for each column that had missing cells;
    x are the D other columns. A row is one tensor of both: numbers, NaN where
    missing, and the codes of levels.

    A tied column with step s is scored as a mass, a column with a noise floor
    as a smoothed density, both by the same average over fixed quasi-random
    draws :math:`u` on :math:`(-1/2, 1/2)^D`:

    .. math:: \log P(x) = \sum_{j \in lattice} \log s_j + \log E_u\, p(x + s u).

    The average over finitely many draws is in expectation a lower bound. Where
    a cell crosses a bound of its column's support, what lies beyond is cut off and
    :math:`s_j` is the width that is left; on a circle cells go around. A row
    outside the support scores :math:`-\infty`.

    A missing number is replaced, behind the preprocessing, by a draw u from a
    normal q, on a circle from a uniform one, which makes

    .. math:: \log p(x_{obs} \mid c) = \log E_u\,
        \frac{p(x_{obs}, u \mid c)}{q(u)}

    of the same draws: in expectation a lower bound, too. The head reads it as the
    middle of its column, with its flag.

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
    layout : Layout, optional
        What the columns of a row are; D numbers if not given.
    categories : Categories, optional
        Of the codes of the layout, if it has any.

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
        draws: int = _DRAWS,
        layout: Layout | None = None,
        categories: Categories | None = None,
    ) -> None:
        super().__init__()
        self.event = event
        self.preprocess = preprocess
        self.flow = flow
        self.base = base
        self.head = head
        self.layout = Layout.of_numbers(event.features) if layout is None else layout
        self.categories = categories
        self.fill = Fill(event.features, event.circles)
        self.dtype = torch.float64
        self.register_buffer("step", step.double())
        self.register_buffer("lattice", lattice)
        self.register_buffer("origin", origin.double())
        self.noised = bool((step > 0).any())
        for name, ends in bounds(event, self.step, self.origin).items():
            self.register_buffer(name, ends, persistent=False)
        self.bounded = bool((self.low.isfinite() | self.high.isfinite()).any())
        self.read = CircleFeatures(event.features, event.circles)
        count = draws if self.stochastic and event.features else 0
        read = self.read.width if head is not None else 0
        self.register_buffer("mixing", torch.eye(read, dtype=torch.float64))
        self.register_buffer("noise", quasi_random(count, event.features))

    @property
    def stochastic(self) -> bool:
        """Whether the density view is one of noise: tied cells, or cells that may be missing."""
        return self.noised or bool(self.layout.flagged)

    def network_to(self, dtype: torch.dtype) -> None:
        """Run flow, base, head and categories in `dtype`; preprocessing stays float64."""
        for part in (self.flow, self.base, self.head, self.categories):
            if part is not None:
                part.to(dtype)
        self.dtype = dtype

    def context(self, codes: Tensor | None) -> Tensor | None:
        """Return what flow and head read of the codes of rows, shape (n, width)."""
        if self.categories is None or codes is None:
            return None
        return self.categories.encode(codes)

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
        place = torch.tensor(circles, device=noisy.device)
        return noisy.index_copy(1, place, wrap(noisy[:, circles]))

    def log_score(self, x: Tensor) -> Tensor:
        """Return the score of each row, shape (n,).

        Masses for tied columns, categorical ones and missing flags, densities else.
        """
        return torch.cat([self._log_score(part) for part in self._parts(x)])

    def _log_score(self, x: Tensor) -> Tensor:
        numbers, codes = self.layout.split(x)
        context = self.context(codes)
        missing = numbers.isnan()
        drawn = missing.any(1) | self.noised
        score = x.new_zeros(len(x))
        for rows, draw in ((drawn, True), (~drawn, False)):
            if self.event.features and rows.any():
                given = None if context is None else context[rows]
                if draw:
                    score[rows] = self._log_mean(numbers[rows], missing[rows], given)
                else:
                    score[rows] = self.log_density(numbers[rows], given)
        if self.categories is not None and codes is not None:
            score = score + self.categories.log_prob(codes).double()
        if not self.bounded:
            return score
        outside = ((numbers < self.low) | (numbers > self.high)).any(1)
        return torch.where(outside, -math.inf, score)

    def _log_mean(self, x: Tensor, missing: Tensor, context: Tensor | None) -> Tensor:
        """Return the log of the mean over draws, times the widths of cells that are masses."""
        noise = self.noise
        if len(noise) == 0:  # cells are missing in a column that never had a missing one
            noise = quasi_random(_DRAWS, self.event.features).to(x.device)
        draws = len(noise)
        repeated = None if context is None else context.repeat(draws, 1)
        drawn = self._log_drawn(x, missing, noise[:, None], repeated).view(draws, len(x))
        below, above = self.cell(x)
        width = torch.where(self.lattice & ~missing, below + above, 1.0)
        return torch.logsumexp(drawn, 0) - math.log(draws) + width.log().sum(-1)

    def _log_drawn(
        self, x: Tensor, missing: Tensor, uniform: Tensor, context: Tensor | None
    ) -> Tensor:
        """Return log p(x + noise, u) - log q(u) of all rows, one draw after another."""
        complete, correction = self.complete(x, missing)
        noisy = self.dequantise(complete, uniform)
        if missing.any():
            # Noise would change what the correction takes back.
            noisy = torch.where(missing, complete, noisy)
        standard, outer = self.preprocess(noisy.reshape(-1, x.shape[1]))
        if missing.any():
            value, log_q = self.fill(uniform)
            standard = torch.where(missing, value, standard.view(noisy.shape)).flatten(0, -2)
            outer = (outer.view(noisy.shape[:-1]) - correction).flatten()
            outer = outer - torch.where(missing, log_q, 0.0).sum(-1).flatten()
        z, inner = self.flow(standard.to(self.dtype), context)
        log_density: Tensor = self.base.log_prob(z, context).double() + outer + inner.double()
        return log_density

    def complete(self, x: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows with missing cells in the middle of their column, and what that adds to ladj.

        Returns
        -------
        x : Tensor of shape (n, D)
        ladj : Tensor of shape (n,)
            Of the preprocessing of the filled cells alone.
        """
        if not missing.any():
            return x, x.new_zeros(len(x))
        with torch.inference_mode(False), torch.enable_grad():
            middle = self.preprocess.inverse(x.new_zeros(1, x.shape[1]))[0].detach()
            middle.requires_grad_()
            (slope,) = torch.autograd.grad(self.preprocess(middle)[0].sum(), middle)
        ladj = torch.where(missing, slope.abs().log(), 0.0).sum(1)
        return torch.where(missing, middle.detach(), x), ladj

    def task_view(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return latent and context of clean rows, missing cells in the middle of their column."""
        numbers, codes = self.layout.split(x)
        context = self.context(codes)
        z, _ = self.latent(self.complete(numbers, numbers.isnan())[0], context)
        return z, context

    def views(
        self, x: Tensor, uniform: Tensor | None, smoothing: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return both views of training rows by one pass through the flow.

        Parameters
        ----------
        x : Tensor of shape (n, K)
        uniform : Tensor of shape (n, D) or None
            Noise on [0, 1) for the density view; None if nothing is noised.
        smoothing : Tensor of shape (n, D), optional
            What is added to the density view behind the preprocessing.

        Returns
        -------
        z : Tensor of shape (n, D)
            Of the task view; of a model without head that of the density view.
        context : Tensor of shape (n, width) or None
        log_density : Tensor of shape (n,)
            log p(x, c) of the density view, for one draw of noise.
        """
        numbers, codes = self.layout.split(x)
        context, missing = self.context(codes), numbers.isnan()
        n = len(x)
        clean, filled = self.complete(numbers, missing)
        standard, outer = self.preprocess(clean)
        seen = standard
        if uniform is not None:
            noisy = torch.where(missing, clean, self.dequantise(clean, uniform))
            value, log_q = self.fill(uniform)
            seen, outer = self.preprocess(noisy)
            seen = torch.where(missing, value, seen)
            outer = outer - filled - torch.where(missing, log_q, 0.0).sum(1)
        if smoothing is not None:
            seen = self.smooth(seen, smoothing)
        if seen is not standard:
            standard = seen if self.head is None else torch.cat([standard, seen])
        both = context
        if context is not None and len(standard) > n:
            both = context.repeat(2, 1)
        z, inner = self.flow(standard.to(self.dtype), both)
        log_density = self.base.log_prob(z[-n:], context).double() + outer + inner[-n:].double()
        if self.categories is not None and codes is not None:
            log_density = log_density + self.categories.log_prob(codes).double()
        return z[:n], context, log_density

    def eta(self, x: Tensor, offset: Tensor | None = None) -> Tensor:
        """Return the linear predictor of clean rows, shape (n, k), in float64."""
        if self.head is None:
            raise TypeError("a density model has no head")
        offset = self.layout.offset(x) if offset is None else offset
        etas = []
        start = 0
        for rows in self._parts(x):
            part = None if offset is None else offset[start : start + len(rows)]
            etas.append(self.predictor(*self.task_view(rows), part))
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
        """Return the numbers of shape (n, D) whose latent is z, in float64."""
        numbers = []
        for rows in self._slices(len(z)):
            given = None if context is None else context[rows]
            standard, _ = self.flow.inverse(z[rows].to(self.dtype), given)
            numbers.append(self.preprocess.inverse(standard.double(), given)[0])
        return torch.cat(numbers)

    def sample(
        self, n: int, context: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw n rows, shape (n, K), in float64, within the support.

        Cells of tied columns lie on their lattice. A bound itself occurs only
        there: the ends of an interval, and 0 if training rows held it. Cells are
        missing where their flag is drawn.
        """
        codes = None if self.categories is None else self.categories.sample(n, generator)
        if codes is not None:
            context = self.context(codes)
        x = self.settled(self.data(self.base.sample(n, context, generator), context))
        return self.layout.join(x, codes)

    def settled(self, x: Tensor) -> Tensor:
        """Return numbers of shape (n, D) with those of tied columns on their lattice."""
        step = torch.where(self.lattice, self.step, 1.0)
        level = self.origin + step * torch.round((x - self.origin) / step)
        level = self._within(level, step)
        level = as_written(level, self.origin, step)
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
            The numbers of the rows, in float64, none missing.
        """
        if context is None and self.categories is not None:
            context = self.context(self.categories.sample(n, generator))
        return self.data(self.base.rsample(n, context, generator), context)

    def _within(self, level: Tensor, step: Tensor) -> Tensor:
        """Move points of lattices that rounding brought out of the support one step back."""
        off = ROUNDING * step
        level = torch.where(level < self.least, level + step, level)
        level = torch.where(level > self.high + off, level - step, level)
        level = torch.where(level < -off, level + self.period, level)
        past = (self.period > 0) & (level > self.period - off)
        return torch.where(past, level - self.period, level)

    def _parts(self, x: Tensor) -> Iterator[Tensor]:
        unforeseen = _DRAWS if self.event.features and bool(x.isnan().any()) else 1
        for rows in self._slices(len(x), len(self.noise) or unforeseen):
            yield x[rows]

    def _slices(self, n: int, copies: int = 1) -> Iterator[slice]:
        width = self.event.features + (0 if self.categories is None else self.categories.width)
        size = max(1, _CELLS // (copies * max(8, width)))
        for start in range(0, max(1, n), size):
            yield slice(start, start + size)
