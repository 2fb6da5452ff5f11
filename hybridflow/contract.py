"""What a built flow must do, checked before anything is trained."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridflow.errors import PluginContractError
from hybridflow.specs import Event
from hybridflow.transforms.base import Transform


def check_contract(flow: Transform, event: Event, name: str, z: Tensor) -> None:
    """Raise unless a built flow keeps the contract of shapes, types and devices.

    Parameters
    ----------
    flow : Transform
    event : Event
    name : str
        What to call the flow in the message.
    z : Tensor of shape (n, D)
        Rows to try it on.

    Raises
    ------
    PluginContractError
        Naming the flow, what was expected and what it returned.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.contract import check_contract
    >>> from hybridflow.specs import Event
    >>> from hybridflow.transforms import Identity
    >>> check_contract(Identity(), Event.real(2), "nothing", torch.zeros(5, 2))
    """
    for direction in (flow.forward, flow.inverse):
        title = f"flow {name!r}: {direction.__name__}"
        context = z.new_zeros(len(z), event.context_features) if event.context_features else None
        before = z.clone()
        with torch.no_grad():
            try:
                result = direction(z, context)
            except NotImplementedError:
                continue  # its spec says so; whoever needs the inverse gets that error
        if not (isinstance(result, tuple) and len(result) == 2):
            raise PluginContractError(
                f"{title} must return (Tensor, ladj), returned {type(result).__name__}"
            )
        for what, tensor, shape in zip(
            ("its rows", "ladj"), result, (z.shape, z.shape[:1]), strict=True
        ):
            expected = (tuple(shape), z.dtype, z.device)
            seen = (
                (tuple(tensor.shape), tensor.dtype, tensor.device)
                if isinstance(tensor, Tensor)
                else None
            )
            if seen != expected:
                found = type(tensor).__name__ if seen is None else _described(*seen)
                raise PluginContractError(
                    f"{title} must return {what} of {_described(*expected)}, got {found}"
                )
        if not torch.equal(before, z):
            raise PluginContractError(f"{title} changed its input in place")


def _described(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> str:
    return f"shape {shape} and {dtype} on {device}"
