"""Rows to train on, the batches they are drawn in, and the noise on their tied cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from hybridflow.likelihoods.base import TargetBatch


@dataclass(frozen=True)
class Rows:
    """Rows to train or validate on.

    Parameters
    ----------
    x : Tensor of shape (n, K)
        Float64, in the units of the data; NaN where missing, codes of levels.
    targets : TargetBatch or None
    weight : Tensor of shape (n,)
        Sample weights of the density term.
    task_weight : Tensor of shape (n,)
        Sample weight times class weight.
    """

    x: Tensor
    targets: TargetBatch | None
    weight: Tensor
    task_weight: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor) -> Rows:
        targets = None if self.targets is None else self.targets[rows]
        return Rows(self.x[rows], targets, self.weight[rows], self.task_weight[rows])

    def to(self, device: torch.device | str) -> Rows:
        """Return the rows on a device."""
        targets = None if self.targets is None else self.targets.to(device)
        return Rows(self.x.to(device), targets, self.weight.to(device), self.task_weight.to(device))


class BatchSource(Protocol):
    """Where batches come from if not all rows are at hand."""

    total: int
    """Rows in an epoch."""

    def draw(self) -> Rows:
        """Return the rows of the next batch."""


class Batches:
    """Positions of the rows of each batch: a fresh permutation per epoch.

    Labelled and unlabelled rows are spread evenly, so that every batch
    contains labelled rows while there are any, and an epoch contains every
    row: once, or more often where there are fewer than batches.
    """

    def __init__(self, rows: Rows, size: int, generator: torch.Generator) -> None:
        n = len(rows)
        labelled = torch.ones(n, dtype=torch.bool)
        if rows.targets is not None and rows.targets.labelled.any():
            labelled = rows.targets.labelled.cpu()
        self.labelled = labelled.nonzero().squeeze(1)
        self.unlabelled = (~labelled).nonzero().squeeze(1)
        self.generator = generator
        self.count = max(1, n // size)
        self.position = 0
        self.order = torch.empty(0, dtype=torch.int64)
        self.unlabelled_order = torch.empty(0, dtype=torch.int64)

    def draw(self) -> Tensor:
        """Return the positions of the next batch."""
        if self.position == 0:
            self.order = self._shuffled(self.labelled)
            if len(self.labelled) < self.count:
                self.order = self.order.repeat(-(-self.count // len(self.order)))[: self.count]
            self.unlabelled_order = self._shuffled(self.unlabelled)
        i = self.position
        self.position = (i + 1) % self.count
        return torch.cat([self._part(self.order, i), self._part(self.unlabelled_order, i)])

    def _shuffled(self, rows: Tensor) -> Tensor:
        return rows[torch.randperm(len(rows), generator=self.generator)]

    def _part(self, order: Tensor, i: int) -> Tensor:
        """Return the i-th of the parts that are as even as can be."""
        return order[i * len(order) // self.count : (i + 1) * len(order) // self.count]


def uniform_noise(
    generator: torch.Generator, n: int, features: int, device: torch.device
) -> Tensor:
    """Return noise on [0, 1) for every number."""
    return torch.rand(n, features, generator=generator, dtype=torch.float64).to(device)


def keyed_noise(generator: torch.Generator, levels: Tensor) -> Tensor:
    """Return noise on [0, 1) that is the same for equal cells of a column; see `levels`."""
    count = int(levels.max()) + 1 if levels.numel() else 0
    table = torch.rand(count, levels.shape[1], generator=generator, dtype=torch.float64)
    return table.to(levels.device).gather(0, levels) if count else table.new_empty(levels.shape)


def levels(x: Tensor) -> Tensor:
    """Return the rank of each cell among the distinct values of its column, missing ones last."""
    known = x.nan_to_num(nan=math.inf)
    columns = [torch.unique(column, return_inverse=True)[1] for column in known.T]
    return torch.stack(columns, 1) if columns else x.long()
