"""Ranks among held-out rows in a graph: novelty p-values and prediction sets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hybridflow.calibration import Conformal, Fold
from hybridflow.export.member import log_sum_exp
from hybridflow.novelty import Novelty, log_tail
from hybridflow.novelty.calibration import TIES
from hybridflow.novelty.scores import COMBINED, Fit

_ROUNDING = 1e-9  # relative, as `conformal_pvalue` has it
_SET_SLACK = 1e-9


class Ranks(nn.Module):
    """How many of some sorted numbers are no larger than a value: first by blocks, then within.

    Parameters
    ----------
    scores : sequence of float
        Ascending.
    """

    blocks: Tensor
    firsts: Tensor

    def __init__(self, scores: Sequence[float]) -> None:
        super().__init__()
        width = max(1, math.isqrt(len(scores)))
        count = math.ceil(max(1, len(scores)) / width)
        padded = np.full(count * width, np.inf)
        padded[: len(scores)] = scores
        blocks = torch.as_tensor(padded).view(count, width)
        self.register_buffer("blocks", blocks)
        self.register_buffer("firsts", blocks[1:, 0].clone())
        self.width = width

    def forward(self, values: Tensor) -> Tensor:
        """Return the counts, int64 of the shape of the values."""
        block = (self.firsts <= values[..., None]).to(torch.int64).sum(-1)
        within = nn.functional.embedding(block, self.blocks) <= values[..., None]
        # What pads the last block is infinite, and so may a value be.
        within = within & torch.isfinite(nn.functional.embedding(block, self.blocks))
        return block * self.width + within.to(torch.int64).sum(-1)


class Mass(nn.Module):
    """How many held-out rows, by weight, conform no better than a value.

    Parameters
    ----------
    fold : Fold
    """

    below: Tensor

    def __init__(self, fold: Fold) -> None:
        super().__init__()
        scores, below = fold.steps
        self.ranks = Ranks(scores.tolist())
        self.register_buffer("below", torch.as_tensor(below))

    def forward(self, values: Tensor) -> Tensor:
        """Return the masses, of the shape of the values."""
        return self.below[self.ranks(values)]


class ConformalPvalue(nn.Module):
    """`hybridflow.novelty.conformal_pvalue` of one fold."""

    def __init__(self, fold: Fold) -> None:
        super().__init__()
        self.mass = Mass(fold)
        self.total = float(fold.counts.sum())

    def forward(self, conformity: Tensor) -> Tensor:
        """Return the share of rows at least as strange."""
        finite = torch.where(torch.isfinite(conformity), conformity, 0.0)
        mass: Tensor = self.mass(conformity + _ROUNDING * (1 + finite.abs()))
        return (1 + mass) / (1 + self.total)


class LogTail(nn.Module):
    """`hybridflow.novelty.log_tail` of one fold, as a table of its straight pieces.

    Parameters
    ----------
    fold : Fold
    """

    knots: Tensor
    levels: Tensor

    def __init__(self, fold: Fold) -> None:
        super().__init__()
        known = np.unique(np.asarray(fold.scores))
        self.empty = len(known) == 0
        if self.empty:
            return
        self.first, self.last = float(known[0]), float(known[-1])
        # The slope of the lower tail, read off the function itself.
        reach = 1e6 * (1 + abs(self.first))
        at_first, beyond = log_tail(fold, [self.first, self.first - reach])
        self.scale = float(reach / (at_first - beyond))
        self.ranks = Ranks(known[1:-1].tolist())
        knots = known if len(known) > 1 else np.array([known[0], known[0] + 1.0])
        levels = log_tail(fold, known)
        levels = levels if len(known) > 1 else np.repeat(levels, 2)
        self.register_buffer("knots", torch.as_tensor(knots))
        self.register_buffer("levels", torch.as_tensor(levels))

    def forward(self, values: Tensor) -> Tensor:
        """Return the smooth logarithm of the p-value."""
        if self.empty:
            low = -torch.log1p(values.abs())
            return torch.where(values < 0, low, -1 / (2 + values.clamp(min=0)))
        place = self.ranks(values)
        low, high = self.knots[place], self.knots[place + 1]
        bottom, top = self.levels[place], self.levels[place + 1]
        inside = values.clamp(self.first, self.last)
        level = bottom + (inside - low) * ((top - bottom) / (high - low))
        below = ((values - self.first) / self.scale).clamp(max=0.0)
        above = torch.exp(-((values - self.last) / self.scale).clamp(min=0.0))
        return torch.where(values > self.last, level * above, level + below)


class NoveltyGraph(nn.Module):
    """The combined score of `Novelty` and its p-value.

    Parameters
    ----------
    novelty : Novelty
    """

    def __init__(self, novelty: Novelty) -> None:
        super().__init__()
        self.fits: tuple[Fit, ...] = novelty.fits
        self.final = ConformalPvalue(novelty.final["combined"]) if novelty.final else None
        folds = [[novelty.references[name][m] for m in range(len(self.fits))] for name in COMBINED]
        self.tails = nn.ModuleList(LogTail(fold) for each in folds for fold in each)
        exact = [] if self.final is not None else [fold for each in folds for fold in each]
        self.exact = nn.ModuleList(ConformalPvalue(fold) for fold in exact)

    def forward(self, log_densities: list[Tensor], latents: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the score, the lower the stranger, and the p-value, each of shape (n,).

        Parameters
        ----------
        log_densities : list of Tensor of shape (n,)
        latents : list of Tensor of shape (n, D)
            Of each member.
        """
        conformity = [*log_densities, *map(self._closeness, log_densities, latents, self.fits)]
        evidence = _harmonic(
            [tail(each) for tail, each in zip(self.tails, conformity, strict=True)]
        )
        if self.final is not None:
            p = self.final(evidence)
        else:
            pairs = zip(self.exact, conformity, strict=True)
            p = torch.exp(_harmonic([torch.log(exact(each)) for exact, each in pairs]))
        strangeness = torch.log1p((-evidence).clamp(min=0.0))
        finite = strangeness.clamp(max=1e300)
        share = torch.where(torch.isinf(strangeness), 1.0, finite / (1 + finite))
        return evidence, p * (1 - TIES * share)

    @staticmethod
    def _closeness(log_density: Tensor, latent: Tensor, fit: Fit) -> Tensor:
        """Return minus the robust squared distance of the latent from its middle."""
        z = latent.double()
        center, spread = (torch.tensor(c, dtype=torch.float64) for c in (fit.center, fit.spread))
        far = ((z - center) / spread).square().sum(1)
        impossible = torch.isinf(log_density) & (log_density < 0)
        return torch.where(impossible, -torch.inf, -far)


