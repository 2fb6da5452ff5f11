"""One entry of a search space: a parameter to search, or one that is set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hybridflow.config import Choice, Int, Search
from hybridflow.errors import ConfigError

if TYPE_CHECKING:
    from hybridflow.tuning.backend import optuna

Value = bool | int | float | str
Conditions = tuple[tuple[str, tuple[Any, ...]], ...]


@dataclass(frozen=True)
class Parameter:
    """A parameter that is searched.

    Parameters
    ----------
    name : str
        What Optuna calls it: the key, or ``flow__maf__layers`` where ``flow``
        itself is searched. Names do not depend on which plugins are installed.
    key : str
        What `set_params` calls it.
    search : Int, Float or Choice
    start : bool, int, float or str
        Its value in the first trial.
    when : tuple of (str, tuple)
        Keys, and the values of each that it matters with.

    Examples
    --------
    >>> from hybridflow.config import Int
    >>> from hybridflow.tuning.parameter import Parameter
    >>> layers = Parameter("flow__layers", "flow__layers", Int(2, 8), 4)
    >>> layers.matters({}), str(layers)
    (True, 'Int(low=2, high=8, log=False)')
    """

    name: str
    key: str
    search: Search
    start: Value
    when: Conditions = ()

    def matters(self, chosen: Mapping[str, Any]) -> bool:
        """Return whether it matters beside what is chosen already."""
        return _holds(self.when, chosen)

    def suggest(self, trial: optuna.Trial) -> Value:
        """Let a trial choose its value."""
        search = self.search
        if isinstance(search, Choice):
            chosen = trial.suggest_categorical(self.name, search.options)
            assert chosen is not None  # no option is
            return chosen
        if isinstance(search, Int):
            return trial.suggest_int(self.name, search.low, search.high, log=search.log)
        return trial.suggest_float(self.name, search.low, search.high, log=search.log)

    def __str__(self) -> str:
        """Return the range and the condition, for comparing and messages."""
        return f"{self.search!r}{_told(self.when)}"


@dataclass(frozen=True)
class Setting:
    """A parameter that has one value in every trial that it matters in.

    Parameters
    ----------
    name, key, when
        As in `Parameter`.
    value : object

    Examples
    --------
    >>> from hybridflow.tuning.parameter import Setting
    >>> str(Setting("head__basis", "head__basis", "identity"))
    "'identity'"
    """

    name: str
    key: str
    value: Any
    when: Conditions = ()

    def matters(self, chosen: Mapping[str, Any]) -> bool:
        """Return whether it matters beside what is chosen already."""
        return _holds(self.when, chosen)

    def __str__(self) -> str:
        """Return the value and the condition, for comparing and messages."""
        return f"{self.value!r}{_told(self.when)}"


Entry = Parameter | Setting


def entry(name: str, key: str, search: Search, start: Any, when: Conditions = ()) -> Entry:
    """Return a parameter, or a setting where there is but one value to choose."""
    if isinstance(search, Choice) and len(search.options) == 1:
        return Setting(name, key, search.options[0], when)
    if not isinstance(search, Choice) and search.low == search.high:
        return Setting(name, key, search.low, when)
    return Parameter(name, key, search, start, when)


def check_range(name: str, search: Search) -> None:
    """Refuse a range or choice that nothing can be drawn from.

    Parameters
    ----------
    name : str
        For the message.
    search : Int, Float or Choice

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> from hybridflow.config import Int
    >>> from hybridflow.tuning.parameter import check_range
    >>> check_range("flow__layers", Int(8, 2))
    Traceback (most recent call last):
    ...
    hybridflow.errors.ConfigError: space: flow__layers: the lower end comes first, got 8 to 2
    """
    where = f"space: {name}"
    if isinstance(search, Choice):
        if not search.options:
            raise ConfigError(f"{where}: a Choice needs at least one option")
        if any(not isinstance(option, Value) for option in search.options):
            raise ConfigError(f"{where}: options are numbers, text or booleans, got {search!r}")
        return
    ends = (search.low, search.high)
    kind = int if isinstance(search, Int) else int | float
    if any(isinstance(end, bool) or not isinstance(end, kind) for end in ends):
        raise ConfigError(f"{where}: {type(search).__name__} takes numbers, got {search!r}")
    if not all(math.isfinite(end) for end in ends):
        raise ConfigError(f"{where}: the ends of a range are finite, got {search!r}")
    if search.low > search.high:
        raise ConfigError(f"{where}: the lower end comes first, got {search.low} to {search.high}")
    if search.log and search.low <= 0:
        raise ConfigError(f"{where}: log=True needs a lower end above 0, got {search.low}")


def widened(search: Search, value: Any) -> Search | None:
    """Return a range that holds a value, None where no such range does.

    So the first trial is what the estimator was to begin with.

    Examples
    --------
    >>> from hybridflow.config import Float, Int
    >>> from hybridflow.tuning.parameter import widened
    >>> widened(Int(2, 8), 12)
    Int(low=2, high=12, log=False)
    >>> widened(Float(0.01, 10.0, log=True), 0.0) is None
    True
    """
    if isinstance(search, Choice):
        if value in search.options:
            return search
        return Choice((*search.options, value)) if isinstance(value, Value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(search, Int) and not isinstance(value, int):
        return None
    if search.log and value <= 0:
        return None
    if isinstance(search, Int):
        return replace(search, low=min(search.low, int(value)), high=max(search.high, int(value)))
    return replace(search, low=min(search.low, value), high=max(search.high, value))


def nearest(search: Search, value: Any) -> Value:
    """Return what of a range is closest to a value; the first option where nothing is.

    Examples
    --------
    >>> from hybridflow.config import Choice, Int
    >>> from hybridflow.tuning.parameter import nearest
    >>> nearest(Int(2, 8), 12), nearest(Choice(("a", "b")), "c")
    (8, 'a')
    """
    if isinstance(search, Choice):
        return value if value in search.options else search.options[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return search.low
    inside = min(max(value, search.low), search.high)
    return round(inside) if isinstance(search, Int) else float(inside)


def _holds(when: Conditions, chosen: Mapping[str, Any]) -> bool:
    return all(chosen.get(key) in values for key, values in when)


def _told(when: Conditions) -> str:
    if not when:
        return ""
    parts = [f"{key} is {' or '.join(map(str, values))}" for key, values in when]
    return f" where {' and '.join(parts)}"
