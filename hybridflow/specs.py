"""What a row is, what y is, and what a plugin offers.

`Event` and `Target` are plain, JSON-able facts that every component is built
from and that a saved model keeps. `FlowSpec`, `BaseSpec` and `HeadSpec` offer
a component to the registry. Nothing here imports torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from hybridflow.config import Config
from hybridflow.errors import ConfigError, PluginContractError

if TYPE_CHECKING:
    from hybridflow.densities.base import Base
    from hybridflow.likelihoods.base import Head
    from hybridflow.transforms.base import Transform


Inverse = Literal["exact", "iterative", "none"]
LogDet = Literal["exact", "estimated"]
Task = Literal["classification", "regression", "multi-label"]


class Real(Config):
    """The whole real line.

    Examples
    --------
    >>> from hybridflow.specs import Real
    >>> Real().kind
    'real'
    """

    kind: Literal["real"] = "real"

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which numbers it lies."""
        return -math.inf, math.inf


class Positive(Config):
    """The positive half-line.

    Examples
    --------
    >>> from hybridflow.specs import Positive
    >>> Positive().kind
    'positive'
    """

    kind: Literal["positive"] = "positive"

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which numbers it lies."""
        return 0.0, math.inf


class Interval(Config):
    """The interval from `low` to `high`.

    Parameters
    ----------
    low, high : float

    Examples
    --------
    >>> from hybridflow.specs import Interval
    >>> Interval(low=0.0, high=1.0).high
    1.0
    """

    kind: Literal["interval"] = "interval"
    low: float
    high: float

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if math.isinf(self.high - self.low):
            raise ValueError(f"high - low must be finite, got {self.low} and {self.high}")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which numbers it lies."""
        return self.low, self.high


class Circle(Config):
    """A circle of the given period: 0 and the period are the same point.

    Parameters
    ----------
    period : float
        Positive: 24 for hours of the day.

    Examples
    --------
    >>> from hybridflow.specs import Circle
    >>> Circle(period=24.0).period
    24.0
    """

    kind: Literal["circle"] = "circle"
    period: Annotated[float, Field(gt=0)]

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which numbers it lies: any number stands for a point of the circle."""
        return -math.inf, math.inf


class Token(Config):
    """One of `size` symbols, numbered from 0.

    Parameters
    ----------
    size : int

    Examples
    --------
    >>> from hybridflow.specs import Token
    >>> Token(size=26).size
    26
    """

    kind: Literal["token"] = "token"
    size: Annotated[int, Field(ge=1)]

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which numbers it lies."""
        return 0.0, self.size - 1.0


class Categorical(Config):
    """No number but one of some levels; declares a column of numbers to be categorical.

    Examples
    --------
    >>> from hybridflow.specs import Categorical
    >>> Categorical().kind
    'categorical'
    """

    kind: Literal["categorical"] = "categorical"


Support = Annotated[Real | Positive | Interval | Circle | Token, Field(discriminator="kind")]


