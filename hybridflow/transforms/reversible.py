"""Back-propagation through a stack of transforms that keeps few activations.

Only some inputs are kept, the *anchors*. On the way back the input of each
transform between two anchors is rebuilt by the inverse; its graph is recorded,
used and dropped before the next one is. With an anchor at every transform
nothing is rebuilt: that is plain checkpointing.

What was rebuilt meets the truth at each anchor. Where the two differ by more
than a gradient can bear, the gradients in between are thrown away and computed
anew from the anchor, so they are never silently wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hybridflow.transforms.base import Transform

ANCHOR_EVERY = 8
"""Transforms from one anchor to the next."""

# Largest error of a rebuilt row, relative to max(1, its largest entry). The gradient is off by
# about as much; in float32 plain back-propagation through a deep spline stack is too.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}


def recomputed(
    transforms: Sequence[Transform],
    x: Tensor,
    context: Tensor | None,
    *,
    anchor_every: int,
    on_drift: Callable[[float], None],
) -> tuple[Tensor, Tensor]:
    """Apply transforms in order, keeping one input in `anchor_every` for the gradient.

    Differentiable once, with respect to x, the context and the parameters.
    What a transform drew from torch's random state it draws again.

    Parameters
    ----------
    transforms : sequence of Transform
        With exact inverses, unless `anchor_every` is 1.
    x : Tensor of shape (n, d)
    context : Tensor of shape (n, c) or None
    anchor_every : int
        1 keeps the input of each transform and rebuilds none.
    on_drift : callable
        Called with the error of rebuilt inputs where it was too large.

    Returns
    -------
    z : Tensor of shape (n, d)
    ladj : Tensor of shape (n,)

    References
    ----------
    Aidan Gomez, Mengye Ren, Raquel Urtasun, Roger Grosse. The Reversible
    Residual Network: Backpropagation Without Storing Activations. 2017.
    """
    stack = _Stack(transforms, anchor_every, on_drift)
    z, ladj = _Recomputed.apply(stack, x, context, *stack.parameters)  # type: ignore[no-untyped-call]  # torch has no types
    return z, ladj


class _Stack:
    """Transforms, their distinct parameters, and the random states that they began with."""

    def __init__(
        self,
        transforms: Sequence[Transform],
        anchor_every: int,
        on_drift: Callable[[float], None],
    ) -> None:
        self.transforms = transforms
        self.anchor_every = anchor_every
        self.on_drift = on_drift
        self.trained = [[p for p in t.parameters() if p.requires_grad] for t in transforms]
        self.parameters = list(dict.fromkeys(p for own in self.trained for p in own))
        self.random: list[_RandomState | None] = []

    def segments(self) -> Iterator[range]:
        """Run through the stretches from anchor to anchor, last first."""
        count = len(self.transforms)
        for start in reversed(range(0, count, self.anchor_every)):
            yield range(start, min(start + self.anchor_every, count))

    def again(self, index: int, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Apply a transform as it was applied before, with the same random numbers."""
        with _replayed(self.random[index]):
            z, ladj = self.transforms[index](x, context)
        return z, ladj


