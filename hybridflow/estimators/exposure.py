"""The column that the rate of a count is per unit of."""

from __future__ import annotations

from hybridflow.column import Column
from hybridflow.config import Config
from hybridflow.errors import ConfigError, InputError, closest
from hybridflow.schema import Schema
from hybridflow.table import Matrix


def with_exposure(
    columns: tuple[Column, ...], values: Matrix, head: Config | None
) -> tuple[Column, ...]:
    """Return the columns with the one that a head names as its exposure taken out of x.

    Parameters
    ----------
    columns : tuple of Column
    values : ndarray of shape (n, d)
    head : Config or None
        Heads for counts have a field ``exposure``.

    Raises
    ------
    ConfigError
        If there is no such column.
    InputError
        If an exposure is missing or not positive.
    """
    name = getattr(head, "exposure", None)
    if name is None:
        return columns
    names = [column.name for column in columns]
    if name not in names:
        raise ConfigError(
            f"exposure: {name!r} is no column of X, which has {', '.join(names[:10])}"
            f"{closest(name, names)}"
        )
    j = names.index(name)
    _check(name, values[:, j])
    dtype, native = columns[j].dtype, columns[j].native
    taken = Column(name=name, dtype=dtype, kind="exposure", origin=1.0, native=native)
    return (*columns[:j], taken, *columns[j + 1 :])


def check_exposure(schema: Schema, x: Matrix) -> None:
    """Raise InputError if an exposure is missing or not positive."""
    j = schema.layout.exposure
    if j is not None:
        _check(schema.columns[schema.kept[j]].name, x[:, j])


def _check(name: str, exposure: Matrix) -> None:
    bad = ~(exposure > 0)
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"exposure: column {name!r} holds {exposure[row]:g} at row {row}; an exposure is a "
            "number above 0: drop rows without one"
        )
