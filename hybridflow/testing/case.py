"""A component under test: how the checks build it, feed it and read it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from hybridflow.config import Config
from hybridflow.errors import ConfigError
from hybridflow.guards import building
from hybridflow.hookspecs import hookimpl
from hybridflow.registry import Kind, Registry, default_registry
from hybridflow.specs import BaseSpec, FlowSpec, HeadSpec, Spec

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Inputs = tuple[Tensor, ...]
Outputs = dict[str, Tensor]

CONTEXT = 2
"""Width of the context in checks that give one."""

SPREAD = 0.03
"""Standard deviation of what is added to the parameters of a component that was just built."""

READ = 2
"""How many of the inputs are read: the rows and their context; what follows are targets."""

TRAINING_ROWS = 120
"""Rows that components are initialized on."""


class Case(ABC, Generic[ModuleT]):
    """A component under test. Each kind of component has one.

    What it makes depends on nothing but the spec and the seed: checks may run
    in any order and alone.

    Parameters
    ----------
    spec : FlowSpec, BaseSpec or HeadSpec
    registry : Registry or None
        Where the component and its partners resolve. A spec that is not in it
        is put into a registry of its own, beside the built-ins.
    """

    def __init__(self, spec: Spec, registry: Registry | None) -> None:
        self.spec = spec
        self.registry = registry_with(spec, registry)

    @property
    def reads_real_rows(self) -> bool:
        """Whether the main input may be any real number."""
        return True

    @abstractmethod
    def make(self, config: Config) -> ModuleT:
        """Call the build function, for rows of a few features with a context."""

    @abstractmethod
    def inputs(self, n: int, seed: int = 1) -> Inputs:
        """Return n rows, their context, and what else is given with them, such as targets."""

    @abstractmethod
    def evaluate(self, module: ModuleT, inputs: Inputs) -> Outputs:
        """Return everything that the component says of the rows, by name, one entry per row."""

    @abstractmethod
    def initialize(self, module: ModuleT, rows: Inputs, weight: Tensor | None) -> None:
        """Give the module its data-dependent start."""

    def smooth(self, module: ModuleT, inputs: Inputs) -> Outputs:
        """Return those outputs whose gradients training uses."""
        return self.evaluate(module, inputs)

    def follow_dtype(self) -> frozenset[str]:
        """Return the names of the outputs that have the dtype of the module."""
        return frozenset(self.evaluate(self.ready(), self.inputs(1)))

    def to(self, inputs: Inputs, target: torch.dtype | torch.device) -> Inputs:
        """Return the inputs in another floating dtype or on another device."""
        return tuple(part.to(target) for part in inputs)

    def raw(self) -> ModuleT:
        """Return what the build function returns, as it is."""
        with building(0):
            return self.make(self.spec.config())

    def build(self, config: Config | None = None, seed: int = 0) -> ModuleT:
        """Build the component in float64, ready to be evaluated."""
        return built(lambda: self.make(config or self.spec.config()), seed)

    def ready(self, seed: int = 0) -> ModuleT:
        """Build and initialize the component and move its parameters away from their start."""
        module = self.build(seed=seed)
        self.initialize(module, self.inputs(TRAINING_ROWS, seed=7), None)
        perturb(module)
        return module


AnyCase = Case[Any]


def built(make: Callable[[], ModuleT], seed: int = 0) -> ModuleT:
    """Build a module from a seed, in float64 and in evaluation mode."""
    with building(seed):
        module = make()
    return module.double().eval()


def perturb(module: nn.Module, spread: float = SPREAD) -> None:
    """Add a fixed draw of noise to every parameter."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(spread * noise.to(parameter))


def normal(n: int, width: int, seed: int) -> Tensor:
    """Return standard normal rows, float64 of shape (n, width), the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator, dtype=torch.float64)


def weighted_sum(outputs: Outputs, seed: int = 11) -> Tensor:
    """Return a sum of all outputs with fixed random coefficients: its gradient sees each entry."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros((), dtype=torch.float64)
    for output in outputs.values():
        factor = torch.randn(output.shape, generator=generator, dtype=torch.float64)
        total = total + (factor * output.double()).sum()
    return total


def copy_of(module: ModuleT) -> ModuleT:
    """Return an independent copy of a module."""
    return copy.deepcopy(module)


def kind_of(spec: Spec) -> Kind:
    """Return what a spec offers."""
    if isinstance(spec, FlowSpec):
        return "flow"
    return "base" if isinstance(spec, BaseSpec) else "head"


def registry_with(spec: Spec, registry: Registry | None) -> Registry:
    """Return the registry if it knows the spec, else one of the spec and the built-ins."""
    known = default_registry() if registry is None else registry
    try:
        if known.resolve(kind_of(spec), spec.config())[0] == spec:
            return known
    except ConfigError:
        pass
    alone = Registry(entry_points=False)
    alone.register(_Offering(spec))
    return alone


class _Offering:
    """A plugin that offers one spec."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec

    @hookimpl
    def hybridflow_flows(self) -> list[FlowSpec]:
        return [self.spec] if isinstance(self.spec, FlowSpec) else []

    @hookimpl
    def hybridflow_bases(self) -> list[BaseSpec]:
        return [self.spec] if isinstance(self.spec, BaseSpec) else []

    @hookimpl
    def hybridflow_heads(self) -> list[HeadSpec]:
        return [self.spec] if isinstance(self.spec, HeadSpec) else []
