"""Prediction sets: the classes that are probable enough, at a threshold that was calibrated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hybridflow.calibration.conformal import Conformal
from hybridflow.laws import Floats

# A held-out row that comes again is inside whatever rounding does to its probabilities.
_SLACK = 1e-9


def prediction_set(
    probabilities: Sequence[Floats], scores: Conformal, coverage: float
) -> NDArray[np.bool_]:
    r"""Return which classes each row may be of.

    The score of a class is its probability, so that the set is

    .. math:: \{k : p_k \ge \tau\}

    with one calibrated threshold for all rows (least ambiguous sets). No
    other sets of this coverage have fewer classes on average if the
    probabilities are right. A row may have none: where the model is right more
    often than was asked for, what is dropped are its least certain rows.

    Parameters
    ----------
    probabilities : sequence of ndarray of shape (n, k)
        Those of the same rows by the members of each fold; if there is no
        fold, any.
    scores : Conformal
        Probabilities of the true class of held-out rows.
    coverage : float
        Between 0 and 1.

    Returns
    -------
    ndarray of bool of shape (n, k)
        All True where `scores` has too few rows.

    References
    ----------
    Sadinle, Lei, Wasserman: "Least Ambiguous Set-Valued Classifiers With
    Bounded Error Levels", 2019.
    Romano, Sesia, Candès: "Classification with Valid and Adaptive Coverage", 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow.calibration import Conformal, Fold, prediction_set
    >>> held = Fold.of((0,), [0.2, 0.5, 0.8, 0.9], [1, 1, 1, 1])
    >>> new = np.array([[0.6, 0.3, 0.1], [0.45, 0.4, 0.15]])
    >>> prediction_set([new], Conformal(folds=(held,)), 0.6)
    array([[ True, False, False],
           [False, False, False]])
    """
    if not scores.is_enough(coverage):
        return np.ones(np.shape(probabilities[0]), dtype=bool)
    widened = [each * (1 + _SLACK) for each in probabilities]
    return np.asarray(scores.p_value(widened) > scores.level(coverage))
