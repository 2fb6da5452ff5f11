"""The contract of base distributions: the distribution of the latent z."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hybridflow.errors import ConfigError


class Base(nn.Module, ABC):
    """A distribution on latent rows with an exact density and exact sampling.

    To write one, define `log_prob` and `sample`, and `rsample` if the draws can
    be differentiated. `log_prob` returns nats, one number per row; rows must not
    influence each other.
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

    def rsample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw rows that carry gradients to the parameters and the context.

        For smooth g, the gradient of the mean of g over the rows is an unbiased
        estimate of the gradient of :math:`E[g(z)]`. The rows themselves are
        distributed as those of `sample`.

        Parameters
        ----------
        n : int
        context : Tensor of shape (n, c), optional
        generator : torch.Generator, optional
            The only source of randomness; the global one if not given.

        Returns
        -------
        Tensor of shape (n, d)

        Raises
        ------
        ConfigError
            If the base has no differentiable draws.
        """
        raise ConfigError(
            f"base {type(self).__name__}: has no draws with gradients; define its rsample, "
            "or use sample, whose draws have none"
        )

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        """Set data-dependent parameters, once, from all training rows."""
