"""The contract of heads, and of the likelihoods they are made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from hybridflow.errors import InputError
from hybridflow.laws import Law


@dataclass(frozen=True)
class TargetBatch:
    """The targets of n rows: one type for labels, numbers, censored and partly missing y.

    Parameters
    ----------
    values : Tensor of shape (n, k)
        Class codes from 0 for labels, numbers in the units of y else; float64.
        What stands in a cell that is not observed is never read.
    observed : Tensor of shape (n, k)
        Boolean.
    lower, upper : Tensor of shape (n, k), optional
        Between which numbers each value lies: both are the value where it is
        known exactly, `upper` is infinite where it is censored from the right.
        Both or none are given; what stands in a cell that is not observed is
        never read. `values` then holds a finite number in between.
    offset : Tensor of shape (n,), optional
        Logarithm of the exposure of a count.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods import TargetBatch
    >>> targets = TargetBatch(torch.tensor([[2.0], [0.0]]), torch.tensor([[True], [False]]))
    >>> targets.labelled
    tensor([ True, False])
    """

    values: Tensor
    observed: Tensor
    lower: Tensor | None = None
    upper: Tensor | None = None
    offset: Tensor | None = None

    def __len__(self) -> int:
        return self.values.shape[0]

    def __getitem__(self, rows: Tensor | slice) -> TargetBatch:
        """Return the targets of some rows."""
        return self._each(lambda part: part[rows])

    def to(self, device: torch.device | str) -> TargetBatch:
        """Return the targets on another device."""
        return self._each(lambda part: part.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> TargetBatch:
        optional = (self.lower, self.upper, self.offset)
        rest = (None if part is None else change(part) for part in optional)
        return TargetBatch(change(self.values), change(self.observed), *rest)

    @property
    def labelled(self) -> Tensor:
        """Rows with at least one observed value, boolean of shape (n,)."""
        return self.observed.any(-1)

    @property
    def censored(self) -> Tensor:
        """Observed values that are known by their bounds only, boolean of shape (n, k)."""
        if self.lower is None or self.upper is None:
            return torch.zeros_like(self.observed)
        return self.observed & (self.lower < self.upper)

    def output(self, i: int) -> TargetBatch:
        """Return the targets of one of several outputs; an exposure stays."""
        only = replace(self, offset=None)._each(lambda part: part[:, i : i + 1])
        return replace(only, offset=self.offset)


class Head(nn.Module, ABC):
    """A generalized linear model on the latent, or on a basis of it.

    ``head(z, context, offset)`` returns the linear predictor eta, `nll` scores
    targets under it in the units of y, `law` turns it into a distribution.
    """

    takes_censored: bool = False
    """Whether `nll` reads the bounds of censored targets."""

    @abstractmethod
    def forward(
        self, z: Tensor, context: Tensor | None = None, offset: Tensor | None = None
    ) -> Tensor:
        """Return eta of shape (n, k)."""

    @abstractmethod
    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log p(y | eta) of shape (n,), nats, in the units of y; 0 where unlabelled."""

    @abstractmethod
    def law(self, eta: Tensor) -> Law:
        """Return what eta implies for y, in the units of y."""

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: TargetBatch | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Set data-dependent parameters, once, from all labelled training rows."""

    def finish(
        self,
        batches: Sequence[tuple[Tensor, Tensor | None, TargetBatch]],
        weight: Tensor | None = None,
    ) -> None:
        """Complete a trained head, such as with a posterior of its weights; by default not.

        Parameters
        ----------
        batches : sequence of (z, context, targets)
            All labelled training rows, in parts; z as `forward` takes it.
        weight : Tensor of shape (n,), optional
            Of all rows, in the order of the batches; a weight counts rows.
        """

    def check(self, targets: TargetBatch) -> None:
        """Raise for targets that the head cannot score; by default all are fine.

        Raises
        ------
        InputError
            Which values, and where.
        """


class Likelihood(nn.Module, ABC):
    """The random part of a generalized linear model: a family with its link.

    To write one, set `outputs` and define `nll` and `law`; `start` gives the
    eta of the model without features, from which training starts, and
    `initialize` the parameters that are not in eta. A family with a log link
    that counts exposure sets `takes_offset`; the first column of its eta is
    the logarithm of a rate, or `rates` says which columns are.
    """

    outputs: int
    """Width of eta."""

    takes_offset: bool = False
    """Whether the logarithm of an exposure may be added to eta."""

    rates: tuple[int, ...] = (0,)
    """Columns of eta that are logarithms of rates, which is where an exposure is added."""

    takes_censored: bool = False
    """Whether `nll` reads the bounds of censored targets."""

    @abstractmethod
    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        """Return -log p(y | eta) of shape (n,), in the units of y; 0 where unlabelled."""

    @abstractmethod
    def law(self, eta: Tensor) -> Law:
        """Return what eta implies for y, in the units of y."""

    @abstractmethod
    def start(self, targets: TargetBatch, weight: Tensor) -> Tensor:
        """Return the eta of shape (k,) that fits the targets without any feature."""

    def initialize(self, targets: TargetBatch, weight: Tensor) -> None:
        """Set the parameters that all rows share, such as a dispersion; by default none."""

    def check(self, targets: TargetBatch) -> None:
        """Raise for targets that the family cannot score; by default all are fine.

        Raises
        ------
        InputError
            Which values, and where.
        """


def refuse_censored(head: Head, targets: TargetBatch) -> None:
    """Raise if targets are censored and the head does not read their bounds.

    Raises
    ------
    InputError
        How many values are censored, and where the first one is.
    """
    censored = targets.censored.any(1).nonzero()[:, 0]
    if len(censored) and not head.takes_censored:
        raise InputError(
            f"y has {len(censored)} censored values, first at row {int(censored[0])}, which this "
            "head would take for known ones: use head='weibull' or head='log-normal'"
        )
