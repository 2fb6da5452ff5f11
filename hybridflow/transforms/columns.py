"""A transform that acts on some columns and leaves the others as they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from hybridflow.errors import ConfigError
from hybridflow.transforms.base import Transform


class OnColumns(Transform):
    """Apply a transform to some of the columns.

    Parameters
    ----------
    transform : Transform
        Of rows as wide as there are chosen columns.
    columns : sequence of int
        Positions of the chosen columns, in the order in which it takes them.
    features : int
        Width of the rows.

    Raises
    ------
    ConfigError
        If a position is repeated or not one of a row.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import OnColumns, Permutation
    >>> swap = OnColumns(Permutation.reverse(2), columns=[0, 2], features=3)
    >>> swap(torch.tensor([[1.0, 2.0, 3.0]]))[0]
    tensor([[3., 2., 1.]])
    """

    chosen: Tensor
    rest: Tensor
    restore: Tensor

    def __init__(self, transform: Transform, columns: Sequence[int], features: int) -> None:
        super().__init__()
        rest = [i for i in range(features) if i not in columns]
        if len(rest) + len(columns) != features:
            raise ConfigError(
                f"columns: expected different positions below {features}, got {tuple(columns)}"
            )
        self.transform = transform
        # Indices rather than boolean masks: shapes stay static, which export needs.
        order = torch.tensor([*rest, *columns], dtype=torch.int64)
        self.register_buffer("rest", order[: len(rest)].clone(), persistent=False)
        self.register_buffer("chosen", order[len(rest) :].clone(), persistent=False)
        self.register_buffer("restore", torch.argsort(order), persistent=False)

    @property
    def exact_inverse(self) -> bool:
        """Whether that of the transform is."""
        return self.transform.exact_inverse

    @property
    def repeatable(self) -> bool:
        """Whether the transform is."""
        return self.transform.repeatable

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transform to the chosen columns."""
        part, ladj = self.transform(x.index_select(1, self.chosen), context)
        return self._join(x, part), ladj

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo the transform on the chosen columns."""
        part, ladj = self.transform.inverse(z.index_select(1, self.chosen), context)
        return self._join(z, part), ladj

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Initialize the transform on the chosen columns."""
        self.transform.initialize(x.index_select(1, self.chosen), context, y, weight)

    def finish(
        self,
        batches: Iterable[tuple[Tensor, Tensor | None]],
        weight: Tensor | None = None,
    ) -> None:
        """Finish the transform on the chosen columns."""
        rows = ((x.index_select(1, self.chosen), context) for x, context in batches)
        self.transform.finish(rows, weight)

    def _join(self, rows: Tensor, part: Tensor) -> Tensor:
        return torch.cat([rows.index_select(1, self.rest), part], 1).index_select(1, self.restore)
