"""Composition: transforms one after the other, and what they keep for the gradient."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from hybridflow.errors import ConfigError, DriftWarning
from hybridflow.transforms.base import Inverse, Transform
from hybridflow.transforms.reversible import ANCHOR_EVERY, recomputed

Memory = Literal["plain", "checkpoint", "reversible"]
"""What a composition keeps for back-propagation."""


class Compose(Transform):
    r"""Transforms applied one after the other, from data to latent.

    .. math:: z = t_k(\dots t_2(t_1(x))), \qquad
        \mathrm{ladj} = \sum_i \mathrm{ladj}_i.

    Parameters
    ----------
    transforms : iterable of Transform
        In the order in which `forward` applies them.
    memory : {"plain", "checkpoint", "reversible"}, default="plain"
        What is kept for back-propagation; the results are the same.
        ``"plain"``: all activations. ``"checkpoint"``: the input of each
        transform, which runs a second time. ``"reversible"``: the input of
        every eighth transform; those between are rebuilt by the inverse, and
        recomputed where that drifted. Transforms that are not `repeatable`
        keep theirs. Gradients can be taken once, not of gradients. Can be set
        later.

    Raises
    ------
    ConfigError
        If `memory` is unknown, or ``"reversible"`` and a transform has no
        exact inverse.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Compose, Identity
    >>> Compose([Identity(), Identity()])(torch.ones(1, 2))[0]
    tensor([[1., 1.]])
    """

    def __init__(self, transforms: Iterable[Transform], memory: Memory = "plain") -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)
        self._drifted = False
        self.memory = memory

    @property
    def memory(self) -> Memory:
        """What is kept for back-propagation."""
        return self._memory

    @memory.setter
    def memory(self, memory: Memory) -> None:
        if memory not in get_args(Memory):
            raise ConfigError(
                f"memory: expected {', '.join(map(repr, get_args(Memory)))}, got {memory!r}"
            )
        inexact = next((t for t in self._leaves() if not t.exact_inverse), None)
        if memory == "reversible" and inexact is not None:
            raise ConfigError(
                f"memory='reversible': {type(inexact).__name__} has no exact inverse to rebuild "
                "its input with; use memory='checkpoint'"
            )
        self._memory: Memory = memory

    @property
    def exact_inverse(self) -> bool:
        """Whether all transforms have an exact inverse."""
        return all(transform.exact_inverse for transform in self)

    @property
    def repeatable(self) -> bool:
        """Whether all transforms are."""
        return all(transform.repeatable for transform in self)

    def __iter__(self) -> Iterator[Transform]:
        """Run through the transforms in order."""
        return iter(cast("Iterable[Transform]", self.transforms))

    def __len__(self) -> int:
        """Return the number of transforms."""
        return len(self.transforms)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transforms in order."""
        if self.memory != "plain" and torch.is_grad_enabled():
            return self._recomputed(list(self._leaves()), x, context)
        total = x.new_zeros(x.shape[0])
        for transform in self:
            x, ladj = transform(x, context)
            total = total + ladj
        return x, total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo the transforms, last first."""
        if self.memory != "plain" and torch.is_grad_enabled():
            stack: list[Transform] = [Inverse(transform) for transform in self._leaves()]
            return self._recomputed(stack[::-1], z, context)
        total = z.new_zeros(z.shape[0])
        for transform in reversed(list(self)):
            z, ladj = transform.inverse(z, context)
            total = total + ladj
        return z, total

    def _leaves(self) -> Iterator[Transform]:
        """Run through the transforms in order, those of nested compositions one by one."""
        for transform in self:
            if isinstance(transform, Compose):
                yield from transform._leaves()
            else:
                yield transform

    def _recomputed(
        self, stack: list[Transform], x: Tensor, context: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        every = ANCHOR_EVERY if self.memory == "reversible" else 1
        total = x.new_zeros(x.shape[0])
        for repeatable, part in groupby(stack, key=lambda transform: transform.repeatable):
            if repeatable:
                x, ladj = recomputed(
                    list(part), x, context, anchor_every=every, on_drift=self._warn_of_drift
                )
                total = total + ladj
                continue
            for transform in part:
                x, ladj = transform(x, context)
                total = total + ladj
        return x, total

    def _warn_of_drift(self, drift: float) -> None:
        if not self._drifted:
            warnings.warn(
                f"memory='reversible': inputs rebuilt by the inverse are off by {drift:.2g} "
                "(relative), so they are computed anew from the last one that was kept. Gradients "
                "are right, but take longer; memory='checkpoint' avoids the detour",
                DriftWarning,
                stacklevel=2,
            )
        self._drifted = True

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Initialize each transform on what the ones before it return."""
        with torch.no_grad():
            for transform in self:
                transform.initialize(x, context, y, weight)
                x, _ = transform(x, context)

    def finish(
        self,
        batches: Iterable[tuple[Tensor, Tensor | None]],
        weight: Tensor | None = None,
    ) -> None:
        """Finish each transform on what the ones before it return."""
        rows = list(batches)
        with torch.no_grad():
            for transform in self:
                transform.finish(rows, weight)
                rows = [(transform(x, context)[0], context) for x, context in rows]
