"""The audit of a table before its density is fitted.

Ties, constants and dependent columns send a likelihood to infinity. The audit
finds them, says so, and chooses the noise that bounds the density. It looks at
the distinct rows of positive weight only, so that repeating a row and giving
it weight are the same.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from hybridflow.errors import (
    ConstantFeatureWarning,
    DegenerateFeaturesWarning,
    SmallSampleWarning,
)
from hybridflow.table import Column, Matrix

SMALL = 200
"""Most distinct rows that are trained on whole, in float64, with no share held out."""

_DEPENDENT = 1e-8  # share of variance left unexplained below which a column is dependent
_NOISE_FLOOR = 0.01  # width of the noise on a dependent column, in standard deviations


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
    _, first = np.unique(values, axis=0, return_index=True)
    return np.sort(first)


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


def audit(values: Matrix, dtypes: list[str], names: list[str]) -> tuple[Column, ...]:
    """Find out what each column holds.

    Parameters
    ----------
    values : ndarray of shape (n, d)
        Rows of positive weight.
    dtypes, names : list of str
        Of the columns.

    Returns
    -------
    tuple of Column

    Warns
    -----
    ConstantFeatureWarning
        Naming the columns that are left out of the density.
    DegenerateFeaturesWarning
        Naming the columns that follow from others.
    SmallSampleWarning
        If there are ten distinct rows or fewer.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.audit import audit
    >>> x = np.column_stack([np.random.default_rng(0).normal(size=50), np.arange(50) % 3])
    >>> [column.kind for column in audit(x, ["float64", "int64"], ["a", "b"])]
    ['continuous', 'tied']
    """
    rows = values[distinct_rows(values)]
    # A repeated value of a single column is a repeated row.
    counted = values if values.shape[1] == 1 and len(values) > SMALL else rows
    dependent = _dependent(rows) if len(rows) > 2 else np.zeros(rows.shape[1], dtype=bool)
    columns = tuple(
        _column(counted[:, j], dtypes[j], names[j], bool(dependent[j]))
        for j in range(rows.shape[1])
    )
    _warn(columns, len(rows))
    return columns


def _column(values: Matrix, dtype: str, name: str, dependent: bool) -> Column:
    levels = np.unique(values)
    low, high = levels[0], levels[-1]
    largest = max(abs(low), abs(high))
    # Halved before the difference, which could overflow.
    if (high / 2 - low / 2) <= max(1e-11 * largest, 1e-300):
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
        )
    if dependent:
        noise = _NOISE_FLOOR * float((values / largest).std()) * float(largest)
        return Column(name=name, dtype=dtype, kind="dependent", step=noise)
    return Column(name=name, dtype=dtype, kind="continuous")


def _dependent(rows: Matrix) -> NDArray[np.bool_]:
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


def _warn(columns: tuple[Column, ...], distinct: int) -> None:
    def named(kind: str) -> str:
        return ", ".join(repr(column.name) for column in columns if column.kind == kind)

    if constant := named("constant"):
        warnings.warn(
            f"constant columns carry no information and are left out: {constant}",
            ConstantFeatureWarning,
            stacklevel=5,
        )
    if dependent := named("dependent"):
        warnings.warn(
            f"columns that follow from others make the density singular: {dependent}; a noise "
            f"floor of {_NOISE_FLOOR:g} standard deviations bounds it. Drop them for a sharper one",
            DegenerateFeaturesWarning,
            stacklevel=5,
        )
    elif 2 < distinct <= len(columns):
        warnings.warn(
            f"{distinct} distinct rows for {len(columns)} columns: the density rests on "
            "regularisation",
            DegenerateFeaturesWarning,
            stacklevel=5,
        )
    if distinct <= 10:
        warnings.warn(
            f"only {distinct} distinct rows: no part is held out and the fit is a rough one",
            SmallSampleWarning,
            stacklevel=5,
        )
