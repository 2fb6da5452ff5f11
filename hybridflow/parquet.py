"""A Parquet file that is read in parts, for tables larger than memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hybridflow.errors import ConfigError, InputError, closest

if TYPE_CHECKING:
    import polars as pl

_CELLS = 2**24  # of a buffer: 128 MiB of float64
_FEWEST = 1000
PARTS = 16
"""Parts of a file that are mixed in one buffer."""


class ParquetTable:
    """A Parquet file that `fit` reads in parts, with no more than a buffer of it in memory.

    ``model.fit(ParquetTable("trips.parquet"), y="price")`` names the target, and
    ``sample_weight=`` the weight, as columns of the file; all others are features. A
    file that fits in the buffer is read whole, and the model is that of the frame.

    Parameters
    ----------
    path : str or Path
    columns : sequence of str, optional
        The features; by default all columns that have no other role.
    buffer : int, optional
        Most rows in memory at a time, 1,000 at least; by default as many as make
        16 million cells. A fit holds two buffers: a sample of the file, and
        the rows that are being trained on.

    Raises
    ------
    ConfigError
        If `buffer` is no such number.
    InputError
        If the file is no Parquet table, has no rows, or lacks a column.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import polars
    >>> from hybridflow import ParquetTable
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "small.parquet"
    ...     polars.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]}).write_parquet(path)
    ...     table = ParquetTable(path)
    ...     len(table), table.columns, table.read(1, 3)["b"].to_list()
    (3, ['a', 'b'], ['y', 'z'])
    """

    def __init__(
        self,
        path: str | Path,
        *,
        columns: Sequence[str] | None = None,
        buffer: int | None = None,
    ) -> None:
        import polars as pl

        self.path = str(path)
        self._file = os.path.abspath(self.path)  # other processes may work in another folder
        with open(self._file, "rb"):  # says itself what is wrong with a path
            pass
        self._version = self._stamp()
        try:
            lazy = pl.scan_parquet(self._file)
            self.names = list(lazy.collect_schema())
            self._rows = int(lazy.select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise InputError(f"{self.path}: not a Parquet table: {_brief(error)}") from None
        if self._rows == 0:
            raise InputError(f"{self.path}: the table has a header but no rows")
        self.columns = self.names if columns is None else list(columns)
        self.check(self.columns, "columns")
        if buffer is None:
            buffer = max(_FEWEST, _CELLS // max(1, len(self.columns)))
        if isinstance(buffer, bool) or not isinstance(buffer, int) or buffer < _FEWEST:
            raise ConfigError(f"buffer must be a whole number >= {_FEWEST} of rows, got {buffer!r}")
        self.buffer = buffer

    def __len__(self) -> int:
        return self._rows

    @property
    def fits(self) -> bool:
        """Whether all rows fit in the buffer."""
        return self._rows <= self.buffer

    @property
    def part(self) -> int:
        """Rows that are read at a time."""
        return -(-min(self.buffer, self._rows) // PARTS)

    def select(self, columns: Sequence[str]) -> ParquetTable:
        """Return the same file with these features."""
        return ParquetTable(self.path, columns=columns, buffer=self.buffer)

    def check(self, names: Sequence[str], role: str) -> None:
        """Raise InputError unless the file has columns of these names."""
        for name in names:
            if name not in self.names:
                raise InputError(
                    f"{role}: {self.path} has no column {name!r}; it has "
                    f"{', '.join(self.names[:12])}{closest(str(name), self.names)}"
                )

    def read(self, start: int, stop: int, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Return the rows from `start` on, before `stop`; other parts are not read.

        Raises
        ------
        InputError
            If they cannot be read, or the file is no longer the one that was opened.
        OSError
            If it is gone.
        """
        import polars as pl

        lazy = pl.scan_parquet(self._file).select(self.columns if columns is None else columns)
        try:
            rows = lazy.slice(start, stop - start).collect()
            failure = None
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            failure = f"{self.path}: rows {start} to {stop - 1}: {_brief(error)}"
        # Looked at last, so that a change while rows were read is seen, and told as the cause.
        if self._stamp() != self._version:
            raise InputError(
                f"{self.path}: the file has changed since it was opened, and rows of both would "
                "be mixed; open it anew: ParquetTable(path)"
            )
        if failure is not None:
            raise InputError(failure)
        return rows

    def _stamp(self) -> tuple[int, int, int]:
        """Return what tells a file from a later one in its place."""
        found = os.stat(self._file)
        return found.st_ino, found.st_size, found.st_mtime_ns

    def parts(
        self, columns: Sequence[str] | None = None, size: int | None = None
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yield the first row and the rows of each part, in order."""
        step = self.part if size is None else size
        for start in range(0, self._rows, step):
            yield start, self.read(start, min(start + step, self._rows), columns)

    def glance(self, rows: int = PARTS * _FEWEST) -> pl.DataFrame:
        """Return some rows of all columns, in runs that are spread evenly over the file."""
        import polars as pl

        run = min(-(-rows // PARTS), self._rows)
        starts = np.unique(np.linspace(0, self._rows - run, PARTS).astype(int)).tolist()
        if self._rows <= rows:
            return self.read(0, self._rows, self.names)
        return pl.concat([self.read(start, start + run, self.names) for start in starts])

    def draw(
        self, columns: Sequence[str], seed: int, *, cover: str | None = None
    ) -> tuple[NDArray[np.int64], pl.DataFrame]:
        """Return a buffer of rows, any equally likely, in the order of the file.

        Parameters
        ----------
        columns : sequence of str
        seed : int
        cover : str, optional
            A column of classes; some rows of each that the draw missed are added.

        Returns
        -------
        positions : ndarray of shape (m,)
            In the file.
        rows : polars.DataFrame
        """
        import polars as pl

        rng = np.random.default_rng(seed)
        drawn = np.sort(rng.choice(self._rows, self.buffer, replace=False, shuffle=False))
        found, places, extra = [], [], Extra(cover)
        for start, rows in self.parts(columns):
            low, high = np.searchsorted(drawn, [start, start + rows.height])
            mine = drawn[low:high] - start
            found.append(rows[mine])
            places.append(drawn[low:high])
            extra.see(start, rows)
        kept = pl.concat(found)
        rare = extra.missing_from(kept)
        if rare:
            found += [row for _, row in rare]
            places += [np.array([place]) for place, _ in rare]
        positions = np.concatenate(places)
        order = np.argsort(positions)
        return positions[order], pl.concat(found)[order]


def _brief(error: BaseException) -> str:
    """Return the first line of what polars says, which goes on about its plan."""
    return str(error).strip().partition("\n")[0]


class Extra:
    """The first rows of each class, for those that a draw misses.

    Parameters
    ----------
    column : str or None
        None for no classes.
    """

    _EACH = 20
    _MOST = 1000  # classes; a column of more is one of numbers

    def __init__(self, column: str | None) -> None:
        self.column = column
        self.first: dict[Any, list[tuple[int, pl.DataFrame]]] = {}

    def see(self, start: int, rows: pl.DataFrame) -> None:
        """Note the first rows of new classes."""
        if self.column is None or len(self.first) > self._MOST:
            return
        for label in rows[self.column].drop_nulls().unique().to_list():
            seen = self.first.setdefault(label, [])
            if len(seen) < self._EACH:
                places = (rows[self.column] == label).arg_true()[: self._EACH - len(seen)]
                seen += [(start + place, rows[place]) for place in places.to_list()]
            if len(self.first) > self._MOST:
                return

    def missing_from(self, rows: pl.DataFrame) -> list[tuple[int, pl.DataFrame]]:
        """Return the rows of classes that others have none of."""
        if self.column is None:
            return []
        there = set(rows[self.column].unique().to_list())
        return [row for label, seen in self.first.items() if label not in there for row in seen]
