"""A flow under test."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from hybridflow.config import Config
from hybridflow.registry import Registry
from hybridflow.specs import FlowSpec
from hybridflow.testing.case import (
    CONTEXT,
    TRAINING_ROWS,
    Case,
    Inputs,
    Outputs,
    built,
    copy_of,
    normal,
    perturb,
)
from hybridflow.testing.flows.fitting import heavy_tailed, train
from hybridflow.testing.supports import event_on, rows_on
from hybridflow.transforms.base import Transform

_SIZES = (1, 2, 3, 7)
_SETTLING = 3
_TAMED = 10.0  # estimators pull rows back to there before training


class FlowCase(Case[Transform]):
    """A flow under test, on rows of one kind of support.

    Parameters
    ----------
    spec : FlowSpec
    registry : Registry or None
    kind : str, optional
        One of the kinds that the spec supports; real if it is among them,
        else the first one.
    """

    spec: FlowSpec

    def __init__(self, spec: FlowSpec, registry: Registry | None, kind: str | None = None) -> None:
        super().__init__(spec, registry)
        self.kind = kind or ("real" if "real" in spec.supports else spec.supports[0])
        self._trained: dict[int, Transform] = {}

    @property
    def reads_real_rows(self) -> bool:
        """Whether the rows may be any real numbers."""
        return self.kind == "real"

    @property
    def invertible(self) -> bool:
        """Whether the spec claims an inverse."""
        return self.spec.inverse != "none"

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of features to try, none below what the spec asks for."""
        fitting = tuple(d for d in _SIZES if d >= self.spec.min_features)
        return fitting or (self.spec.min_features,)

    @cached_property
    def features(self) -> int:
        """Number of features of most checks."""
        return max(3, self.spec.min_features)

    def make(self, config: Config) -> Transform:
        """Build the flow for rows of a few features with a context."""
        return self.spec.build(event_on(self.kind, self.features, CONTEXT), config)

    def sized(
        self,
        features: int,
        context: int = 0,
        *,
        moved: bool = True,
        config: Config | None = None,
    ) -> Transform:
        """Return a flow for rows of some size: as built, or started and moved from there."""
        event = event_on(self.kind, features, context)
        flow = built(lambda: self.spec.build(event, config or self.spec.config()))
        if moved:
            self.initialize(flow, self.sized_inputs(TRAINING_ROWS, features, context, 7), None)
            perturb(flow)
            settle(flow, self.sized_inputs(TRAINING_ROWS, features, context, 8))
        return flow

    def ready(self, seed: int = 0) -> Transform:
        """Build, initialize and perturb the flow, and let what follows its parameters follow."""
        flow = super().ready(seed)
        settle(flow, self.inputs(TRAINING_ROWS, seed=8))
        return flow

    def trained(self, features: int) -> Transform:
        """Return a copy of a flow after a short training on heavy-tailed rows, without context."""
        if features not in self._trained:
            flow = self.sized(features, moved=False)
            rows = heavy_tailed(self.kind, features, reach=_TAMED)
            flow.initialize(rows)
            train(flow, rows, self.kind)
            self._trained[features] = flow.eval()
        return copy_of(self._trained[features])

    def inputs(self, n: int, seed: int = 1) -> Inputs:
        """Return rows and their context."""
        return self.sized_inputs(n, self.features, CONTEXT, seed)

    def sized_inputs(self, n: int, features: int, context: int, seed: int = 1) -> Inputs:
        """Return rows of some size, and their context if there is one."""
        rows = rows_on(self.kind, n, features, seed)
        return (rows, normal(n, context, seed + 1000)) if context else (rows,)

    def evaluate(self, module: Transform, inputs: Inputs) -> Outputs:
        """Return what both directions give for the same numbers."""
        z, ladj = module(*inputs)
        outputs = {"z": z, "ladj": ladj}
        if self.invertible:
            outputs["x"], outputs["ladj of the inverse"] = module.inverse(*inputs)
        return outputs

    def smooth(self, module: Transform, inputs: Inputs) -> Outputs:
        """Return what `forward` gives; an estimate of ladj has no slope to compare with."""
        z, ladj = module(*inputs)
        return {"z": z} if self.spec.log_det == "estimated" else {"z": z, "ladj": ladj}

    def initialize(self, module: Transform, rows: Inputs, weight: Tensor | None) -> None:
        """Give the flow its data-dependent start."""
        context = rows[1] if len(rows) > 1 else None
        module.initialize(rows[0], context, weight=weight)


def settle(flow: Transform, inputs: Inputs) -> None:
    """Show a flow a few batches in training mode, so that running estimates meet its parameters."""
    flow.train()
    with torch.no_grad():
        for _ in range(_SETTLING):
            flow(*inputs)
    flow.eval()
