"""Fitting tables that are larger than memory: a sample of them, and windows to train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from hybridflow.batches import Batches, Rows
from hybridflow.errors import ConfigError, InputError
from hybridflow.estimators.columns import Declared, check_bounds, on_circles
from hybridflow.estimators.matching import as_numbers
from hybridflow.estimators.weights import read_weights
from hybridflow.likelihoods.base import TargetBatch
from hybridflow.parquet import PARTS, ParquetTable
from hybridflow.schema import Schema
from hybridflow.table import read_table, refuse_missing

if TYPE_CHECKING:
    import polars as pl

ReadTargets = Callable[[Any, int], TargetBatch]
"""From y and the number of rows to targets."""

_MOST_LEVELS = 1000


@dataclass(frozen=True)
class Source:
    """A file of which a sample is in memory.

    Parameters
    ----------
    table : ParquetTable
    features : list of str
    target : list of str
        Empty for none.
    single : bool
        Whether the target is one column, and not a frame of columns.
    weight : str or None
    positions : ndarray of int
        Of the rows of the sample, in the file.
    anchors : polars.DataFrame
        Targets that every part is read together with, so that one whose rows are all
        unlabelled, or of one class, is read like the others.
    """

    table: ParquetTable
    features: list[str]
    target: list[str]
    single: bool
    weight: str | None
    positions: NDArray[np.int64]
    anchors: pl.DataFrame


@dataclass(frozen=True)
class Given:
    """What `fit` was given, with a sample in place of a file.

    Parameters
    ----------
    X, y, sample_weight : object
    source : Source or None
        None where all rows are in X.
    """

    X: Any
    y: Any
    sample_weight: Any
    source: Source | None = None


def given(
    X: Any,
    y: Any,
    sample_weight: Any,
    rng: Callable[[], np.random.RandomState],
    *,
    classes: bool = False,
) -> Given:
    """Return what `fit` was given; of a table that is larger than its buffer, a sample.

    Parameters
    ----------
    X : array-like or ParquetTable
    y, sample_weight : object
        Names of columns, if X is a ParquetTable.
    rng : callable
        Returns the random state of the estimator; asked only for a sample.
    classes : bool
        Whether the sample must hold every label of y.
    """
    if not isinstance(X, ParquetTable):
        return Given(X, y, sample_weight)
    target = _named(y, "y")
    weight = _named(sample_weight, "sample_weight")
    X.check([*target, *weight], "y and sample_weight")
    apart = {*target, *weight}
    features = [name for name in X.columns if name not in apart]
    if not features:
        raise ConfigError(f"{X.path}: no column is left to fit a density to")
    every = [*features, *target, *weight]
    single = not isinstance(y, list | tuple)
    if X.fits:
        rows, source = X.read(0, len(X), every), None
    else:
        seed = int(rng().randint(np.iinfo(np.int32).max))
        cover = target[0] if classes and single and target else None
        positions, rows = X.draw(every, seed, cover=cover)
        anchors = rows.select(target)[_anchors(rows.select(target))]
        source = Source(X, features, target, single, next(iter(weight), None), positions, anchors)
    of_rows = rows[weight[0]].to_numpy() if weight else None
    return Given(rows.select(features), targets_of(rows, target, single), of_rows, source)


def targets_of(rows: pl.DataFrame, target: Sequence[str], single: bool) -> Any:
    """Return y as an estimator takes it: None, a series, or a frame."""
    if not target:
        return None
    return rows[target[0]] if single else rows.select(target)


def class_factors_of(codes: NDArray[np.int64], factors: NDArray[np.float64]) -> torch.Tensor:
    """Return the weight of each class, from the codes and the factors of rows."""
    found = torch.ones(int(codes.max()) + 1, dtype=torch.float64)
    known = (codes >= 0) & (factors > 0)
    found[torch.as_tensor(codes[known])] = torch.as_tensor(factors[known])
    return found


def check_share(what: Any, name: str) -> None:
    """Refuse positions: those of a sample mean nothing to its caller."""
    if isinstance(what, Sequence | np.ndarray) and not isinstance(what, str):
        raise ConfigError(
            f"{name}: a table that is read in parts takes a share or a splitter, no positions"
        )


@dataclass(frozen=True)
class Stream:
    """Reads parts of a file as a model reads rows.

    Parameters
    ----------
    source : Source
    schema : Schema
    declared : dict of int to support
        By position.
    refuse_missing : bool
    read_targets : callable or None
        None for a density.
    class_factors : Tensor of shape (k,) or None
        Weight of each class in the task term.
    scale : float
        What weights are multiplied with to count rows.
    """

    source: Source
    schema: Schema
    declared: Mapping[int, Declared]
    refuse_missing: bool
    read_targets: ReadTargets | None
    class_factors: torch.Tensor | None
    scale: float

    @property
    def count(self) -> int:
        """The number of parts."""
        return -(-len(self.source.table) // self.source.table.part)

    def read(self, part: int, unseen: NDArray[np.int64]) -> Rows:
        """Return the rows of one part, without those at `unseen` positions of the file.

        Raises
        ------
        InputError
            If a row cannot be used; the message holds the rows of the part.
        """
        source = self.source
        start = part * source.table.part
        stop = min(start + source.table.part, len(source.table))
        names = [*source.features, *source.target, *([source.weight] if source.weight else [])]
        frame = source.table.read(start, stop, names)
        here = unseen[np.searchsorted(unseen, start) : np.searchsorted(unseen, stop)] - start
        try:
            rows = self._rows(frame)
        except InputError as error:
            raise type(error)(
                f"{source.table.path}: rows {start} to {stop - 1}, counted from {start}: {error}"
            ) from None
        kept = rows.weight > 0
        kept[torch.as_tensor(here)] = False
        return rows[kept.nonzero()[:, 0]]

    def _rows(self, frame: pl.DataFrame) -> Rows:
        source, schema, n = self.source, self.schema, frame.height
        levels = [j for j, column in enumerate(schema.columns) if column.levels]
        weight = np.ones(n)
        if source.weight is not None:
            # The last one makes up for parts in which all weights are 0.
            weight = read_weights(np.append(frame[source.weight].to_numpy(), 1.0), n + 1)[:-1]
        table = as_numbers(read_table(frame.select(source.features), declared=levels), schema)
        table = replace(table, values=on_circles(table.values, self.declared))
        if self.refuse_missing:
            refuse_missing(table.values, source.features)
        check_bounds(table.values, np.flatnonzero(weight > 0), schema.columns)
        encoded = schema.encode(table)
        x = torch.as_tensor(encoded if encoded.flags.writeable else encoded.copy())
        counted = torch.as_tensor(weight * self.scale)
        targets, factor = None, torch.ones_like(counted)
        if self.read_targets is not None:
            targets = replace(self._targets(frame), offset=schema.layout.offset(x))
            if self.class_factors is not None:
                factor = self.class_factors[targets.values[:, 0].long()]
        return Rows(x, targets, counted, counted * factor)

    def _targets(self, frame: pl.DataFrame) -> TargetBatch:
        import polars as pl

        assert self.read_targets is not None
        source = self.source
        both = pl.concat([frame.select(source.target), source.anchors])
        y = targets_of(both, source.target, source.single)
        return self.read_targets(y, both.height)[: frame.height]


class Windows:
    """Batches from a file: windows of parts in random order, batches of each in random order.

    An epoch reads every part once. A window mixes parts from all over the file, so that
    one that is sorted is mixed, too.

    Parameters
    ----------
    stream : Stream
    unseen : ndarray of int
        Positions in the file of rows that are not trained on.
    prepare : callable
        From rows to the rows that training sees.
    size : int
        Of a batch.
    generator : torch.Generator
    """

    def __init__(
        self,
        stream: Stream,
        unseen: NDArray[np.int64],
        prepare: Callable[[Rows], Rows],
        size: int,
        generator: torch.Generator,
    ) -> None:
        self.stream, self.unseen, self.prepare = stream, np.sort(unseen), prepare
        self.size, self.generator = size, generator
        self.total = len(stream.source.table) - len(unseen)
        self.order: list[int] = []
        self.left = 0
        self.rows: Rows | None = None
        self.batches: Batches | None = None

    def draw(self) -> Rows:
        """Return the rows of the next batch."""
        while self.rows is None or self.batches is None or self.left == 0:
            self._load()
        self.left -= 1
        return self.rows[self.batches.draw()]

    def _load(self) -> None:
        """Read the next window."""
        if not self.order:
            self.order = torch.randperm(self.stream.count, generator=self.generator).tolist()
        now, self.order = self.order[:PARTS], self.order[PARTS:]
        self.rows = self.batches = None  # no two windows in memory together
        read = [self.stream.read(part, self.unseen) for part in now]
        parts = [rows for rows in read if len(rows)]
        if not parts:
            return
        self.rows = self.prepare(_together(parts))
        self.batches = Batches(self.rows, self.size, self.generator)
        self.left = self.batches.count


def _together(parts: Sequence[Rows]) -> Rows:
    targets = None
    if parts[0].targets is not None:
        batches = [rows.targets for rows in parts if rows.targets is not None]
        optional = {
            name: torch.cat(each)
            for name in ("lower", "upper", "offset")
            if (each := [b for batch in batches if (b := getattr(batch, name)) is not None])
        }
        targets = TargetBatch(
            torch.cat([batch.values for batch in batches]),
            torch.cat([batch.observed for batch in batches]),
            **optional,
        )
    return Rows(
        torch.cat([rows.x for rows in parts]),
        targets,
        torch.cat([rows.weight for rows in parts]),
        torch.cat([rows.task_weight for rows in parts]),
    )


def _named(what: Any, role: str) -> list[str]:
    """Return names of columns; none for None."""
    if what is None:
        return []
    names = list(what) if isinstance(what, list | tuple) else [what]
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"{role}: with a ParquetTable, expected the name of one of its columns, got "
            f"{type(what).__name__}; for instance fit(table, y='price')"
        )
    if role == "sample_weight" and len(names) > 1:
        raise ConfigError(f"sample_weight: expected the name of one column, got {names}")
    return names


def _anchors(targets: pl.DataFrame) -> list[int]:
    """Return positions of rows that hold every class, and a known value of each column."""
    found: set[int] = set()
    for series in targets:
        known = series.is_not_null()
        if series.dtype.is_float():
            known = known & series.is_not_nan().fill_null(False)
        places = known.arg_true()
        if series.n_unique() <= _MOST_LEVELS:
            places = places.filter(series.gather(places).is_first_distinct())
        else:
            places = places[:1]
        found |= set(places.to_list())
    return sorted(found)
