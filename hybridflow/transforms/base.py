"""The contract of invertible modules, and the three ways to combine them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import cast

import torch
from torch import Tensor, nn


class Transform(nn.Module, ABC):
    r"""An invertible module with a log-determinant.

    `forward` goes from data to latent, `inverse` comes back; the direction is
    never flipped by a flag. Both return ``ladj``, the logarithm of the
    absolute Jacobian determinant *of the direction called*, so for
    ``z, ladj = t(x)`` the density of x under a base density :math:`p_Z` is

    .. math:: \log p(x) = \log p_Z(z) + \mathrm{ladj}.

    To write one, define `forward` and `inverse` as plain tensor operations on
    ``x`` of shape (n, d) and an optional ``context`` of shape (n, c). Rows
    must not influence each other, the input must not be changed in place, and
    no global state may be touched. Override `initialize` for a data-dependent
    start and `finish` for what is computed once after training.
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to latent.

        Parameters
        ----------
        x : Tensor of shape (n, d)
        context : Tensor of shape (n, c), optional

        Returns
        -------
        z : Tensor of shape (n, d)
        ladj : Tensor of shape (n,)
            :math:`\\log|\\det \\partial z/\\partial x|` in nats.
        """

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map latent to data.

        Parameters
        ----------
        z : Tensor of shape (n, d)
        context : Tensor of shape (n, c), optional

        Returns
        -------
        x : Tensor of shape (n, d)
        ladj : Tensor of shape (n,)
            :math:`\\log|\\det \\partial x/\\partial z|` in nats.
        """

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Set data-dependent parameters, once, from all training rows.

        Statistics take the weights and do not change when a row is repeated
        instead of weighted. By default nothing happens.
        """

    def finish(
        self,
        batches: Iterable[tuple[Tensor, Tensor | None]],
        weight: Tensor | None = None,
    ) -> None:
        """Compute what needs the trained parameters, once, after training.

        Parameters
        ----------
        batches : iterable of (x, context)
            Runs over all training rows, in order.
        weight : Tensor of shape (n,), optional
        """


class Identity(Transform):
    """The map that changes nothing.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Identity
    >>> z, ladj = Identity()(torch.ones(2, 3))
    >>> ladj
    tensor([0., 0.])
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return x and zeros."""
        return x, x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return z and zeros."""
        return z, z.new_zeros(z.shape[0])


class Compose(Transform):
    r"""Transforms applied one after the other, from data to latent.

    .. math:: z = t_k(\dots t_2(t_1(x))), \qquad
        \mathrm{ladj} = \sum_i \mathrm{ladj}_i.

    Parameters
    ----------
    transforms : iterable of Transform
        In the order in which `forward` applies them.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Compose, Identity
    >>> Compose([Identity(), Identity()])(torch.ones(1, 2))[0]
    tensor([[1., 1.]])
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def __iter__(self) -> Iterator[Transform]:
        """Run through the transforms in order."""
        return iter(cast("Iterable[Transform]", self.transforms))

    def __len__(self) -> int:
        """Return the number of transforms."""
        return len(self.transforms)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the transforms in order."""
        total = x.new_zeros(x.shape[0])
        for transform in self:
            x, ladj = transform(x, context)
            total = total + ladj
        return x, total

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo the transforms, last first."""
        total = z.new_zeros(z.shape[0])
        for transform in reversed(list(self)):
            z, ladj = transform.inverse(z, context)
            total = total + ladj
        return z, total

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


class Inverse(Transform):
    """A transform with its two directions exchanged.

    Parameters
    ----------
    transform : Transform

    Examples
    --------
    >>> import torch
    >>> from hybridflow.transforms import Identity, Inverse
    >>> Inverse(Identity()).inverse(torch.ones(1, 2))[0]
    tensor([[1., 1.]])
    """

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the inverse of the wrapped transform."""
        return self.transform.inverse(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the wrapped transform."""
        z, ladj = self.transform(z, context)
        return z, ladj
