"""The blueprint of a model: all that it is built from, as plain JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from hybridflow.categories import Categories
from hybridflow.column import Column
from hybridflow.config import Config
from hybridflow.densities import Base, Product, Uniform
from hybridflow.errors import ConfigError
from hybridflow.guards import building
from hybridflow.model import HybridModel
from hybridflow.registry import Registry
from hybridflow.schema import Schema
from hybridflow.specs import BaseSpec, Circle, Event, Real, Target
from hybridflow.transforms import (
    CircleToAngle,
    Compose,
    EqualizeAngles,
    Gaussianize,
    Identity,
    IntervalToReal,
    OnColumns,
    PositiveToReal,
    Standardize,
    Transform,
)

_FEWEST_STEPS = 4.0  # of a tied column, in one deviation
_ANGLE = Circle(period=2 * math.pi)


@dataclass(frozen=True)
class Blueprint:
    """What a model is built from.

    Parameters
    ----------
    schema : Schema
        The columns of the table.
    target : Target or None
        What y is; None for a density.
    flow, base : Config
    head : Config or None
    bend : bool, default=True
        Whether real columns are bent to a normal behind the standardising.
    others : tuple of Config, default=()
        Flows that later members take in turn with `flow`, where they differ.
    """

    schema: Schema
    target: Target | None
    flow: Config
    base: Config
    head: Config | None
    bend: bool = True
    others: tuple[Config, ...] = ()

    def of(self, member: int) -> Blueprint:
        """Return the blueprint of one member."""
        flows = (self.flow, *self.others)
        return replace(self, flow=flows[member % len(flows)], others=())

    @property
    def event(self) -> Event:
        """The columns that carry a density, with their supports, and the width of the context."""
        columns, categories = self.columns, self.categories()
        width = 0 if categories is None else categories.width
        if all(isinstance(column.support, Real) for column in columns):
            return Event.real(len(columns), width)
        support = tuple(column.support for column in columns)
        return Event(shape=(len(columns),), support=support, context_features=width)

    @property
    def columns(self) -> list[Column]:
        """What is known of the columns that carry a density."""
        return [self.schema.columns[i] for i in self.schema.numbers]

    def categories(self) -> Categories | None:
        """Return the model of categorical columns and missing flags, None if there are none."""
        layout = self.schema.layout
        flags = len(layout.flagged)
        if not layout.sizes and not flags:
            return None
        return Categories(
            (*layout.sizes, *[2] * flags), [True] * len(layout.sizes) + [False] * flags
        )

    def build(self, registry: Registry, seed: int) -> HybridModel:
        """Build the model with the starting weights of a seed, in float64.

        Raises
        ------
        ConfigError
            If the components do not fit the event, the target or each other.
        """
        event, target, columns = self.event, self.target, self.columns
        latent = latent_event(event)
        with building(seed):
            base_spec, _ = registry.resolve("base", self.base)
            base = self._build_base(latent, base_spec)
            head = None
            if self.head is not None and target is not None:
                head_spec, _ = registry.resolve("head", self.head)
                if target.kind not in head_spec.tasks:
                    raise ConfigError(
                        f"head {head_spec.name!r} is for {' and '.join(head_spec.tasks)}, "
                        f"not for {target.kind}"
                    )
                if head_spec.requires_base not in (None, base_spec.name):
                    raise ConfigError(
                        f"head {head_spec.name!r} needs base={head_spec.requires_base!r}, "
                        f"got {base_spec.name!r}"
                    )
                if head_spec.requires_base is not None and latent.circles:
                    raise ConfigError(
                        f"head {head_spec.name!r} reads the base, which has no circles, and "
                        f"{self._circles()}; use another head, or leave these out of columns="
                    )
                # An angle is two numbers to a head.
                read = Event.real(latent.features + len(latent.circles), latent.context_features)
                head = head_spec.build(read, target, base, self.head)
            model = HybridModel(
                event,
                preprocessing(columns, bend=self.bend),
                self._build_flow(latent, registry),
                base,
                head,
                step=torch.tensor([c.step for c in columns], dtype=torch.float64),
                lattice=torch.tensor([c.lattice for c in columns], dtype=torch.bool),
                origin=torch.tensor([c.origin for c in columns], dtype=torch.float64),
                layout=self.schema.layout,
                categories=self.categories(),
            )
        model.network_to(torch.float64)
        return model

    def _build_base(self, latent: Event, spec: BaseSpec) -> Base:
        """Build the base, with a uniform law for the circles that it does not take itself."""
        if latent.kinds <= set(spec.supports):
            return spec.build(latent, self.target, self.base)
        circles = latent.circles
        straight = [i for i in range(latent.features) if i not in circles]
        width = latent.context_features
        around = Event(shape=(len(circles),), support=(_ANGLE,), context_features=width)
        chosen = spec.build(Event.real(len(straight), width), self.target, self.base)
        return Product([(chosen, straight), (Uniform(around), circles)])

    def _build_flow(self, latent: Event, registry: Registry) -> Transform:
        spec, _ = registry.resolve("flow", self.flow)
        if latent.features == 0:
            return Identity()
        if latent.features < spec.min_features:
            raise ConfigError(
                f"flow {spec.name!r} needs at least {spec.min_features} columns, "
                f"got {latent.features}"
            )
        if not latent.kinds <= set(spec.supports):
            able = flows_for(latent.kinds, registry)
            fix = f"use flow={' or flow='.join(map(repr, able))}, or " if able else ""
            raise ConfigError(
                f"flow {spec.name!r} supports {', '.join(spec.supports)} columns, and "
                f"{self._circles()}; {fix}leave these out of columns="
            )
        return spec.build(latent, self.flow)

    def _circles(self) -> str:
        names = [repr(c.name) for c in self.columns if isinstance(c.support, Circle)]
        return f"{', '.join(names)} {'is a circle' if len(names) == 1 else 'are circles'}"


def latent_event(event: Event) -> Event:
    """Return what a row is behind the preprocessing: real numbers, and angles for circles."""
    if not event.circles:
        return Event.real(event.features, event.context_features)
    support = tuple(_ANGLE if isinstance(s, Circle) else Real() for s in event.dimensions)
    return event.replace(support=support)


def flows_for(kinds: frozenset[str], registry: Registry) -> list[str]:
    """Return the names of the flows at hand that take dimensions of these kinds."""
    at_hand = [
        entry.name
        for entry in registry.entries()
        if entry.kind == "flow" and entry.status in ("built-in", "loaded")
    ]
    return [name for name in at_hand if kinds <= set(registry.resolve("flow", name)[0].supports)]


def preprocessing(columns: Sequence[Column], *, bend: bool = True) -> Transform:
    """Return the layers that are fitted before the flow, one after the other.

    Positive columns and intervals become real ones. Real ones are standardised
    and, if `bend`, bent to a normal; circles become angles and are bent to lie evenly.
    Without bending, a tied column that hardly ever leaves one value is not stretched
    so far that a single step is many deviations.
    """

    def usual(places: Sequence[int]) -> list[Transform]:
        if bend:
            return [Standardize(len(places)), Gaussianize(len(places))]
        steps = [columns[i].step if columns[i].lattice else 0.0 for i in places]
        plain = any(columns[i].support.kind != "real" for i in places)  # bounded: other units
        least = None if plain else [_FEWEST_STEPS * step for step in steps]
        return [Standardize(len(places), least)]

    features = len(columns)
    positive, interval, circle = (
        [i for i, column in enumerate(columns) if column.support.kind == kind]
        for kind in ("positive", "interval", "circle")
    )
    layers: list[Transform] = []
    # A tied value on a bound is read at the middle of the half of its cell that is inside.
    margins = [column.step / 4 for column in columns]
    if positive:
        log = PositiveToReal(len(positive), [margins[i] for i in positive])
        layers.append(OnColumns(log, positive, features))
    if interval:
        low, high = zip(*(columns[i].support.bounds for i in interval), strict=True)
        logit = IntervalToReal(low, high, [margins[i] for i in interval])
        layers.append(OnColumns(logit, interval, features))
    if not circle:
        return Compose([*layers, *usual(range(features))])
    straight = [i for i in range(features) if i not in circle]
    if straight:
        normal = Compose(usual(straight))
        layers.append(OnColumns(normal, straight, features))
    supports = [columns[i].support for i in circle]
    angle = CircleToAngle([s.period for s in supports if isinstance(s, Circle)])
    layers.append(OnColumns(Compose([angle, EqualizeAngles(len(circle))]), circle, features))
    return Compose(layers)
