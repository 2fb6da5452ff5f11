"""Conformal p-values: how a new row ranks among rows that were held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from hybridflow.config import Config
from hybridflow.errors import ConfigError

Floats = NDArray[np.float64]

# So that rounding lifts no product of a share and a count to the next whole number.
_ROUNDING = 1e-12


class Fold(Config):
    """Held-out rows and how well each fits the members that were not trained on it.

    Parameters
    ----------
    members : tuple of int
        Positions of these members, whose laws are mixed.
    scores : tuple of float
        Conformity of each row, ascending: the lower, the stranger.
    weights : tuple of float, default=()
        How many rows each counts for; empty where each counts once.

    Examples
    --------
    >>> from hybridflow.calibration import Fold
    >>> Fold.of((0,), [0.3, 0.1, 0.2], [1, 1, 1])
    Fold(members=(0,), scores=(0.1, 0.2, 0.3), weights=())
    """

    members: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
    scores: tuple[float, ...] = ()
    weights: tuple[Annotated[float, Field(gt=0)], ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.weights and len(self.weights) != len(self.scores):
            raise ValueError(f"{len(self.weights)} weights for {len(self.scores)} scores")
        if (np.diff(self.scores) < 0).any():
            raise ValueError("scores must ascend")
        return self

    @classmethod
    def of(cls, members: Sequence[int], scores: ArrayLike, weights: ArrayLike) -> Self:
        """Return the fold of rows in any order; those of weight 0 are left out."""
        values, counts = np.asarray(scores, dtype=np.float64), np.asarray(weights, dtype=np.float64)
        order = np.argsort(values, kind="stable")
        order = order[counts[order] > 0]
        counts = counts[order]
        return cls(
            members=tuple(int(member) for member in members),
            scores=tuple(values[order].tolist()),
            weights=() if (counts == 1).all() else tuple(counts.tolist()),
        )

    @property
    def counts(self) -> Floats:
        """Rows that each score counts for."""
        return np.asarray(self.weights) if self.weights else np.ones(len(self.scores))

    @property
    def steps(self) -> tuple[Floats, Floats]:
        """The scores, and how many rows there are below each of them and in all."""
        return np.asarray(self.scores), np.concatenate([[0.0], np.cumsum(self.counts)])

    def mass(self, values: ArrayLike) -> Floats:
        """Return how many rows conform no better than each of some values."""
        scores, below = self.steps
        return np.asarray(below[np.searchsorted(scores, values, side="right")])


class Conformal(Config):
    r"""Scores of held-out rows, against which those of new rows are ranked.

    With scores :math:`s_i` of rows of weight :math:`w_i`, :math:`W = \sum_i
    w_i`, and s the score of a candidate y of a new row,

    .. math:: p(y) = \frac{1 + \sum_i w_i\, 1[s_i \le s(y)]}{W + 1},

    and y is predicted with coverage c if :math:`p(y) > 1 - c`. With weights 1
    this is the rank :math:`\lceil (W + 1)\,c \rceil` from above. Where rows are
    exchangeable and no member has seen the held-out ones, y is covered with
    probability c at least, and with 1 / (W + 1) more at most if no scores tie.

    With several folds each row is compared under the members that were not
    trained on it (CV+, cross-conformal prediction): coverage is about c in
    practice; guaranteed is 2 c - 1, up to a term that vanishes as W grows.

    Parameters
    ----------
    folds : tuple of Fold, default=()

    Notes
    -----
    A weight that is a whole number is a row repeated. Other weights make the
    new row one of mean weight, which is exact only if weights and scores are
    independent. Coverage is over new rows and over draws of the held-out
    ones: given those it is Beta(k, W + 1 - k) with k the rank, with a standard
    deviation of 0.03 for W = 100 and c = 0.9.

    References
    ----------
    Vovk, Gammerman, Shafer: "Algorithmic Learning in a Random World", 2005.
    Barber, Candès, Ramdas, Tibshirani: "Predictive Inference with the
    Jackknife+", 2021.

    Examples
    --------
    >>> from hybridflow.calibration import Conformal, Fold
    >>> scores = Conformal(folds=(Fold(members=(0,), scores=(0.1, 0.2, 0.3, 0.4)),))
    >>> scores.p_value([[0.05, 0.2, 0.5]])
    array([0.2, 0.6, 1. ])
    """

    folds: tuple[Fold, ...] = ()

    @property
    def rows(self) -> float:
        """Held-out rows, by weight."""
        return float(sum(fold.steps[1][-1] for fold in self.folds))

    def p_value(self, conformity: Sequence[ArrayLike]) -> Floats:
        """Return the p-value of candidates.

        Parameters
        ----------
        conformity : sequence of array-like
            Scores of the candidates under the members of each fold, all of one shape.

        Returns
        -------
        ndarray of that shape
        """
        mass = sum(fold.mass(values) for fold, values in zip(self.folds, conformity, strict=True))
        return np.asarray((1 + mass) / (self.rows + 1), dtype=np.float64)

    def level(self, coverage: float) -> float:
        """Return what the p-value of a candidate must exceed to be predicted."""
        return (1 - coverage) * (1 + _ROUNDING)

    def is_enough(self, coverage: float) -> bool:
        """Say whether there are rows enough to refuse any candidate at this coverage."""
        return self.rows + 1 >= (1 - _ROUNDING) / (1 - coverage)

    def threshold(self, coverage: float) -> float:
        """Return the lowest score among all rows whose p-value exceeds the level.

        Where there are too few rows, so that every candidate is predicted, it
        is minus infinity.
        """
        if not self.is_enough(coverage):
            return -math.inf
        pooled = np.concatenate([fold.steps[0] for fold in self.folds])
        counts = np.concatenate([fold.counts for fold in self.folds])
        order = np.argsort(pooled, kind="stable")
        p_values = (1 + np.cumsum(counts[order])) / (self.rows + 1)
        found = int(np.searchsorted(p_values, self.level(coverage), side="right"))
        return float(pooled[order][found])


class Calibration(Config):
    """What an estimator learned from rows that were held out.

    Parameters
    ----------
    temperature : float, default=1
        Divides the log-probabilities of classes.
    outputs : tuple of Conformal, default=()
        Scores of the held-out rows, for each output.
    unseen : bool, default=False
        Whether no member has seen these rows; else each was held out, and
        training stopped early on it, by the members that it is scored by.

    Examples
    --------
    >>> from hybridflow.calibration import Calibration
    >>> Calibration().output(0).rows
    0.0
    """

    temperature: Annotated[float, Field(gt=0)] = 1.0
    outputs: tuple[Conformal, ...] = ()
    unseen: bool = False

    @property
    def members(self) -> int:
        """How many members there must be for all folds to have theirs."""
        folds = [fold for output in self.outputs for fold in output.folds]
        return 1 + max((max(fold.members) for fold in folds), default=-1)

    def output(self, i: int) -> Conformal:
        """Return the scores of one output; empty ones where there are none."""
        return self.outputs[i] if i < len(self.outputs) else Conformal()


def check_coverage(coverage: float) -> float:
    """Return the coverage asked for.

    Raises
    ------
    ConfigError
        If it is no number between 0 and 1.
    """
    number = isinstance(coverage, int | float | np.number) and not isinstance(coverage, bool)
    if not (number and 0 < coverage < 1):
        raise ConfigError(f"coverage must lie between 0 and 1, for instance 0.9, got {coverage!r}")
    return float(coverage)


def rows_needed(coverage: float) -> int:
    """Return how many held-out rows a coverage needs at least.

    Examples
    --------
    >>> from hybridflow.calibration.conformal import rows_needed
    >>> rows_needed(0.9), rows_needed(0.95)
    (9, 19)
    """
    return math.ceil((1 - _ROUNDING) / (1 - coverage)) - 1
