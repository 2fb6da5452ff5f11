"""A limit on the tensors that building a model may allocate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hybridflow.errors import ResourceLimitError

_ITEM_BYTES = 8


class AllocationLimit(TorchDispatchMode):
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
        super().__init__()
        self.limit = limit
        self.taken = 0

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
            results = result if isinstance(result, tuple | list) else (result,)
            self.taken += sum(part.nbytes for part in results if isinstance(part, Tensor))
            self._check(0)
        return result

    def _check(self, more: int) -> None:
        if self.taken + more > self.limit:
            raise ResourceLimitError(f"building the model takes more than {self.limit} bytes")


def _requested(func: Any, args: Sequence[Any]) -> int:
    """Return a bound on the bytes that a call names: a size, a length, an end of a range."""
    for argument, value in zip(func._schema.arguments, args, strict=False):
        if argument.name == "size" and isinstance(value, list | tuple):
            return math.prod(int(length) for length in value) * _ITEM_BYTES
        if argument.name in ("n", "steps", "end") and isinstance(value, int):
            return value * _ITEM_BYTES
    return 0
