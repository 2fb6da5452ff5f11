"""The settings that all built-in heads share: which basis of z they are linear in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from hybridflow.config import Choice, Config, Float, Int, When
from hybridflow.specs import Event

if TYPE_CHECKING:
    from hybridflow.likelihoods.base import Likelihood
    from hybridflow.likelihoods.basis import Basis
    from hybridflow.likelihoods.head import GeneralizedLinear

_HIDDEN = When("basis", ("hidden",))


class BasisConfig(Config):
    """Base class of the built-in heads' settings.

    Parameters
    ----------
    basis : {"hidden", "identity"}, default="hidden"
        What eta is linear in: z and the context with hidden layers beside
        them, or z and the context alone.
    hidden_units : int, default=128
        Width of each hidden layer.
    hidden_layers : int, default=1
    dropout : float, default=0.1
        Share of each hidden layer that a training step leaves out; none where
        the table is too small for batches.

    Examples
    --------
    >>> from hybridflow.heads import BasisConfig
    >>> sorted(BasisConfig.space())
    ['basis', 'dropout', 'hidden_layers', 'hidden_units']
    """

    basis: Annotated[Literal["hidden", "identity"], Choice(("hidden", "identity"))] = "hidden"
    hidden_units: Annotated[int, Field(ge=1, le=65536), Int(32, 512, log=True), _HIDDEN] = 128
    hidden_layers: Annotated[int, Field(ge=1, le=8), Int(1, 3), _HIDDEN] = 1
    dropout: Annotated[float, Field(ge=0, lt=1), Float(0.0, 0.3), _HIDDEN] = 0.1


class CountConfig(BasisConfig):
    """Base class of the settings of heads for counts.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `BasisConfig`.
    exposure : str, optional
        Name of the column that holds how long, how often or among how many a
        row was counted: a positive number, to which the expected count is
        proportional. It is no feature then.

    Examples
    --------
    >>> from hybridflow.heads import CountConfig
    >>> CountConfig(exposure="days").exposure
    'days'
    """

    exposure: str | None = None


def generalized_linear(
    event: Event, likelihood: Likelihood, config: BasisConfig
) -> GeneralizedLinear:
    """Build the head with the basis that the settings name."""
    from hybridflow.likelihoods import GeneralizedLinear

    return GeneralizedLinear(basis_of(event, config), likelihood)


def basis_of(event: Event, config: BasisConfig) -> Basis:
    """Build the basis that the settings name."""
    from hybridflow.likelihoods import HiddenBasis, LinearBasis

    if config.basis == "identity":
        return LinearBasis(event)
    return HiddenBasis(event, config.hidden_units, config.hidden_layers, config.dropout)