def _harmonic(logs: list[Tensor]) -> Tensor:
    """Return the logarithm of the harmonic mean of numbers, given their logarithms."""
    each = torch.stack(logs)
    lowest = each.min(0).values
    safe = torch.where(torch.isfinite(lowest), lowest, 0.0)
    mean = math.log(len(logs)) + safe - torch.log(torch.exp(safe - each).sum(0))
    return torch.where(torch.isfinite(lowest), mean, lowest)


class Sets(nn.Module):
    """`predict_set` at one coverage.

    Parameters
    ----------
    scores : Conformal
        With enough rows for the coverage.
    coverage : float
    """

    def __init__(self, scores: Conformal, coverage: float) -> None:
        super().__init__()
        self.members = [fold.members for fold in scores.folds]
        self.masses = nn.ModuleList(Mass(fold) for fold in scores.folds)
        self.rows, self.level = scores.rows, scores.level(coverage)

    def forward(self, logs: list[Tensor]) -> Tensor:
        """Return which classes a row may be of, boolean of shape (n, k).

        Parameters
        ----------
        logs : list of Tensor of shape (n, k)
            Log-probabilities by each member.
        """
        total = torch.zeros_like(logs[0])
        for members, mass in zip(self.members, self.masses, strict=True):
            mean = torch.exp(log_sum_exp(torch.stack([logs[member] for member in members])))
            total = total + mass(mean / len(members) * (1 + _SET_SLACK))
        found = (1 + total) / (self.rows + 1) > self.level
        best = log_sum_exp(torch.stack(logs)).argmax(1)
        return found | (torch.arange(found.shape[1]) == best[:, None])