class Event(Config):
    """What one row is: its shape, the support of each dimension, its context.

    Parameters
    ----------
    shape : tuple of int
        ``(d,)`` for a table, ``(channels, height, width)`` for an image,
        ``(length,)`` for a sequence, ``(0,)`` for a row without a density.
    support : tuple of Real, Positive, Interval, Circle or Token
        One per dimension of a table row, or a single one that holds for all.
    context_features : int, default=0
        Width of the context that every transform receives.

    Examples
    --------
    >>> from hybridflow.specs import Event
    >>> Event.real(3).shape
    (3,)
    """

    shape: tuple[Annotated[int, Field(ge=0)], ...]
    support: tuple[Support, ...]
    context_features: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _has_fitting_support(self) -> Self:
        fitting = {1, *self.shape} if len(self.shape) == 1 else {1}
        if len(self.support) not in fitting:
            raise ValueError(
                f"support has {len(self.support)} entries for the shape {self.shape}; "
                "give one for all, or one per column of a table"
            )
        return self

    @classmethod
    def real(cls, features: int, context_features: int = 0) -> Event:
        """Return the event of a table row with `features` real columns."""
        return cls(shape=(features,), support=(Real(),), context_features=context_features)

    @property
    def features(self) -> int:
        """Number of dimensions that carry a density."""
        return math.prod(self.shape)

    @property
    def dimensions(self) -> tuple[Real | Positive | Interval | Circle | Token, ...]:
        """Support of each dimension of a table row."""
        return self.support * (self.features if len(self.support) == 1 else 1)

    @property
    def circles(self) -> tuple[int, ...]:
        """Positions of the dimensions that are circles."""
        return tuple(i for i, support in enumerate(self.dimensions) if support.kind == "circle")

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of support that occur."""
        return frozenset(support.kind for support in self.support)


class Target(Config):
    """What y is.

    Parameters
    ----------
    kind : {"classification", "regression", "multi-label"}
        One label per row, numbers, or any number of labels per row.
    names : tuple of str
        Names of the outputs; of several labels, one per label.
    classes : tuple of str, int, float or bool
        The labels, sorted; empty for a regression; the positions 0, 1, ... of
        several labels.
    order : tuple of int, default=()
        Positions in `classes` from the lowest class to the highest, if y says
        so; empty where they are sorted that way.
    location, scale : tuple of float
        Weighted mean and standard deviation of each output (0 and 1 for
        labels): heads work on ``(y - location) / scale`` and report in the
        units of y.
    step : float, default=0
        The gap of a target that lies on a lattice (1 for whole numbers), which
        is scored as a mass; 0 for a continuous one, scored as a density.
    steps : tuple of float, default=()
        The gap of each of several outputs, 0 for continuous ones; empty where
        all have the gap `step`.

    Examples
    --------
    >>> from hybridflow import Target
    >>> Target(kind="classification", classes=("cat", "dog")).classes
    ('cat', 'dog')
    >>> Target(kind="regression", location=(170.0,), scale=(8.5,)).names
    ('y',)
    """

    kind: Task
    names: tuple[str, ...] = ("y",)
    classes: tuple[bool | int | float | str, ...] = ()
    order: tuple[int, ...] = ()
    location: tuple[float, ...] = (0.0,)
    scale: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    step: Annotated[float, Field(ge=0)] = 0.0
    steps: tuple[Annotated[float, Field(ge=0)], ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if not len(self.names) == len(self.location) == len(self.scale):
            raise ValueError(
                f"names, location and scale need one entry per output, got {len(self.names)}, "
                f"{len(self.location)} and {len(self.scale)}"
            )
        if self.kind == "regression" and self.classes:
            raise ValueError(f"a regression has no classes, got {self.classes}")
        if self.order and sorted(self.order) != list(range(len(self.classes))):
            raise ValueError(
                f"order names each of the {len(self.classes)} classes once, got {self.order}"
            )
        if self.steps and len(self.steps) != len(self.names):
            raise ValueError(
                f"steps need one entry per output, got {len(self.steps)} for {len(self.names)}"
            )
        return self

    def output(self, i: int) -> Target:
        """Return what one of several outputs is, alone.

        Parameters
        ----------
        i : int
            Position of the output, from 0.

        Examples
        --------
        >>> from hybridflow import Target
        >>> both = Target(kind="regression", names=("a", "b"), location=(0, 5), scale=(1, 2))
        >>> both.output(1).location
        (5.0,)
        """
        return self.replace(
            names=(self.names[i],),
            location=(self.location[i],),
            scale=(self.scale[i],),
            step=self.steps[i] if self.steps else self.step,
            steps=(),
        )


_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


_SUPPORTS = ("real", "positive", "interval", "circle", "token")


def _check(spec: Spec) -> None:
    """Refuse a spec whose parts are not what they must be, whoever wrote it."""
    name, config = spec.name, spec.config
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginContractError(
            f"a component's name is made of a-z, 0-9 and single hyphens, got {name!r}"
        )
    if not (isinstance(config, type) and issubclass(config, Config)):
        raise PluginContractError(
            f"{name}: config must be a subclass of hybridflow.Config, got {config!r}"
        )
    try:
        config()
    except ConfigError as error:
        raise PluginContractError(
            f"{name}: every field of its config needs a default: {error}"
        ) from error
    if not callable(spec.build):
        raise PluginContractError(f"{name}: build must be a function, got {spec.build!r}")
    if not isinstance(spec.summary, str) or "\n" in spec.summary:
        raise PluginContractError(f"{name}: summary must be one line, got {spec.summary!r}")


def _check_choice(name: str, claim: str, values: object, options: tuple[str, ...]) -> None:
    """Refuse a claim that is not one of its options, or a tuple of some of them."""
    chosen = values if isinstance(values, tuple) else (values,)
    if not chosen or any(value not in options for value in chosen):
        raise PluginContractError(
            f"{name}: {claim} is made of {', '.join(map(repr, options))}, got {values!r}"
        )


@dataclass(frozen=True)
class FlowSpec:
    """Offers a flow: a named, configured transform.

    Parameters
    ----------
    name : str
        Lower-case words joined by hyphens.
    summary : str
        One line for listings.
    config : type of Config
        All fields have defaults.
    build : callable
        ``build(event, config) -> Transform``.
    inverse : {"exact", "iterative", "none"}
        What `Transform.inverse` promises.
    log_det : {"exact", "estimated"}
        What ``ladj`` is.
    supports : tuple of str
        Kinds of support that the flow's dimensions may have: "real", "circle".
        Positive columns and intervals reach a flow as real ones, circles of
        any period as angles from -pi to pi, so with the period 2 pi.
    min_features : int
        Fewest dimensions that it works on.
    stable_to : float
        How many standard deviations out the round trip holds.
    onnx : bool
        Whether it exports.
    reference : str
        Title, authors, year.

    Raises
    ------
    PluginContractError
        If a part is not what it must be.

    Examples
    --------
    >>> from hybridflow import Config, FlowSpec
    >>> class Nothing(Config):
    ...     pass
    >>> def build(event, config):
    ...     from hybridflow.transforms import Identity
    ...     return Identity()
    >>> FlowSpec("nothing", "The identity", Nothing, build).inverse
    'exact'
    """

    name: str
    summary: str
    config: type[Config]
    build: Callable[[Event, Any], Transform]
    inverse: Inverse = "exact"
    log_det: LogDet = "exact"
    supports: tuple[str, ...] = ("real",)
    min_features: int = 1
    stable_to: float = 10.0
    onnx: bool = True
    reference: str = ""

    def __post_init__(self) -> None:
        _check(self)
        _check_choice(self.name, "inverse", self.inverse, get_args(Inverse))
        _check_choice(self.name, "log_det", self.log_det, get_args(LogDet))
        _check_choice(self.name, "supports", self.supports, _SUPPORTS)


@dataclass(frozen=True)
class BaseSpec:
    """Offers a base: the distribution of the latent z.

    Parameters
    ----------
    name, summary, config, supports, stable_to, onnx, reference
        As in `FlowSpec`.
    build : callable
        ``build(event, target, config) -> Base``; `target` is None when a
        density is fitted alone.

    Raises
    ------
    PluginContractError
        If a part is not what it must be.

    Examples
    --------
    >>> from hybridflow import BaseSpec, Config
    >>> class Plain(Config):
    ...     pass
    >>> def build(event, target, config):
    ...     from hybridflow.densities import Normal
    ...     return Normal(event.features)
    >>> BaseSpec("plain", "Standard normal", Plain, build).supports
    ('real',)
    """

    name: str
    summary: str
    config: type[Config]
    build: Callable[[Event, Target | None, Any], Base]
    supports: tuple[str, ...] = ("real",)
    stable_to: float = 10.0
    onnx: bool = True
    reference: str = ""

    def __post_init__(self) -> None:
        _check(self)
        _check_choice(self.name, "supports", self.supports, _SUPPORTS)


@dataclass(frozen=True)
class HeadSpec:
    """Offers a head: a generalized linear model on z or on a basis of it.

    Parameters
    ----------
    name, summary, config, onnx, reference
        As in `FlowSpec`.
    tasks : tuple of {"classification", "regression", "multi-label"}
        Kinds of target that it predicts.
    build : callable
        ``build(event, target, base, config) -> Head``.
    requires_base : str or None
        Name of the one base that it reads, if it does.
    max_classes : int or None
        Most classes that it tells apart, if there is a limit.

    Raises
    ------
    PluginContractError
        If a part is not what it must be.

    Examples
    --------
    >>> from hybridflow import Config, HeadSpec
    >>> class Linear(Config):
    ...     pass
    >>> def build(event, target, base, config):
    ...     from hybridflow.likelihoods import Gaussian, GeneralizedLinear, LinearBasis
    ...     return GeneralizedLinear(LinearBasis(event), Gaussian(target))
    >>> HeadSpec("linear", "Least squares", Linear, ("regression",), build).tasks
    ('regression',)
    """

    name: str
    summary: str
    config: type[Config]
    tasks: tuple[Task, ...]
    build: Callable[[Event, Target, Base, Any], Head]
    requires_base: str | None = None
    onnx: bool = True
    reference: str = ""
    max_classes: int | None = None

    def __post_init__(self) -> None:
        _check(self)
        _check_choice(self.name, "tasks", self.tasks, get_args(Task))


Spec = FlowSpec | BaseSpec | HeadSpec
