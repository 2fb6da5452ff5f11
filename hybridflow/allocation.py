"""A limit on the tensors that building a model may allocate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hybridflow.errors import ResourceLimitError

_LARGEST_ITEM = 8


class AllocationLimit(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raise before tensors created in this context exceed a number of bytes.

    What a saved description declares is not known to be sane before the model
    is built, and a description of a few bytes may ask for any amount of
    memory. Every tensor that is created counts, also if it is dropped again.

    Parameters
    ----------
    limit : int
        Bytes, over all tensors created inside.

    Raises
    ------
    ResourceLimitError
        Before the allocation that goes beyond the limit, as far as its size is
        an argument of the call; after it else.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.allocation import AllocationLimit
    >>> with AllocationLimit(1000):
    ...     torch.nn.Linear(10**6, 10**6)
    Traceback (most recent call last):
        ...
    hybridflow.errors.ResourceLimitError: building the model takes more than 1000 bytes
    """

    def __init__(self, limit: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.limit = limit
        self.taken = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from wrapping this in its compiler, a second of imports."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation of torch, counting what it creates."""
        creates = all(result.alias_info is None for result in func._schema.returns)
        if creates:
            self._check(_requested(func, args))
        result = func(*args, **(kwargs or {}))
        if creates:
            self.taken += _bytes(result)
            self._check(0)
        return result

    def _check(self, more: int) -> None:
        if self.taken + more > self.limit:
            raise ResourceLimitError(f"building the model takes more than {self.limit} bytes")


def _requested(func: Any, args: Sequence[Any]) -> int:
    """Return a bound on the bytes that a call asks for, 0 where its arguments do not say."""
    names = [argument.name for argument in func._schema.arguments]
    named = dict(zip(names, args, strict=False))
    if isinstance(named.get("size"), list | tuple):
        return math.prod(int(length) for length in named["size"]) * _LARGEST_ITEM
    for name in ("n", "steps", "end"):
        if isinstance(length := named.get(name), int):
            width = named.get("m", length) if func.overloadpacket is torch.ops.aten.eye else 1
            return int(length * width) * _LARGEST_ITEM
    return 0


def _bytes(result: Any) -> int:
    results = result if isinstance(result, tuple | list) else (result,)
    return sum(part.nbytes for part in results if isinstance(part, Tensor))
