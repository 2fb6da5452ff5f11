"""What the columns of a row tensor are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Which columns of a row are numbers, levels and the exposure.

    A row is K numbers in the order of the table: NaN where a number is missing, the
    code of its level where a column is categorical.

    Parameters
    ----------
    width : int
        K.
    numbers : tuple of int
        Positions of the D columns that carry a density.
    levels : tuple of int
        Positions of the categorical columns.
    sizes : tuple of int
        Known levels of each of them.
    flagged : tuple of int
        Which of the D numbers have a flag that says whether they are missing.
    exposure : int, optional
        Position of the column that the rate of a count is per unit of.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.layout import Layout
    >>> layout = Layout(width=2, numbers=(1,), levels=(0,), sizes=(3,), flagged=(0,))
    >>> numbers, codes = layout.split(torch.tensor([[2.0, torch.nan], [0.0, 1.5]]))
    >>> codes
    tensor([[2, 1],
            [0, 0]])
    """

    width: int
    numbers: tuple[int, ...]
    levels: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    flagged: tuple[int, ...] = ()
    exposure: int | None = None

    @classmethod
    def of_numbers(cls, features: int) -> Self:
        """Return the layout of rows of numbers alone."""
        return cls(features, tuple(range(features)))

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the numbers (n, D) and the codes of categorical columns and flags (n, C).

        Codes are None if there are none.
        """
        numbers = x if len(self.numbers) == self.width else x[:, list(self.numbers)]
        if not self.levels and not self.flagged:
            return numbers, None
        levels = x[:, list(self.levels)].long()
        return numbers, torch.cat([levels, numbers[:, list(self.flagged)].isnan().long()], 1)

    def join(self, numbers: Tensor, codes: Tensor | None) -> Tensor:
        """Return rows from their parts, missing where a flag says so; each exposure is 1."""
        if codes is None and len(self.numbers) == self.width:
            return numbers
        x = numbers.new_ones(len(numbers), self.width)
        if codes is not None:
            flags = codes[:, len(self.levels) :].bool()
            numbers = numbers.clone()
            numbers[:, list(self.flagged)] = torch.where(
                flags, math.nan, numbers[:, list(self.flagged)]
            )
            x[:, list(self.levels)] = codes[:, : len(self.levels)].to(x.dtype)
        x[:, list(self.numbers)] = numbers
        return x

    def offset(self, x: Tensor) -> Tensor | None:
        """Return the logarithm of the exposure of each row, None if there is none."""
        return None if self.exposure is None else x[:, self.exposure].log()
