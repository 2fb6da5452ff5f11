"""What the columns of a table are to a model, and back from rows to a table.

`Schema` records what the audit found: constant columns stay out, tied columns are
dequantised, dependent columns get a noise floor, levels have masses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hybridflow.column import Column, cast, pandas_series, polars_series
from hybridflow.config import Config
from hybridflow.layout import Layout
from hybridflow.specs import Circle
from hybridflow.table import Container, Matrix, Table


class Schema(Config):
    """The columns of a table and the kind of container it came in.

    Parameters
    ----------
    columns : tuple of Column
        In the order of the table.
    container : {"numpy", "pandas", "polars"}
    named : bool
        Whether the columns had names that are text.

    Examples
    --------
    >>> from hybridflow.column import Column
    >>> from hybridflow.schema import Schema
    >>> schema = Schema(
    ...     columns=(
    ...         Column(name="height", dtype="float64", kind="continuous"),
    ...         Column(name="planet", dtype="int64", kind="constant", origin=3.0),
    ...     ),
    ... )
    >>> schema.kept, schema.of_kind("constant")
    ([0], ['planet'])
    """

    columns: tuple[Column, ...]
    container: Container = "numpy"
    named: bool = False

    @property
    def kept(self) -> list[int]:
        """Positions of the columns that are part of a row."""
        return [i for i, c in enumerate(self.columns) if c.kind not in ("constant", "empty")]

    @property
    def numbers(self) -> list[int]:
        """Positions of the columns that carry a density."""
        apart = ("constant", "empty", "categorical", "exposure")
        return [i for i, column in enumerate(self.columns) if column.kind not in apart]

    @property
    def layout(self) -> Layout:
        """What the columns of a row tensor are."""
        kept, numbers = self.kept, self.numbers
        place = {column: position for position, column in enumerate(kept)}
        levels = [i for i in kept if self.columns[i].kind == "categorical"]
        exposure = [place[i] for i in kept if self.columns[i].kind == "exposure"]
        return Layout(
            width=len(kept),
            numbers=tuple(place[i] for i in numbers),
            levels=tuple(place[i] for i in levels),
            sizes=tuple(self.columns[i].size for i in levels),
            flagged=tuple(k for k, i in enumerate(numbers) if self.columns[i].missing > 0),
            exposure=exposure[0] if exposure else None,
        )

    def encode(self, table: Table) -> Matrix:
        """Return a table of these columns as a model reads it, the kept columns alone."""
        kept = self.kept
        whole = len(kept) == table.values.shape[1]
        if whole and not any(column.levels for column in self.columns):
            return table.values  # not copied: it may fill half of the memory
        encoded = [self.columns[i].encode(table.values[:, i], table.factors.get(i)) for i in kept]
        return np.stack(encoded, axis=1) if encoded else np.empty((len(table), 0))

    def within_seen(self, x: Matrix) -> Matrix:
        """Return drawn rows with the cells of tied columns inside the range of the training rows.

        Circles have no range.

        Parameters
        ----------
        x : ndarray of shape (n, K)
            The kept columns alone.
        """
        seen = [
            (place, *column.seen)
            for place, column in enumerate(self.columns[i] for i in self.kept)
            if column.seen is not None and not isinstance(column.support, Circle)
        ]
        if not seen:
            return x
        x = x.copy()
        for place, low, high in seen:
            x[:, place] = np.clip(x[:, place], low, high)  # NaN stays
        return x

    def summary(self) -> str:
        """Return a table of the columns: type, and what is done about each.

        Examples
        --------
        >>> from hybridflow.column import Column
        >>> from hybridflow.schema import Schema
        >>> column = Column(name="age", dtype="int64", kind="tied", step=1.0, lattice=True)
        >>> print(Schema(columns=(column,)).summary())
        column  type   in the model
        age     int64  mass: whole multiples of 1 from 0 on
        """
        rows = [("column", "type", "in the model")]
        rows += [(c.name, c.type, c.described()) for c in self.columns]
        name, dtype = (max(len(row[i]) for row in rows) for i in (0, 1))
        return "\n".join(f"{a:{name}}  {b:{dtype}}  {c}" for a, b, c in rows)

    def of_kind(self, kind: str) -> list[str]:
        """Return the names of the columns of one kind."""
        return [column.name for column in self.columns if column.kind == kind]

    def frame(self, values: Matrix) -> Any:
        """Return rows in the container, with the names and types, of the training table."""
        columns = [(column, values[:, i]) for i, column in enumerate(self.columns)]
        if self.container == "numpy":
            if any(column.levels for column in self.columns):
                cells = np.empty(values.shape, dtype=object)
                for i, (column, mine) in enumerate(columns):
                    cells[:, i] = column.decode(mine) if column.levels else cast(mine, column)
                return cells
            if len({column.dtype for column in self.columns}) > 1:
                return values
            return np.stack([cast(mine, column) for column, mine in columns], axis=1)
        native = __import__(self.container)  # pandas or polars, by the Literal above
        series = pandas_series if self.container == "pandas" else polars_series
        return native.DataFrame(
            {
                name: series(mine, column)
                for name, (column, mine) in zip(self.labels, columns, strict=True)
            }
        )

    @property
    def labels(self) -> list[str | int]:
        """The names of the columns, whole numbers where the table was numbered."""
        names = [column.name for column in self.columns]
        numbered = not self.named and all(name.isdecimal() for name in names)
        return [int(name) for name in names] if numbered else list(names)

    def expand(self, kept: Matrix) -> Matrix:
        """Put the columns that were left out back beside the kept ones."""
        values = np.empty((len(kept), len(self.columns)))
        values[:, self.kept] = kept
        for i, column in enumerate(self.columns):
            if column.kind == "constant":
                values[:, i] = column.origin
            elif column.kind == "empty":
                values[:, i] = np.nan
        return values