class _Recomputed(torch.autograd.Function):
    """A stack as one node of the graph."""

    @staticmethod
    def forward(
        ctx: Any, stack: _Stack, x: Tensor, context: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Apply the transforms, recording nothing."""
        anchors, total = [], x.new_zeros(x.shape[0])
        for index, transform in enumerate(stack.transforms):
            if index % stack.anchor_every == 0:
                anchors.append(x)
            before = _RandomState(x.device)
            x, ladj = transform(x, context)
            stack.random.append(before if before.has_changed() else None)
            total = total + ladj
        ctx.stack = stack
        # The parameters only so that autograd notices if one is changed before the way back.
        ctx.save_for_backward(x, context, *anchors, *parameters)
        return x, total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_z: Tensor, grad_ladj: Tensor) -> tuple[Tensor | None, ...]:
        """Go back segment by segment, from one true input to the next."""
        stack: _Stack = ctx.stack
        _, needs_x, needs_context, *_ = ctx.needs_input_grad
        z, context, *kept = ctx.saved_tensors
        anchors = kept[: len(kept) - len(stack.parameters)]
        if context is not None:
            context = context.detach().requires_grad_(needs_context)
        total = _WayBack(stack, context, grad_ladj)
        with torch.enable_grad():
            for segment in stack.segments():
                anchor = anchors.pop().detach().requires_grad_(needs_x or segment.start > 0)
                part = _WayBack(stack, context, grad_ladj)
                grad_anchor, drift = part.by_rebuilding(segment, anchor, z, grad_z)
                if drift > _TOLERANCE.get(anchor.dtype, _TOLERANCE[torch.float32]):
                    stack.on_drift(drift)
                    part = _WayBack(stack, context, grad_ladj)
                    grad_anchor = part.by_recomputing(segment, anchor, grad_z)
                total.add(part.gradients.items())
                z, grad_z = anchor.detach(), grad_anchor
        wanted = (context, *stack.parameters)
        return None, grad_z if needs_x else None, *(total.gradients.get(t) for t in wanted)


class _WayBack:
    """Back-propagation one transform at a time, and the gradients that it gathers."""

    def __init__(self, stack: _Stack, context: Tensor | None, grad_ladj: Tensor) -> None:
        self.stack = stack
        self.context = context
        self.grad_ladj = grad_ladj
        self.gradients: dict[Tensor | None, Tensor] = {}

    def add(self, gradients: Iterable[tuple[Tensor | None, Tensor]]) -> None:
        """Add gradients to those of the same tensors."""
        for tensor, gradient in gradients:
            before = self.gradients.get(tensor)
            self.gradients[tensor] = gradient if before is None else before + gradient

    def by_rebuilding(
        self, segment: range, anchor: Tensor, z: Tensor, grad_z: Tensor
    ) -> tuple[Tensor, float]:
        """Go back from the output z by inverses; return the anchor's gradient and the drift.

        The first transform starts from the anchor itself: what it returns is
        the truth that the last rebuilt input is compared with.
        """
        for index in reversed(segment[1:]):
            with _replayed(self.stack.random[index]):
                x, again, ladj = self.stack.transforms[index].rebuild(z, self.context)
            grad_z = self._through(index, x, again, ladj, grad_z)
            z = x.detach()
        again, ladj = self.stack.again(segment.start, anchor, self.context)
        drift = _drift(z, again.detach()) if len(segment) > 1 else 0.0
        return self._through(segment.start, anchor, again, ladj, grad_z), drift

    def by_recomputing(self, segment: range, anchor: Tensor, grad_z: Tensor) -> Tensor:
        """Go from the anchor to the output again, then back; return the anchor's gradient."""
        inputs = [anchor]
        with torch.no_grad():
            for index in segment[:-1]:
                z, _ = self.stack.again(index, inputs[-1], self.context)
                inputs.append(z.detach().requires_grad_())
        for index in reversed(segment):
            x = inputs.pop()
            grad_z = self._through(index, x, *self.stack.again(index, x, self.context), grad_z)
        return grad_z

    def _through(self, index: int, x: Tensor, z: Tensor, ladj: Tensor, grad_z: Tensor) -> Tensor:
        """Gather the gradients of one transform and return that of its input."""
        outputs = [(z, grad_z), (ladj, self.grad_ladj.to(ladj.dtype))]
        outputs = [(output, gradient) for output, gradient in outputs if output.requires_grad]
        inputs = [x, *self.stack.trained[index]]
        if self.context is not None:
            inputs.append(self.context)
        inputs = [tensor for tensor in inputs if tensor.requires_grad]
        if not (inputs and outputs):
            return torch.zeros_like(x)
        found = torch.autograd.grad(
            [output for output, _ in outputs],
            inputs,
            [gradient for _, gradient in outputs],
            allow_unused=True,
        )
        pairs = {t: g for t, g in zip(inputs, found, strict=True) if g is not None}
        grad_x = pairs.pop(x, None)
        self.add(pairs.items())
        return torch.zeros_like(x) if grad_x is None else grad_x


def _drift(rebuilt: Tensor, true: Tensor) -> float:
    """Return the largest error of a row, relative to max(1, its largest entry)."""
    error = (rebuilt - true).abs().amax(1) / true.abs().amax(1).clamp(min=1)
    # A row that was lost on the way there cannot drift; one that is lost on the way back has.
    error = error.nan_to_num(nan=math.inf)[true.isfinite().all(1)]
    return error.max().item() if len(error) else 0.0


class _RandomState:
    """Torch's random state, on the CPU and on the device of the rows."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.states = self._now()

    def _now(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self.device.type != "cpu":
            states.append(torch.get_device_module(self.device).get_rng_state(self.device))
        return states

    def has_changed(self) -> bool:
        """Return whether random numbers were drawn since."""
        return not all(map(torch.equal, self.states, self._now()))

    def restore(self) -> None:
        """Make the random numbers that follow those that followed then."""
        torch.set_rng_state(self.states[0])
        if self.device.type != "cpu":
            torch.get_device_module(self.device).set_rng_state(self.states[1], self.device)


@contextmanager
def _replayed(state: _RandomState | None) -> Iterator[None]:
    """Draw the random numbers that followed a state, and leave the present one as it is."""
    if state is None:
        yield
        return
    present = _RandomState(state.device)
    state.restore()
    try:
        yield
    finally:
        present.restore()
