"""Rows given y, by rejection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from hybridflow.errors import InputError

_MOST_PROPOSALS = 10_000_000


def sample_given(
    propose: Callable[[int, np.random.RandomState], torch.Tensor],
    log_likelihood: Callable[[torch.Tensor], NDArray[np.float64]],
    n_samples: int,
    rng: np.random.RandomState,
    *,
    bound: float | None,
) -> torch.Tensor:
    r"""Draw from p(x | y), proportional to p(x) p(y | x), with proposals from p(x).

    A proposal is kept with probability :math:`p(y \mid x) / c`. With a bound
    :math:`p(y \mid x) \le c` the draws are exact. A density has none: then c is
    the largest value met so far and the draws kept under a smaller one are
    thinned, which is exact in the limit of many proposals.

    Parameters
    ----------
    propose : callable
        ``propose(n, rng)`` draws n rows from p(x).
    log_likelihood : callable
        log p(y | x) of rows, for the given y.
    n_samples : int
    rng : numpy.random.RandomState
    bound : float or None
        log c; None if p(y | x) is a density.

    Returns
    -------
    Tensor of shape (n_samples, D)

    Raises
    ------
    InputError
        If y is so improbable that ten million proposals do not suffice.

    References
    ----------
    Caffo, Booth, Davis: "Empirical supremum rejection sampling", 2002.
    """
    kept: list[torch.Tensor] = []
    count, proposals = 0, 0
    log_c = -np.inf if bound is None else bound
    batch = max(1000, n_samples)
    burn_in = 0 if bound is not None else min(10 * batch, _MOST_PROPOSALS)
    while count < n_samples or proposals < burn_in:
        if count < n_samples and proposals >= max(_MOST_PROPOSALS, 100 * n_samples):
            raise InputError(
                f"y is too improbable under the model: {count} of {proposals} proposals fit it, "
                f"{n_samples} were asked for"
            )
        rows = propose(batch, rng)
        value = log_likelihood(rows)
        proposals += len(rows)
        if value.max() == -np.inf:
            continue
        if bound is None and value.max() > log_c:
            thin = np.exp(log_c - value.max())
            kept = [part[torch.as_tensor(rng.random_sample(len(part)) < thin)] for part in kept]
            log_c = float(value.max())
        accept = np.log(rng.random_sample(len(rows))) < value - log_c
        kept.append(rows[torch.as_tensor(accept)])
        count = sum(len(part) for part in kept)
    return torch.cat(kept)[:n_samples] if kept else propose(0, rng)
