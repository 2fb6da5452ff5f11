"""The blueprint of a model: all that it is built from, as plain JSON."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hybridflow.config import Config
from hybridflow.errors import ConfigError
from hybridflow.guards import building
from hybridflow.model import HybridModel
from hybridflow.registry import Registry
from hybridflow.specs import Event, Target
from hybridflow.table import Schema
from hybridflow.transforms import Compose, Gaussianize, Identity, Standardize, Transform


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
    """

    schema: Schema
    target: Target | None
    flow: Config
    base: Config
    head: Config | None

    @property
    def event(self) -> Event:
        """The columns that carry a density."""
        return Event.real(len(self.schema.kept))

    def build(self, registry: Registry, seed: int) -> HybridModel:
        """Build the model with the starting weights of a seed, in float64.

        Raises
        ------
        ConfigError
            If the components do not fit the event, the target or each other.
        """
        event, target = self.event, self.target
        columns = [self.schema.columns[i] for i in self.schema.kept]
        with building(seed):
            base_spec, _ = registry.resolve("base", self.base)
            base = base_spec.build(event, target, self.base)
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
                head = head_spec.build(event, target, base, self.head)
            model = HybridModel(
                event,
                Compose([Standardize(event.features), Gaussianize(event.features)]),
                self._build_flow(event, registry),
                base,
                head,
                step=torch.tensor([c.step for c in columns], dtype=torch.float64),
                lattice=torch.tensor([c.lattice for c in columns], dtype=torch.bool),
                origin=torch.tensor([c.origin for c in columns], dtype=torch.float64),
            )
        model.network_to(torch.float64)
        return model

    def _build_flow(self, event: Event, registry: Registry) -> Transform:
        spec, _ = registry.resolve("flow", self.flow)
        if event.features == 0:
            return Identity()
        if event.features < spec.min_features:
            raise ConfigError(
                f"flow {spec.name!r} needs at least {spec.min_features} columns, "
                f"got {event.features}"
            )
        if not event.kinds <= set(spec.supports):
            raise ConfigError(
                f"flow {spec.name!r} supports {', '.join(spec.supports)} columns, "
                f"got {', '.join(sorted(event.kinds))}"
            )
        return spec.build(event, self.flow)
