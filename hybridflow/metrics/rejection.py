"""What is gained by leaving out the rows that a score rejects."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hybridflow.errors import InputError
from hybridflow.metrics.reading import Floats, vector


def risk_coverage_curve(losses: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Return the mean loss of the rows that are kept, for each number of them.

    Rows are rejected from the highest score down. Rows of equal score are
    kept in random order, and the expectation over that order is returned.

    Parameters
    ----------
    losses : array-like of shape (n,)
        Loss of each row: 0 and 1 for right and wrong, absolute or squared errors.
    scores : array-like of shape (n,)
        Rejection score of each row; may be infinite.

    Returns
    -------
    coverage : ndarray of shape (n,)
        Shares kept: 1/n, 2/n, ..., 1.
    risk : ndarray of shape (n,)
        In the units of the losses.

    Raises
    ------
    InputError
        If the lengths differ, or a loss is not finite or a score not a number.

    References
    ----------
    El-Yaniv, Wiener: "On the Foundations of Noise-free Selective
    Classification", 2010.

    Examples
    --------
    >>> from hybridflow.metrics import risk_coverage_curve
    >>> risk_coverage_curve([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8])[1].round(2)
    array([0.  , 0.  , 0.33, 0.5 ])
    """
    loss = vector(losses, "losses")
    if not np.isfinite(loss).all():
        raise InputError(f"losses must be finite, row {int((~np.isfinite(loss)).argmax())} is not")
    score = vector(scores, "scores", len(loss))
    _, group = np.unique(score, return_inverse=True)  # in order of the score
    mean = np.bincount(group, loss) / np.bincount(group)
    kept = np.arange(1, len(loss) + 1)
    return kept / len(loss), np.cumsum(mean[np.sort(group)]) / kept


def area_under_risk_coverage(losses: ArrayLike, scores: ArrayLike) -> float:
    r"""Return the mean over coverages of the risk: lower is better.

    .. math:: \mathrm{AURC} = \frac{1}{n} \sum_{k=1}^n \mathrm{risk}(k / n)

    Scores that tell nothing give the mean loss.

    Parameters
    ----------
    losses, scores : array-like of shape (n,)
        As in `risk_coverage_curve`.

    Returns
    -------
    float
        In the units of the losses.

    Raises
    ------
    InputError
        As `risk_coverage_curve`.

    References
    ----------
    Geifman, Uziel, El-Yaniv: "Bias-Reduced Uncertainty Estimation for Deep
    Neural Classifiers", 2019.

    Examples
    --------
    >>> from hybridflow.metrics import area_under_risk_coverage
    >>> area_under_risk_coverage([0, 1], [0.1, 0.9]), area_under_risk_coverage([0, 1], [0, 0])
    (0.25, 0.5)
    """
    return float(risk_coverage_curve(losses, scores)[1].mean())
