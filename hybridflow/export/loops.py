"""Loops that a graph can hold."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop


def repeated(
    goes_on: Callable[..., Tensor],
    turn: Callable[..., tuple[Tensor, ...]],
    start: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Return what some tensors become, turn after turn, while a statement holds.

    Parameters
    ----------
    goes_on : callable
        From the tensors to one boolean.
    turn : callable
        From the tensors to tensors of the same shapes. It may read other tensors that are
        local variables where it is defined; it makes none, and reads no attribute.
    start : tuple of Tensor

    Returns
    -------
    tuple of Tensor

    Examples
    --------
    >>> import torch
    >>> from hybridflow.export.loops import repeated
    >>> repeated(lambda x: (x < 50).any(), lambda x: (2 * x,), (torch.ones(1),))
    (tensor([64.]),)
    """
    found: tuple[Tensor, ...] = while_loop(goes_on, turn, start)  # type: ignore[no-untyped-call]  # torch has no types
    return found
