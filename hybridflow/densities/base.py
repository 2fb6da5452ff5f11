"""The contract of base distributions: the distribution of the latent z."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Base(nn.Module, ABC):
    """A distribution on latent rows with an exact density and exact sampling.

    To write one, define `log_prob` and `sample`. `log_prob` returns nats, one
    number per row; rows must not influence each other.
    """

    @abstractmethod
    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the log-density of each row.

        Parameters
        ----------
        z : Tensor of shape (n, d)
        context : Tensor of shape (n, c), optional

        Returns
        -------
        Tensor of shape (n,)
            Nats.
        """

    @abstractmethod
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows.

        Parameters
        ----------
        n : int
        context : Tensor of shape (n, c), optional
        generator : torch.Generator, optional
            The only source of randomness; the global one if not given.

        Returns
        -------
        Tensor of shape (n, d)
        """

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Set data-dependent parameters, once, from all training rows."""
