"""A head under test."""

from __future__ import annotations

import warnings
from functools import cached_property

import torch
from torch import Tensor, nn

from hybridflow.config import Config
from hybridflow.densities import Normal
from hybridflow.densities.base import Base
from hybridflow.errors import HybridFlowWarning, InputError
from hybridflow.likelihoods.base import Head, TargetBatch
from hybridflow.registry import Registry
from hybridflow.specs import Event, HeadSpec, Target
from hybridflow.testing.case import CONTEXT, TRAINING_ROWS, Case, Inputs, Outputs, built, normal
from hybridflow.testing.check import CheckFailed

FEATURES = 3
CLASSES = ("a", "b", "c")


class HeadUnderTest(nn.Module):
    """A head, with the base that it reads if it reads one.

    Parameters
    ----------
    head : Head
    base : Base or None
    """

    def __init__(self, head: Head, base: Base | None) -> None:
        super().__init__()
        self.head = head
        self.base = base


class HeadCase(Case[HeadUnderTest]):
    """A head under test, on one target.

    Parameters
    ----------
    spec : HeadSpec
    registry : Registry or None
    target : Target, optional
        Of a kind that the spec names; classes or numbers if not given.
    """

    spec: HeadSpec

    def __init__(
        self, spec: HeadSpec, registry: Registry | None, target: Target | None = None
    ) -> None:
        super().__init__(spec, registry)
        self.target = target or target_of(spec.tasks[0], spec.max_classes)

    @property
    def classifies(self) -> bool:
        """Whether y is a class, or several labels."""
        return self.target.kind != "regression"

    @property
    def has_several(self) -> bool:
        """Whether y is several labels."""
        return self.target.kind == "multi-label"

    def make(self, config: Config) -> HeadUnderTest:
        """Build the head, and the base that it needs, for a few features with a context."""
        return self.sized(Event.real(FEATURES, CONTEXT), config)

    def sized(self, event: Event, config: Config | None = None) -> HeadUnderTest:
        """Build the head, and the base that it needs, for an event."""
        name = self.spec.requires_base
        base: Base = Normal(event.features)
        if name is not None:
            base_spec, base_config = self.registry.resolve("base", name)
            base = base_spec.build(event, self.target, base_config)
        head = self.spec.build(event, self.target, base, config or self.spec.config())
        return HeadUnderTest(head, None if name is None else base)

    def sized_in_float64(self, event: Event) -> HeadUnderTest:
        """Build as `sized` does, in float64 and evaluation mode."""
        return built(lambda: self.sized(event))

    @cached_property
    def values(self) -> Tensor:
        """Targets of all rows that the head accepts: the first kind of numbers that it does."""
        if self.classifies:
            rows = torch.arange(4 * TRAINING_ROWS, dtype=torch.float64)[:, None]
            if self.has_several:
                return torch.floor(rows / 2 ** torch.arange(len(self.target.names))) % 2
            return rows % len(self.target.classes)
        y = normal(4 * TRAINING_ROWS, 1, 61)
        location, scale, step = self.target.location[0], self.target.scale[0], self.target.step
        numbers = location + scale * y
        if step:
            numbers = step * torch.round(numbers / step)
        positive = numbers.abs().clamp(min=step) if step else numbers.exp()
        candidates = (numbers, numbers.clamp(min=0).round(), positive, torch.sigmoid(y))
        head = self.sized(Event.real(FEATURES)).head
        for values in candidates:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error", HybridFlowWarning)
                    head.check(TargetBatch(values, torch.ones_like(values, dtype=torch.bool)))
            except (InputError, HybridFlowWarning):
                continue
            return values
        raise CheckFailed("the head accepts none of: numbers, counts, positive numbers, shares")

    def inputs(self, n: int, seed: int = 1) -> Inputs:
        """Return latent rows, their context, their targets and which of these are observed."""
        start = 3 * seed
        observed = torch.ones(n, len(self.target.names), dtype=torch.bool)
        z = normal(n, FEATURES, seed)
        return z, normal(n, CONTEXT, seed + 1000), self.values[start : start + n], observed

    def to(self, inputs: Inputs, target: torch.dtype | torch.device) -> Inputs:
        """Return the inputs elsewhere; targets are float64 always."""
        if isinstance(target, torch.dtype):
            z, context, *rest = inputs
            return z.to(target), context.to(target), *rest
        return super().to(inputs, target)

    def follow_dtype(self) -> frozenset[str]:
        """Return eta alone: losses are float64."""
        return frozenset({"eta"})

    def evaluate(self, module: HeadUnderTest, inputs: Inputs) -> Outputs:
        """Return eta and the loss."""
        z, context, values, observed = inputs
        eta = module.head(z, context)
        return {"eta": eta, "nll": module.head.nll(eta, TargetBatch(values, observed))}

    def initialize(self, module: HeadUnderTest, rows: Inputs, weight: Tensor | None) -> None:
        """Give the base, if the head reads one, and the head their data-dependent start."""
        z, context, values, observed = rows
        if module.base is not None:
            module.base.initialize(z, context, torch.where(observed, values, torch.nan), weight)
        module.head.initialize(z, context, TargetBatch(values, observed), weight)


def target_of(task: str, max_classes: int | None = None) -> Target:
    """Return three classes, or fewer if there is a limit, two labels, or numbers around 3."""
    if task == "multi-label":
        return Target(
            kind="multi-label",
            names=("a", "b"),
            classes=(0, 1),
            location=(0.0, 0.0),
            scale=(1.0, 1.0),
        )
    if task == "classification":
        return Target(kind="classification", classes=CLASSES[:max_classes])
    return Target(kind="regression", location=(3.0,), scale=(2.0,))
