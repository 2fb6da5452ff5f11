"""A base under test."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from hybridflow.config import Config
from hybridflow.densities.base import Base
from hybridflow.errors import ConfigError
from hybridflow.registry import Registry
from hybridflow.specs import BaseSpec, Target
from hybridflow.testing.case import (
    CONTEXT,
    TRAINING_ROWS,
    Case,
    Inputs,
    Outputs,
    built,
    normal,
    perturb,
)
from hybridflow.testing.supports import event_on, onto

FEATURES = 3

TARGET = Target(kind="classification", classes=("a", "b", "c"))
"""What y is, in most checks; others have none."""


class BaseCase(Case[Base]):
    """A base under test, on rows of one kind of support.

    Parameters
    ----------
    spec : BaseSpec
    registry : Registry or None
    """

    spec: BaseSpec

    def __init__(self, spec: BaseSpec, registry: Registry | None) -> None:
        super().__init__(spec, registry)
        self.kind = "real" if "real" in spec.supports else spec.supports[0]

    @property
    def reads_real_rows(self) -> bool:
        """Whether the rows may be any real numbers."""
        return self.kind == "real"

    @cached_property
    def draws_with_gradients(self) -> bool:
        """Whether the base offers `rsample`."""
        try:
            self.build().rsample(1, normal(1, CONTEXT, 0))
        except (ConfigError, NotImplementedError):
            return False
        return True

    def make(self, config: Config) -> Base:
        """Build the base for rows of a few features with a context."""
        return self.spec.build(event_on(self.kind, FEATURES, CONTEXT), TARGET, config)

    def sized(self, features: int, target: Target | None = None, *, moved: bool = True) -> Base:
        """Return a base for rows of some size without context: as built, or moved."""
        event = event_on(self.kind, features, 0)
        base = built(lambda: self.spec.build(event, target, self.spec.config()))
        if moved:
            base.initialize(self.rows(TRAINING_ROWS, features, 7))
            perturb(base)
        return base

    def rows(self, n: int, features: int, seed: int) -> Tensor:
        """Return latent rows within two units of zero, taken onto the support."""
        return onto(self.kind, 2 * torch.tanh(normal(n, features, seed)))

    def inputs(self, n: int, seed: int = 1) -> Inputs:
        """Return latent rows and their context."""
        return self.rows(n, FEATURES, seed), normal(n, CONTEXT, seed + 1000)

    def evaluate(self, module: Base, inputs: Inputs) -> Outputs:
        """Return the log-density."""
        return {"log_prob": module.log_prob(*inputs)}

    def initialize(self, module: Base, rows: Inputs, weight: Tensor | None) -> None:
        """Give the base its data-dependent start."""
        module.initialize(rows[0], rows[1] if len(rows) > 1 else None, weight=weight)
