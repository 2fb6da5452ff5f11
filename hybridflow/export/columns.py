"""What the inputs of a graph are: one for each column of the table that the model uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hybridflow.column import Column
from hybridflow.layout import Layout
from hybridflow.schema import Schema

_TOKENS = ("", "<NA>", "<missing>")


@dataclass(frozen=True)
class Input:
    """One column as a caller of the graph passes it.

    Parameters
    ----------
    name : str
    kind : {"number", "text"}
        Numbers are doubles, NaN where a cell is missing; true is 1. Text is strings.
    missing : str or None
        Of text: what stands for a missing cell, the empty string unless that is a level.
    codes : dict of str to int
        Of text: the code of each level.
    unseen : int
        The code of any other text.
    """

    name: str
    kind: Literal["number", "text"]
    missing: str | None
    codes: dict[str, int]
    unseen: int


def inputs_of(schema: Schema) -> list[Input]:
    """Return the inputs of a graph, in the order of the table.

    Constant and empty columns are no inputs.

    Parameters
    ----------
    schema : Schema

    Examples
    --------
    >>> from hybridflow.column import Column
    >>> from hybridflow.export.columns import inputs_of
    >>> from hybridflow.schema import Schema
    >>> city = Column(name="city", dtype="String", kind="categorical", levels=("Bern", "Genf"))
    >>> (found,) = inputs_of(Schema(columns=(city,)))
    >>> found.kind, found.codes
    ('text', {'Bern': 0, 'Genf': 1, '': 2})
    """
    return [_input(schema.columns[i]) for i in schema.kept]


def _input(column: Column) -> Input:
    if not any(isinstance(level, str) for level in column.levels):
        return Input(column.name, "number", None, {}, column.size)
    codes = {str(level): code for code, level in enumerate(column.levels)}
    token = next(token for token in (*_TOKENS, column.name) if token not in codes)
    codes[token] = len(column.levels) if column.missing > 0 else column.size
    return Input(column.name, "text", token, codes, column.size)


class Reading(nn.Module):
    """Rows of a model from the columns of a graph.

    Parameters
    ----------
    schema : Schema
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.layout: Layout = schema.layout
        columns = [schema.columns[i] for i in schema.kept]
        self.levels = nn.ModuleDict(
            {
                str(place): _NumericLevels(column)
                for place, column in enumerate(columns)
                if column.levels and not any(isinstance(level, str) for level in column.levels)
            }
        )

    def forward(self, columns: list[Tensor]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return numbers (n, D), codes (n, C) and the logarithm of the exposure (n,).

        Parameters
        ----------
        columns : list of Tensor of shape (n,)
            Doubles, and codes in place of text.
        """
        layout = self.layout
        numbers = columns[0].new_empty((columns[0].shape[0], 0), dtype=torch.float64)
        if layout.numbers:
            numbers = torch.stack([columns[place] for place in layout.numbers], 1)
        codes = [
            self.levels[str(place)](columns[place]) if str(place) in self.levels else columns[place]
            for place in layout.levels
        ]
        codes += [numbers[:, k].isnan().to(torch.int64) for k in layout.flagged]
        offset = None if layout.exposure is None else columns[layout.exposure].log()
        return numbers, torch.stack(codes, 1) if codes else None, offset


class _NumericLevels(nn.Module):
    """Codes of levels that are numbers or booleans."""

    level: Tensor
    less: Tensor

    def __init__(self, column: Column) -> None:
        super().__init__()
        levels = [float(level) for level in column.levels]
        self.size = column.size
        self.missing = len(levels) if column.missing > 0 else column.size
        self.register_buffer("level", torch.tensor(levels, dtype=torch.float64))
        self.register_buffer("less", torch.arange(len(levels)) - self.size)

    def forward(self, values: Tensor) -> Tensor:
        """Return the code of each value."""
        found = (values[:, None] == self.level).to(torch.int64)
        codes = (found * self.less).sum(1) + self.size
        return torch.where(values.isnan(), self.missing, codes)
