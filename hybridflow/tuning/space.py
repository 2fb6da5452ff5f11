"""What is searched: the fields that the configs of an estimator's parts call worth tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridflow.config import Choice, Config, Float, Int, Search
from hybridflow.errors import ConfigError, closest
from hybridflow.estimators.outlier import AUTO
from hybridflow.tuning.parameter import (
    Conditions,
    Entry,
    Parameter,
    Setting,
    Value,
    check_range,
    entry,
    nearest,
    widened,
)

if TYPE_CHECKING:
    from hybridflow.estimators.base import FlowEstimator
    from hybridflow.registry import Kind
    from hybridflow.tuning.backend import optuna

# A head may need a base, so it is chosen first.
_COMPONENTS: tuple[Kind, ...] = ("head", "base", "flow")
_LIKELIHOOD_WEIGHT = Float(0.01, 10.0, log=True)
_NOT_SEARCHED = ("callbacks", "registry", "random_state", "training", "time_limit", "columns")


@dataclass(frozen=True)
class Space:
    """What is searched, and what is set, in the order in which it is chosen.

    Parameters
    ----------
    entries : tuple of Parameter or Setting

    Examples
    --------
    >>> from hybridflow import FlowDensity
    >>> from hybridflow.config import Choice, Int
    >>> from hybridflow.tuning import space_of
    >>> flows = Choice(("spline-coupling", "maf"))
    >>> space = space_of(FlowDensity(), {"flow": flows, "flow__maf__layers": Int(2, 3)})
    >>> print(space.describe()["flow__maf__layers"])
    Int(low=2, high=3, log=False) where flow is maf
    """

    entries: tuple[Entry, ...]

    def assign(self, choose: Callable[[Parameter], Any]) -> dict[str, Any]:
        """Return the parameters of one trial, as `set_params` takes them.

        Parameters
        ----------
        choose : callable
            Returns the value of a parameter; called for those that matter.
        """
        chosen: dict[str, Any] = {}
        for item in self.entries:
            if item.matters(chosen):
                chosen[item.key] = item.value if isinstance(item, Setting) else choose(item)
        return chosen

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Let a trial choose its parameters."""
        return self.assign(lambda parameter: parameter.suggest(trial))

    def given(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return the parameters that a finished trial had, from Optuna's names and values."""
        return self.assign(lambda parameter: values[parameter.name])

    def start(self) -> dict[str, Value]:
        """Return the values of the first trial, by the names that Optuna has for them."""
        values: dict[str, Value] = {}

        def choose(parameter: Parameter) -> Value:
            values[parameter.name] = parameter.start
            return parameter.start

        self.assign(choose)
        return values

    @property
    def conditional(self) -> bool:
        """Whether a parameter matters in some trials only."""
        return any(item.when for item in self.entries if isinstance(item, Parameter))

    @property
    def components(self) -> bool:
        """Whether a flow, base or head is chosen among several."""
        return any(item.key in _COMPONENTS for item in self.entries if isinstance(item, Parameter))

    def describe(self) -> dict[str, str]:
        """Return the range or the value of each entry, by name."""
        told: dict[str, str] = {}
        for item in self.entries:
            told[item.name] = f"{told[item.name]}; {item}" if item.name in told else str(item)
        return told


def space_of(estimator: FlowEstimator, changes: Mapping[str, Any] | None = None) -> Space:
    """Return the search space of an estimator.

    It holds what the configs of flow, base, head and training call worth
    tuning, and ``likelihood_weight``. A range is widened to hold the value that
    the estimator has; what no range holds, such as a ``likelihood_weight`` of
    0 on its logarithmic one, is not searched.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
    changes : dict, optional
        By the name of a parameter as in `set_params` an `Int`, `Float` or
        `Choice` to search it in, or any other value to set it to.
        ``flow=Choice(("maf", "realnvp"))`` searches several flows, each with its
        own fields; ``flow__layers`` is then a field of all that have it,
        ``flow__maf__layers`` of one.

    Returns
    -------
    Space

    Raises
    ------
    ConfigError
        If a name is unknown, or a range empty or outside what the field allows.
    """
    return Space(tuple(_Builder(estimator, changes or {}).entries()))


class _Builder:
    """Collects the entries; whatever of `changes` is left is unknown."""

    def __init__(self, estimator: FlowEstimator, changes: Mapping[str, Any]) -> None:
        self.estimator = estimator
        self.changes = dict(changes)
        self.params = estimator.get_params(deep=False)
        self.known: list[str] = []
        self.used: set[str] = set()
        self.heads: list[str] = []

    def entries(self) -> Iterator[Entry]:
        for name in self.changes:
            if name in _NOT_SEARCHED:
                raise ConfigError(f"space: {name} is not searched; set it on the estimator")
        demands: dict[str, list[str]] = {}  # what a head needs, where there are several
        for kind in _COMPONENTS:
            if kind in self.params:
                yield from self.component(kind, demands)
        yield from self.config("training", "", self.estimator._config("training"), ())
        for name, value in self.params.items():
            if name in (*_COMPONENTS, *_NOT_SEARCHED):
                continue
            default = _LIKELIHOOD_WEIGHT if name == "likelihood_weight" else None
            yield from self.top(name, value, default)
        unknown = [name for name in self.changes if name not in self.used]
        if unknown:
            raise ConfigError(
                f"space: there is no parameter {unknown[0]!r}; known are "
                f"{', '.join(dict.fromkeys(self.known))}{closest(unknown[0], self.known)}"
            )

    def take(self, name: str) -> tuple[bool, Any]:
        """Return whether something is changed about a name, and what."""
        self.known.append(name)
        if name not in self.changes:
            return False, None
        self.used.add(name)
        return True, self.changes[name]

    def top(self, name: str, value: Any, default: Search | None) -> Iterator[Entry]:
        """Yield a parameter of the estimator itself."""
        changed, given = self.take(name)
        if changed and isinstance(given, Search):
            check_range(name, given)
            yield entry(name, name, given, nearest(given, value))
        elif changed:
            yield Setting(name, name, given)
        elif default is not None and (search := widened(default, value)) is not None:
            yield entry(name, name, search, value)

    def component(self, kind: Kind, demands: dict[str, list[str]]) -> Iterator[Entry]:
        """Yield the choice of a component, and the fields of each candidate."""
        registry, own = self.estimator._registry(), self.params[kind]
        changed, given = self.take(kind)
        if isinstance(given, Int | Float):
            raise ConfigError(f"space: a {kind} is chosen by name: Choice(('{own}', ...))")
        if isinstance(given, Choice):
            check_range(kind, given)
        candidates = list(given.options) if isinstance(given, Choice) else [given or own]
        needed = demands if kind == "base" else {}
        names = [self.name_of(kind, candidate) for candidate in candidates]
        own_name = self.name_of(kind, own)
        free = tuple(name for heads in demands.values() for name in heads)
        when: Conditions = ()
        if needed:
            heads = [name for name in self.heads if name not in free]
            when = (("head", tuple(heads)),)
            for base, of in needed.items():
                yield Setting("base", "base", base, (("head", tuple(of)),))
        if len(names) > 1:
            yield Parameter(
                kind, kind, Choice(tuple(names)), own_name if own_name in names else names[0], when
            )
        elif changed or needed:
            yield Setting(kind, kind, candidates[0], when)
        if kind == "head":
            self.heads = names
            for name in names if len(names) > 1 else ():
                required = registry.resolve("head", name)[0].requires_base
                if required is not None:
                    demands.setdefault(required, []).append(name)
        everything = list(dict.fromkeys([*names, *needed]))
        for name in everything:
            if name == AUTO:
                continue
            chosen = given if isinstance(given, Config) else name
            config = registry.resolve(kind, own if name == own_name else chosen)[1]
            several = len(everything) > 1
            yield from self.config(
                kind, name if several else "", config, ((kind, (name,)),) if several else ()
            )

    def name_of(self, kind: Kind, candidate: Any) -> str:
        """Return the name of a component that is given by name or by config."""
        if isinstance(candidate, str):
            if candidate != AUTO or self.params[kind] != AUTO:
                self.estimator._registry().resolve(kind, candidate)
            return candidate
        name: str = self.estimator._registry().resolve(kind, candidate)[0].name
        return name

    def config(self, part: str, owner: str, config: Config, when: Conditions) -> Iterator[Entry]:
        """Yield the fields of a config that are searched or set."""
        space, conditions = type(config).space(), type(config).conditions()
        made: list[tuple[str, Entry]] = []
        for field, start in config.get_params().items():
            key = f"{part}__{field}"
            name = f"{part}__{owner}__{field}" if owner else key
            changed, given = self.take(name)
            if owner:
                general, wide = self.take(key)
                changed, given = (changed or general), (given if changed else wide)
            search = given if isinstance(given, Search) else space.get(field)
            if changed and not isinstance(given, Search):
                config.replace(**{field: given})
                made.append((field, Setting(name, key, given, when)))
            elif changed:
                _check(name, given, config, field)
                made.append((field, entry(name, key, given, nearest(given, start), when)))
            elif search is not None and (search := widened(search, start)) is not None:
                made.append((field, entry(name, key, search, start, when)))
        yield from _in_order(part, made, conditions, config)


def _check(name: str, search: Search, config: Config, field: str) -> None:
    """Refuse a range that holds values which the field does not allow."""
    check_range(name, search)
    ends = search.options if isinstance(search, Choice) else (search.low, search.high)
    for end in ends:
        config.replace(**{field: end})


def _in_order(
    part: str, made: list[tuple[str, Entry]], conditions: Mapping[str, Any], config: Config
) -> Iterator[Entry]:
    """Yield the entries of a config, each behind the one that it depends on."""
    chosen = {field for field, _ in made}
    yield from (item for field, item in made if field not in conditions)
    for field, item in made:
        if field not in conditions:
            continue
        condition = conditions[field]
        if condition.field in chosen:
            extra = (f"{part}__{condition.field}", condition.values)
            if isinstance(item, Parameter):
                yield Parameter(item.name, item.key, item.search, item.start, (*item.when, extra))
            else:
                yield Setting(item.name, item.key, item.value, (*item.when, extra))
        elif getattr(config, condition.field) in condition.values:
            yield item
