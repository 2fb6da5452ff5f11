"""One member of an estimator as a graph: latent, score and head of rows, by one pass."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hybridflow.draws import quasi_random
from hybridflow.export.rewriting import for_export
from hybridflow.model import HybridModel

DRAWS = 32


class Read(NamedTuple):
    """What a member says of n rows."""

    latent: Tensor
    """(n, D), of the networks' dtype."""
    log_density: Tensor
    """(n,), float64."""
    context: Tensor | None
    """(n, width)."""


class Member(nn.Module):
    """The answers of a `HybridModel` without a branch that looks at the data.

    Clean rows and the draws of those that need an average go through the flow as
    one batch. Which rows need one is an input, so that a batch without a missing
    cell costs no draw.

    Parameters
    ----------
    model : HybridModel
    dtype : torch.dtype
        Of the networks; the preprocessing stays float64.
    scored : bool
        Whether the density is asked for.
    """

    middle: Tensor
    log_slope: Tensor
    noise: Tensor
    fill: Tensor
    log_q: Tensor

    def __init__(self, model: HybridModel, dtype: torch.dtype, *, scored: bool) -> None:
        super().__init__()
        self.model = model = for_export(model)
        self.scored, self.features = scored, model.event.features
        noise = model.noise if len(model.noise) else quasi_random(DRAWS, self.features)
        fill, log_q = model.fill(noise)
        # Of each column alone: its middle, and what filling it adds to the preprocessing's ladj.
        alone = torch.full((self.features, self.features), math.nan, dtype=torch.float64)
        alone = torch.where(torch.eye(self.features, dtype=torch.bool), alone, 0.0)
        middle, log_slope = model.complete(alone, alone.isnan())
        self.register_buffer("middle", middle.diagonal().clone())
        self.register_buffer("log_slope", log_slope)
        self.register_buffer("noise", noise)
        self.register_buffer("fill", fill)
        self.register_buffer("log_q", log_q)
        model.network_to(dtype)

    def forward(self, numbers: Tensor, codes: Tensor | None, rows: Tensor | None) -> Read:
        """Return latent, score and context.

        Parameters
        ----------
        numbers : Tensor of shape (n, D)
            NaN where a cell is missing.
        codes : Tensor of shape (n, C) or None
        rows : Tensor of shape (r,) or None
            Which rows the score averages over draws; None if it is all, or none.
        """
        model = self.model
        context = model.context(codes)
        missing = numbers.isnan()
        complete = torch.where(missing, self.middle, numbers)
        standard, outer = model.preprocess(complete)
        n = numbers.shape[0]
        if not (self.scored and self.features):
            z, _ = self._flow(standard, context)
            score = numbers.new_zeros(n)
            return Read(z, self._with_masses(score, codes), context)
        if model.noised:
            drawn, ladj = self._noised(complete, missing)
            among = None
        else:
            assert rows is not None
            missing, among = missing.index_select(0, rows), rows
            drawn = standard.index_select(0, rows).expand(len(self.noise), -1, -1)
            ladj = outer.index_select(0, rows)
        drawn = torch.where(missing, self.fill[:, None], drawn)
        filled = torch.where(missing, self.log_slope + self.log_q[:, None], 0.0).sum(-1)
        both = context
        if context is not None:
            again = context if among is None else context.index_select(0, among)
            both = torch.cat([context, again.repeat(len(self.noise), 1)])
        z, inner = self._flow(torch.cat([standard, drawn.flatten(0, 1)]), both)
        log_density = model.base.log_prob(z, both).double() + inner
        each = log_density[n:].view(len(self.noise), -1) + (ladj - filled)
        mean = log_sum_exp(each) - math.log(len(self.noise))
        if among is None:
            score = mean + self._log_width(complete, missing)
        else:
            score = (log_density[:n] + outer).index_copy(0, among, mean)
        score = self._with_masses(score, codes)
        if model.bounded:
            outside = ((numbers < model.low) | (numbers > model.high)).any(1)
            score = torch.where(outside, -math.inf, score)
        return Read(z[:n], score, context)

    def eta(self, read: Read, offset: Tensor | None) -> Tensor:
        """Return the linear predictor, float64 of shape (n, k)."""
        return self.model.predictor(read.latent, read.context, offset).double()

    def _flow(self, standard: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        z, ladj = self.model.flow(standard.to(self.model.dtype), context)
        return z, ladj.double()

    def _noised(self, complete: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        """Return every row at every draw, preprocessed, and ladj: (draws, n, D), (draws, n)."""
        noisy = self.model.dequantise(complete, self.noise[:, None])
        noisy = torch.where(missing, complete, noisy)
        standard, outer = self.model.preprocess(noisy.flatten(0, 1))
        draws = len(self.noise)
        return standard.view(draws, -1, self.features), outer.view(draws, -1)

    def _log_width(self, complete: Tensor, missing: Tensor) -> Tensor:
        below, above = self.model.cell(complete)
        width = torch.where(self.model.lattice & ~missing, below + above, 1.0)
        return width.log().sum(-1)

    def _with_masses(self, score: Tensor, codes: Tensor | None) -> Tensor:
        categories = self.model.categories
        if categories is None or codes is None or not self.scored:
            return score
        return score + categories._log_prob(codes).double()


def log_sum_exp(x: Tensor) -> Tensor:
    """Return log sum exp over the first axis; minus infinity where everything is."""
    largest = x.max(0).values
    safe = torch.where(torch.isfinite(largest), largest, 0.0)
    return torch.log(torch.exp(x - safe).sum(0)) + safe
