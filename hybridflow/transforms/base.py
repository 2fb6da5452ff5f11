"""The contract of invertible modules, the identity, and the exchange of directions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

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

    @property
    def exact_inverse(self) -> bool:
        """Whether `inverse` is exact to rounding; override where it iterates or is missing."""
        return True

    @property
    def repeatable(self) -> bool:
        """Whether `forward` with and without gradients, and a second time, gives the same.

        Override it where a pass in training learns from its batch.
        """
        return True

    def rebuild(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Find the input behind an output, and record the way back to the output.

        What back-propagation needs of a transform whose activations were not
        kept. Override it where `inverse` and `forward` share an expensive
        part, such as the parameters of a coupling.

        Parameters
        ----------
        z : Tensor of shape (n, d)
        context : Tensor of shape (n, c), optional

        Returns
        -------
        x : Tensor of shape (n, d)
            A leaf of the graph that requires its gradient.
        z : Tensor of shape (n, d)
        ladj : Tensor of shape (n,)
            What `forward` returns for x, recorded for differentiation.
        """
        with torch.no_grad():
            x, _ = self.inverse(z, context)
        x = x.detach().requires_grad_()
        again, ladj = self(x, context)
        return x, again, ladj

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

    @property
    def exact_inverse(self) -> bool:
        """Whether the wrapped transform's `forward` is exact: it always is."""
        return True

    @property
    def repeatable(self) -> bool:
        """Whether the wrapped transform is."""
        return self.transform.repeatable

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the inverse of the wrapped transform."""
        return self.transform.inverse(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the wrapped transform."""
        z, ladj = self.transform(z, context)
        return z, ladj
