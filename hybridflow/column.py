"""One column of a table: what it is to a model, and back from the model's numbers to its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hybridflow.cells import Factor, Level
from hybridflow.config import Config
from hybridflow.specs import Categorical, Circle, Interval, Positive, Real, Support

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class Column(Config):
    """What the audit found out about one column.

    Parameters
    ----------
    name : str
        Name in the table, ``"x0"`` and so on for arrays.
    dtype : str
        The type that was read; everything is computed in float64.
    kind : {"continuous", "tied", "dependent", "categorical", "constant", "empty", "exposure"}
        Continuous columns have a density. Tied ones repeat their values and
        are dequantised; dependent ones follow from the columns before them
        and get a noise floor; of categorical ones the levels have masses.
        Constant and empty ones are left out. The exposure is what the rate of a
        count is per unit of.
    step : float
        Width of the uniform noise of the density view; 0 for none.
    lattice : bool
        Whether all values lie on ``origin + k * step``, so that the score of
        a cell is a mass and samples are rounded.
    origin : float
        A value on the lattice, or the value of a constant column.
    support : Real, Positive, Interval or Circle
        Where its values may lie, as it was declared.
    levels : tuple of bool, int, float or str
        Of a categorical column those that occur, in the order of their codes.
    categories : tuple of bool, int, float or str
        All that the type of the column has room for, if it has such a list.
    missing : float
        Share of the training rows in which its cell was missing.
    native : str
        What pandas calls the type, empty for columns of anything else.
    seen : tuple of two floats, optional
        The smallest and the largest value of a tied column, which samples never leave.

    Examples
    --------
    >>> from hybridflow.column import Column
    >>> Column(name="age", dtype="int64", kind="tied", step=1.0, lattice=True, origin=18.0).step
    1.0
    """

    name: str
    dtype: str
    kind: Literal["continuous", "tied", "dependent", "categorical", "constant", "empty", "exposure"]
    step: float = 0.0
    lattice: bool = False
    origin: float = 0.0
    support: Support = Real()
    levels: tuple[Level, ...] = ()
    categories: tuple[Level, ...] = ()
    missing: float = 0.0
    native: str = ""
    seen: tuple[float, float] | None = None

    @property
    def size(self) -> int:
        """Number of known levels of a categorical column; a missing cell is the last of them."""
        return len(self.levels) + (self.missing > 0)

    @property
    def type(self) -> str:
        """The type of the column in a word."""
        return self.native or self.dtype.partition("(")[0]

    def encode(self, values: NDArray[np.float64], factor: Factor | None) -> NDArray[np.float64]:
        """Return cells as the model reads them: numbers, or codes of the column's levels.

        A level that is not known has the code `size`.
        """
        if not self.levels:
            return values
        missing = len(self.levels) if self.missing > 0 else self.size
        if factor is not None:
            return factor.recoded(self.levels, missing, self.size)
        codes = np.full(len(values), float(self.size))
        for code, level in enumerate(self.levels):
            codes[values == level] = code
        return np.where(np.isnan(values), missing, codes)

    def decode(self, codes: NDArray[np.float64]) -> list[Level | None]:
        """Return the levels that codes stand for, None for a missing cell."""
        levels = [*self.levels, None]
        return [levels[min(int(code), len(self.levels))] for code in codes]

    def described(self) -> str:
        """Return in words what was found and what is done about it."""
        match self.kind:
            case "continuous":
                text = "density"
            case "tied" if self.lattice:
                text = f"mass: whole multiples of {self.step:g} from {self.origin:g} on"
            case "tied":
                text = f"density smoothed by {self.step:.3g}, the median gap: values repeat"
            case "dependent":
                text = f"density smoothed by {self.step:.3g}: it follows from other columns"
            case "categorical":
                shown = ", ".join(map(str, self.levels[:4]))
                more = ", ..." if len(self.levels) > 4 else ""
                text = f"mass: {len(self.levels)} levels ({shown}{more})"
            case "constant":
                value = self.levels[0] if self.levels else f"{self.origin:g}"
                text = f"left out: always {value}"
            case "empty":
                text = "left out: no observed value"
            case "exposure":
                text = "exposure: the rate is per unit of it"
        if self.support != Real():
            text += f", {described(self.support)}"
        if 0 < self.missing < 1:
            flag = "a level of its own" if self.kind == "categorical" else "with a flag"
            text += f"; {100 * self.missing:.3g} % missing, {flag}"
        return text


def described(support: Support | Categorical) -> str:
    """Return a support in words.

    Examples
    --------
    >>> from hybridflow import Interval
    >>> from hybridflow.column import described
    >>> described(Interval(low=0, high=1))
    'from 0 to 1'
    """
    match support:
        case Positive():
            return "above 0"
        case Interval(low=low, high=high):
            return f"from {low:g} to {high:g}"
        case Circle(period=period):
            return f"a circle of {period:g}"
        case Categorical():
            return "categorical"
        case _:
            return "any number"


def cast(values: NDArray[np.float64], column: Column) -> NDArray[Any]:
    """Return the values of a column in its type, without rounding them out of its support."""
    name = column.dtype.lower()
    if name.startswith("bool"):
        return values > 0.5
    if name in ("float16", "float32"):
        return _rounded(values.astype(name), column)
    if name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        bounds = np.iinfo(name)
        return np.clip(np.rint(values), bounds.min, bounds.max).astype(name)
    return values


def _rounded(values: NDArray[Any], column: Column) -> NDArray[Any]:
    """Return values of a narrow type, moved back by a digit where they reached a bound."""
    if isinstance(column.support, Circle):
        return np.where(values < column.support.period, values, values.dtype.type(0))
    if column.lattice:
        return values
    low, high = (values.dtype.type(end) for end in column.support.bounds)
    inside: NDArray[Any] = np.clip(values, np.nextafter(low, high), np.nextafter(high, low))
    return inside


def pandas_series(values: NDArray[np.float64], column: Column) -> pd.Series[Any]:
    """Return the values of a column as pandas holds such a column."""
    import pandas as pd

    if column.categories:
        ordered = column.dtype.startswith("Enum")
        listed = list(column.categories)
        return pd.Series(pd.Categorical(column.decode(values), categories=listed, ordered=ordered))
    cells = _cells(values, column)
    return pd.Series(cells, dtype=column.native or None)


def polars_series(values: NDArray[np.float64], column: Column) -> pl.Series:
    """Return the values of a column as polars holds such a column."""
    import polars as pl

    series = pl.Series(_cells(values, column), strict=False, nan_to_null=True)
    if column.dtype.startswith("Enum"):
        return series.cast(pl.Enum(list(map(str, column.categories))))
    own = getattr(pl, column.dtype, None)  # of a table that came from elsewhere there may be none
    return series if own in (None, pl.Object) else series.cast(own)


def _cells(values: NDArray[np.float64], column: Column) -> Any:
    """Return values as plain cells: an array in the column's type, or a list with None."""
    if column.levels:
        return column.decode(values)
    missing = np.isnan(values)
    if not missing.any() or "int" not in column.dtype.lower():
        return cast(values, column)
    whole = cast(np.where(missing, 0.0, values), column).tolist()
    return [None if gone else value for value, gone in zip(whole, missing, strict=True)]
