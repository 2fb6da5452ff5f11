"""Prediction intervals in a graph: calibrated quantiles, or the ends of CV+ by bisection."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from hybridflow.calibration import Conformal
from hybridflow.export.laws import Mixture, tails_of
from hybridflow.export.loops import repeated

_SLACK = 1e-6  # as `hybridflow.calibration.intervals` widens levels
_HALVINGS = 1100


class Intervals(nn.Module):
    """`predict_interval` at one coverage, of one output.

    Parameters
    ----------
    scores : Conformal
        With enough rows for the coverage.
    coverage : float
    """

    firsts: Tensor
    blocks: Tensor
    below: Tensor

    def __init__(self, scores: Conformal, coverage: float) -> None:
        super().__init__()
        self.members = [fold.members for fold in scores.folds]
        self.rows, self.least = scores.rows, scores.level(coverage)
        threshold = scores.threshold(coverage) * (1 - _SLACK)
        self.level = min(max(threshold, 0.0), 1.0)
        # The scores of all folds in blocks, as many and as wide for each.
        longest = max(len(fold.scores) for fold in scores.folds)
        width = max(1, math.isqrt(longest))
        count = math.ceil(max(1, longest) / width)
        blocks = np.full((len(scores.folds), count * width), np.inf)
        below = np.zeros((len(scores.folds), count * width + 1))
        for place, fold in enumerate(scores.folds):
            known, mass = fold.steps
            blocks[place, : len(known)] = known
            below[place] = np.pad(mass, (0, below.shape[1] - len(mass)), mode="edge")
        each = torch.as_tensor(blocks).view(-1, count, width)
        self.register_buffer("firsts", each[:, 1:, 0].clone())
        self.register_buffer("blocks", each.flatten(0, 1).clone())
        self.register_buffer("below", torch.as_tensor(below).flatten())
        self.count, self.width = count, width

    def forward(self, laws: list[Mixture]) -> Tensor:
        """Return the ends of the intervals, shape (n, 2).

        Parameters
        ----------
        laws : list of Mixture
            By each member.
        """
        each = [Mixture.of([laws[member] for member in members]) for members in self.members]
        ends = [law.quantile((self.level, 1 - self.level)).unbind(1) for law in each]
        lower, upper = (torch.stack(list(end)) for end in zip(*ends, strict=True))
        if len(each) == 1:
            found = [lower[0], upper[0]]
        else:
            found = [
                self._boundary(each, lower.max(0).values, lower.min(0).values, is_lower=True),
                self._boundary(each, upper.min(0).values, upper.max(0).values, is_lower=False),
            ]
        return torch.stack([torch.minimum(*found), torch.maximum(*found)], 1)

    def _boundary(
        self, laws: list[Mixture], inside: Tensor, outside: Tensor, *, is_lower: bool
    ) -> Tensor:
        """Return the last y, coming from `inside`, whose p-value is large enough.

        By halving, until there is no number, or no point of the lattice, in between.
        """
        # A loop holds on to tensors, but not to those that are attributes.
        firsts, blocks, below = self.firsts, self.blocks, self.below
        fold = torch.arange(len(laws))[:, None]
        block_of, mass_of = fold * self.count, fold * (self.count * self.width + 1)
        family, logarithmic, step = laws[0].family, laws[0].logarithmic, laws[0].step
        location, scale, weight = (
            torch.stack(parts) for parts in zip(*(law.parameters[:3] for law in laws), strict=True)
        )
        constants = family.constants()
        width, rows, least, unit = self.width, self.rows, self.least, step or 1.0

        def holds(place: Tensor) -> Tensor:
            y = unit * place
            if step:
                edge = torch.floor((y if is_lower else y - step) / step + 1e-6)
                y = step * (edge + 0.5)
            if logarithmic:
                y = torch.log(y.clamp(min=1e-300))
            tails = tails_of(family, y[:, None], location, scale, weight, constants)
            value = tails[0 if is_lower else 1][..., 0] * (1 + _SLACK)
            block = (firsts[:, None] <= value[..., None]).to(torch.int64).sum(-1)
            near = embedding(block + block_of, blocks)
            rank = block * width + (near <= value[..., None]).to(torch.int64).sum(-1)
            mass = embedding(rank + mass_of, below[:, None])[..., 0].sum(0)
            return (1 + mass) / (rows + 1) > least

        def middle_of(good: Tensor, bad: Tensor) -> Tensor:
            middle = (good + bad) / 2
            return good + torch.trunc(middle - good) if step else middle

        def is_open(count: Tensor, good: Tensor, bad: Tensor) -> Tensor:
            middle = middle_of(good, bad)
            return (count < _HALVINGS) & ((middle != good) & (middle != bad)).any()

        def halved(count: Tensor, good: Tensor, bad: Tensor) -> tuple[Tensor, ...]:
            middle = middle_of(good, bad)
            # Between neighbours there is no other number: the middle is one of them.
            some = (middle != good) & (middle != bad)
            true = holds(middle)
            return (
                count + 1,
                torch.where(some & true, middle, good),
                torch.where(some & ~true, middle, bad),
            )

        good, bad = inside / unit, outside / unit
        if step:
            good, bad = torch.round(good), torch.round(bad)
        good = torch.where(holds(bad), bad, good)
        start = (torch.zeros((), dtype=torch.int64), good, bad)
        return unit * repeated(is_open, halved, start)[1]
