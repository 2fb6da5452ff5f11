"""The audit of a table before its density is fitted.

Ties, constants and dependent columns send a likelihood to infinity. The audit
finds them, says so, and chooses the noise that bounds the density. It looks at
the distinct rows of positive weight only, so that repeating a row and giving
it weight are the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from hybridflow.cells import Factor
from hybridflow.column import Column
from hybridflow.errors import (
    ConstantFeatureWarning,
    DegenerateFeaturesWarning,
    HighCardinalityWarning,
    IdentifierWarning,
    InputError,
    SmallSampleWarning,
)
from hybridflow.table import Matrix, Table

SMALL = 200
"""Most distinct rows that are trained on whole, in float64, with no share held out."""

_DEPENDENT = 1e-8  # share of variance left unexplained below which a column is dependent
_NOISE_FLOOR = 0.01  # width of the noise on a dependent column, in standard deviations
_FEW_TEXTS = 20  # different texts that any column may hold
_MANY_LEVELS = 1000


def distinct_rows(values: Matrix) -> NDArray[np.intp]:
    """Return the position of the first of each set of equal rows, in order.

    Parameters
    ----------
    values : ndarray of shape (n, d)

    Returns
    -------
    ndarray of int

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.audit import distinct_rows
    >>> distinct_rows(np.array([[1.0, 2.0], [0.0, 0.0], [1.0, 2.0]]))
    array([0, 1])
    """
    known = np.where(np.isnan(values), np.inf, values) if np.isnan(values).any() else values
    _, first = np.unique(known, axis=0, return_index=True)
    return np.sort(first)


def count_distinct(table: Table, used: NDArray[np.intp]) -> int:
    """Return how many rows a table has that are not the same, for what needs many.

    Of a table of levels alone, in which rows are the same because there are few that
    can be, all count.

    Parameters
    ----------
    table : Table
    used : ndarray of int
        Rows of positive weight.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.audit import count_distinct
    >>> from hybridflow.table import read_table
    >>> count_distinct(read_table([[1.0], [1.0], [2.0]]), np.arange(3))
    2
    >>> count_distinct(read_table([["a"], ["a"], ["b"]]), np.arange(3))
    3
    """
    if len(table.factors) == table.values.shape[1]:
        return len(used)
    return len(distinct_rows(table.values[used]))


def lattice_step(values: Matrix) -> float:
    """Return the step of the lattice that all values lie on, 0 if there is none.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Of one column.

    Returns
    -------
    float
        The greatest common divisor of the gaps, up to rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.audit import lattice_step
    >>> lattice_step(np.array([1.0, 3.0, 7.0]))
    2.0
    >>> lattice_step(np.array([0.1, 0.5, 0.7]))
    0.2
    >>> lattice_step(np.array([0.0, 1.0, 3.1415926]))
    0.0
    """
    levels = np.unique(values)
    if len(levels) < 2:
        return 0.0
    for scale in (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6):
        scaled = levels * scale
        whole = np.rint(scaled)
        if np.abs(whole).max() > 2**52:
            break
        if np.abs(scaled - whole).max() <= 1e-6 * max(1.0, np.abs(scaled).max() * 1e-6):
            return float(np.gcd.reduce(np.diff(whole).astype(np.int64)) / scale)
    gaps = np.diff(levels)
    ratios = gaps / gaps.min()
    return float(gaps.min()) if np.abs(ratios - np.rint(ratios)).max() < 1e-3 else 0.0


def audit(
    table: Table, used: NDArray[np.intp], names: list[str], *, declared: Collection[int] = ()
) -> tuple[Column, ...]:
    """Find out what each column holds.

    Parameters
    ----------
    table : Table
    used : ndarray of int
        Rows of positive weight.
    names : list of str
        Of the columns.
    declared : collection of int
        Columns that were declared to be categorical.

    Returns
    -------
    tuple of Column

    Raises
    ------
    InputError
        If no column has an observed cell, or one holds free text.

    Warns
    -----
    ConstantFeatureWarning
        Naming the columns that are left out of the density.
    DegenerateFeaturesWarning
        Naming the columns that follow from others.
    HighCardinalityWarning
        Naming the columns of more than a thousand levels.
    IdentifierWarning
        Naming the columns that number the rows.
    SmallSampleWarning
        If there are ten distinct rows or fewer.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.audit import audit
    >>> from hybridflow.table import read_table
    >>> x = np.column_stack([np.random.default_rng(0).normal(size=50), np.arange(50) % 3])
    >>> [column.kind for column in audit(read_table(x), np.arange(50), ["a", "b"])]
    ['continuous', 'tied']
    """
    values = table.values[used]
    rows = values[distinct_rows(values)]
    # A repeated value of a single column is a repeated row.
    counted = values if values.shape[1] == 1 and len(values) > SMALL else rows
    numbers = [j for j in range(values.shape[1]) if j not in table.factors]
    dependent = dict(zip(numbers, _dependent(rows[:, numbers]), strict=True))
    columns = []
    natives = table.natives or [""] * len(names)
    for j, (name, dtype) in enumerate(zip(names, table.dtypes, strict=True)):
        share = float(np.isnan(values[:, j]).mean())
        known = counted[~np.isnan(counted[:, j]), j]
        if not len(known):
            column = Column(name=name, dtype=dtype, kind="empty", missing=share)
        elif j in table.factors:
            column = _categorical(known, dtype, name, table.factors[j], share)
        else:
            column = _column(known, dtype, name, bool(dependent[j]), share)
        columns.append(column.replace(native=natives[j]))
    if all(column.kind == "empty" for column in columns):
        raise InputError(
            "no column has an observed value: Input X contains NaN in every cell; "
            "nothing can be learned from it"
        )
    texts = [columns[j] for j in table.factors if j not in declared and not table.factors[j].typed]
    _refuse_text(texts, rows, columns)
    _warn(columns, rows, declared, count_distinct(table, used))
    return tuple(columns)


def _categorical(
    values: NDArray[np.float64], dtype: str, name: str, factor: Factor, missing: float
) -> Column:
    levels = tuple(factor.levels[int(code)] for code in np.unique(values))
    return Column(
        name=name,
        dtype=dtype,
        kind="categorical" if len(levels) > 1 or missing else "constant",
        levels=levels,
        categories=factor.categories,
        missing=missing,
    )


def _column(
    values: NDArray[np.float64], dtype: str, name: str, dependent: bool, missing: float
) -> Column:
    levels = np.unique(values)
    low, high = levels[0], levels[-1]
    largest = max(abs(low), abs(high))
    # Halved before the difference, which could overflow.
    if (high / 2 - low / 2) <= max(1e-11 * largest, 1e-300):
        if missing:  # of such a column the flag says all there is
            return Column(
                name=name, dtype=dtype, kind="categorical", levels=(float(low),), missing=missing
            )
        return Column(name=name, dtype=dtype, kind="constant", origin=float(low))
    step = lattice_step(levels)
    cells = (high / 2 - low / 2) / (step / 2) if step > 0 else np.inf
    filled = cells < 2 * len(levels)
    repeated = len(levels) < len(values)
    if filled or (repeated and cells < 2 * len(values)) or len(levels) < len(values) / 2:
        return Column(
            name=name,
            dtype=dtype,
            kind="tied",
            step=step if step > 0 else float(np.median(np.diff(levels))),
            lattice=step > 0,
            origin=float(low),
            missing=missing,
            seen=(float(low), float(high)),
        )
    if dependent:
        noise = _NOISE_FLOOR * float((values / largest).std()) * float(largest)
        return Column(name=name, dtype=dtype, kind="dependent", step=noise, missing=missing)
    return Column(name=name, dtype=dtype, kind="continuous", missing=missing)


def _dependent(rows: Matrix) -> NDArray[np.bool_]:
    """Return which columns are linear combinations of the columns before them.

    Looked for with missing cells at the mean of their column, and among the complete rows.
    """
    missing = np.isnan(rows)
    if not missing.any():
        return _combinations(rows)
    counts = np.maximum((~missing).sum(axis=0), 1)
    mean = np.where(missing, 0.0, rows).sum(axis=0) / counts
    filled = np.where(missing, mean, rows)
    return _combinations(filled) | _combinations(rows[~missing.any(axis=1)])


def _combinations(rows: Matrix) -> NDArray[np.bool_]:
    """Return which columns are linear combinations of the columns before them.

    By modified Gram-Schmidt on the standardised columns. With no more rows
    than columns every table has such columns; then none is named.
    """
    n, d = rows.shape
    found = np.zeros(d, dtype=bool)
    if n <= d + 1:
        return found
    scaled = rows / np.maximum(np.abs(rows).max(axis=0), 1e-300)
    scaled = scaled - scaled.mean(axis=0)
    scale = scaled.std(axis=0)
    scaled = scaled / np.where(scale > 0, scale, 1.0) / np.sqrt(n)
    basis = np.empty((n, 0))
    for j in range(d):
        rest = scaled[:, j]
        for _ in range(2):  # twice is enough for full precision
            rest = rest - basis @ (basis.T @ rest)
        left = float(rest @ rest)
        found[j] = scale[j] > 0 and left < _DEPENDENT
        if left >= _DEPENDENT:
            basis = np.column_stack([basis, rest / np.sqrt(left)])
    return found


def _refuse_text(texts: list[Column], rows: Matrix, columns: list[Column]) -> None:
    """Refuse columns of text that have about as many levels as there are rows."""
    for column in texts:
        known = int((~np.isnan(rows[:, columns.index(column)])).sum())
        if isinstance(column.levels[0], str) and len(column.levels) > max(_FEW_TEXTS, known / 2):
            raise InputError(
                f"column {column.name!r} holds {len(column.levels)} different texts in {known} "
                f"rows, such as {column.levels[0]!r:.60}: free text or an identifier is no "
                "category; leave it out, turn it into numbers with a TextEncoder, or declare "
                f"columns={{{column.name!r}: Categorical()}}"
            )


def _warn(columns: list[Column], rows: Matrix, declared: Collection[int], distinct: int) -> None:
    def named(*kinds: str) -> str:
        return ", ".join(repr(column.name) for column in columns if column.kind in kinds)

    def warn(message: str, kind: type[Warning]) -> None:
        warnings.warn(message, kind, stacklevel=6)

    if constant := named("constant", "empty"):
        warn(
            "constant columns, and those without an observed value, carry no information and are "
            f"left out: {constant}",
            ConstantFeatureWarning,
        )
    if dependent := named("dependent"):
        warn(
            f"columns that follow from others make the density singular: {dependent}; a noise "
            f"floor of {_NOISE_FLOOR:g} standard deviations bounds it. Drop them for a sharper one",
            DegenerateFeaturesWarning,
        )
    elif 2 < distinct <= len(columns):
        warn(
            f"{distinct} distinct rows for {len(columns)} columns: the density rests on "
            "regularisation",
            DegenerateFeaturesWarning,
        )
    many = [f"{c.name!r} ({len(c.levels)})" for c in columns if len(c.levels) > _MANY_LEVELS]
    if many:
        warn(
            f"columns of very many levels: {', '.join(many)}; most levels have few rows to learn "
            "from. Group the rare ones",
            HighCardinalityWarning,
        )
    numbering = [
        columns[j].name
        for j in range(len(columns))
        if "int" in columns[j].dtype.lower()
        and j not in declared
        and _numbers_rows(rows[:, j], columns[j].step)
    ]
    if numbering:
        warn(
            f"columns that number the rows: {', '.join(map(repr, numbering))}; an identifier says "
            "nothing of new rows. Leave them out",
            IdentifierWarning,
        )
    if distinct <= 10:
        warn(
            f"only {distinct} distinct rows: no part is held out and the fit is a rough one",
            SmallSampleWarning,
        )


def _numbers_rows(values: NDArray[np.float64], step: float) -> bool:
    """Return whether a column is 0, 1, 2, ... of many rows, in any order and from any start."""
    if len(values) <= _FEW_TEXTS or np.isnan(values).any():
        return False
    spread = float(values.max() - values.min())
    distinct = len(np.unique(values)) == len(values)
    return bool(distinct and abs(spread - step * (len(values) - 1)) < step / 2)
