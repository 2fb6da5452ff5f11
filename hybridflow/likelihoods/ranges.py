"""Refusing targets that a family has no probability for."""

from __future__ import annotations

import warnings

from torch import Tensor

from hybridflow.errors import ConfigError, InputError, NonIntegerCountWarning
from hybridflow.specs import Target


def expect_one_output(target: Target) -> None:
    """Refuse a target of several outputs.

    Raises
    ------
    ConfigError
    """
    if len(target.names) != 1:
        raise ConfigError(
            f"this head predicts one output, got {len(target.names)}: {list(target.names)}"
        )


def refuse(y: Tensor, wrong: Tensor, needs: str, found: str, instead: str) -> None:
    """Raise if any value is wrong.

    Parameters
    ----------
    y, wrong : Tensor of shape (n,)
        Values, and which of them the family does not take.
    needs, found, instead : str
        What the family needs, what the wrong values are, and what to do.

    Raises
    ------
    InputError
        How many values are wrong, and the first of them.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.likelihoods.ranges import refuse
    >>> y = torch.tensor([2.0, -1.0])
    >>> refuse(y, y < 0, "Poisson needs y >= 0", "negative values", "remove them")
    Traceback (most recent call last):
    hybridflow.errors.InputError: Poisson needs y >= 0; 1 negative values, first at row 1 (-1): \
remove them
    """
    rows = wrong.nonzero()[:, 0]
    if len(rows):
        first = int(rows[0])
        raise InputError(
            f"{needs}; {len(rows)} {found}, first at row {first} ({y[first].item():g}): {instead}"
        )


def warn_of_broken_counts(y: Tensor, family: str) -> None:
    """Warn of counts that are not whole numbers.

    Warns
    -----
    NonIntegerCountWarning
        How many there are, and the first of them.
    """
    broken = (y != y.floor()).nonzero()[:, 0]
    if len(broken):
        first = int(broken[0])
        warnings.warn(
            f"{family} counts whole numbers; {len(broken)} values of y are not whole, first at "
            f"row {first} ({y[first].item():g}): they are scored by a quasi-likelihood",
            NonIntegerCountWarning,
            stacklevel=3,
        )
