"""What trials are compared by: the task, the likelihood, or a weighted sum of both."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from hybridflow.errors import ConfigError, InputError, closest
from hybridflow.estimators import FlowOutlierDetector, HybridRegressor
from hybridflow.estimators.base import FlowEstimator
from hybridflow.estimators.outcomes import log_probability, read_outcomes

_TERMS = ("task", "likelihood")
_TERM = re.compile(r"(?:(?P<weight>[0-9.][0-9.eE+-]*?)\s*\*?\s*)?(?P<name>[a-z]+)")


@dataclass(frozen=True)
class Score:
    r"""What is minimised: a weighted sum of the two means, on rows that no trial is fitted on.

    .. math:: t \cdot \overline{-\log p(y \mid x)} + \frac{l}{d} \cdot \overline{-\log p(x)}

    Both are in nats, the second per column of the table, of which there are d: as in
    the loss, where l / t is λ.

    Parameters
    ----------
    task, likelihood : float, default=0
        The weights t and l, at least one of them positive.

    Raises
    ------
    ConfigError
        If both weights are 0, or one is negative or not finite.

    Examples
    --------
    >>> from hybridflow.tuning import Score
    >>> str(Score(task=1, likelihood=0.3)), str(Score.read("likelihood"))
    ('task + 0.3 likelihood', 'likelihood')
    >>> Score(task=1, likelihood=0.5).value(task=2.0, density=8.0, columns=4)
    3.0
    """

    task: float = 0.0
    likelihood: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.task, self.likelihood)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ConfigError(
                f"score: weights are finite, at least 0, and one above 0; got task={self.task}, "
                f"likelihood={self.likelihood}"
            )

    @classmethod
    def read(cls, text: str) -> Score:
        """Read what ``str`` writes: ``"task"``, ``"task + 0.3 likelihood"``.

        Raises
        ------
        ConfigError
            If the text is no such sum.
        """
        weights: dict[str, float] = {}
        for part in text.split("+"):
            found = _TERM.fullmatch(part.strip())
            name = found["name"] if found else part.strip()
            if found is None or name not in _TERMS or name in weights:
                raise ConfigError(
                    f"score {text!r}: expected task, likelihood or a sum such as "
                    f"'task + 0.3 likelihood'{closest(name, _TERMS)}"
                )
            try:
                weights[name] = float(found["weight"] or 1)
            except ValueError:
                raise ConfigError(f"score {text!r}: {found['weight']} is no number") from None
        return cls(**weights)

    def __str__(self) -> str:
        """Return it as `read` reads it."""
        terms = [(self.task, "task"), (self.likelihood, "likelihood")]
        return " + ".join(
            name if weight == 1 else f"{weight:g} {name}" for weight, name in terms if weight
        )

    def value(self, task: float | None, density: float, columns: int) -> float:
        """Return the score.

        Parameters
        ----------
        task : float or None
            Mean of -log p(y | x) in nats, None where there is no y.
        density : float
            Mean of -log p(x) in nats a row.
        columns : int
            d.
        """
        total = 0.0
        if self.task:
            total += self.task * (math.nan if task is None else task)
        if self.likelihood:
            total += self.likelihood * density / columns
        return total


def read_scores(
    score: str | Score | Sequence[str | Score] | None, *, hybrid: bool
) -> tuple[Score, ...]:
    """Return the one score of a study, or several.

    Parameters
    ----------
    score : str, Score, sequence of these, or None
        None for the task of a hybrid, the likelihood of a density.
    hybrid : bool
        Whether the estimator has a task.

    Raises
    ------
    ConfigError
        If a score cannot be read, occurs twice, or is of a task that is not there.
    """
    if score is None:
        score = "task" if hybrid else "likelihood"
    given = [score] if isinstance(score, str | Score) else list(score)
    scores = tuple(Score.read(item) if isinstance(item, str) else item for item in given)
    for item in scores:
        if not isinstance(item, Score):
            raise ConfigError(f"score: expected 'task', 'likelihood' or a Score, got {item!r}")
        if item.task and not hybrid:
            raise ConfigError(f"score {str(item)!r}: a density has no task; use 'likelihood'")
    if not scores or len(set(scores)) < len(scores):
        raise ConfigError(f"score: expected one score, or several that differ, got {score!r}")
    return scores


def negative_log_task(
    estimator: FlowEstimator, X: Any, y: Any, weight: NDArray[np.float64]
) -> float:
    """Return the weighted mean of -log p(y | x) in nats, of rows that all have a y.

    Raises
    ------
    InputError
        If y holds labels that were not seen in training.
    """
    check_is_fitted(estimator, "models_")
    if isinstance(estimator, HybridRegressor):
        outcomes = read_outcomes(y, len(weight), type(estimator).__name__)
        logs = log_probability(estimator.predict_distribution(X), outcomes)
    else:
        logs = _of_labels(estimator, X, y)
    return -float(np.average(logs, weights=weight))


def negative_log_density(estimator: Any, X: Any, weight: NDArray[np.float64]) -> float:
    """Return the weighted mean of -log p(x) in nats."""
    log = (
        estimator.log_density(X)
        if isinstance(estimator, FlowOutlierDetector)
        else estimator.score_samples(X)
    )
    return -float(np.average(log, weights=weight))


def _of_labels(estimator: Any, X: Any, y: Any) -> NDArray[np.float64]:
    if estimator.blueprint_.target.kind == "multi-label":
        return np.asarray(estimator.score_joint(X, y) - estimator.score_samples(X))
    known = {label: code for code, label in enumerate(estimator.classes_.tolist())}
    labels = np.asarray(y).tolist()
    unseen = [label for label in labels if label not in known]
    if unseen:
        raise InputError(
            f"holdout: the label {unseen[0]!r} is on held-out rows only; hold out a share, which "
            "leaves every class rows to train on"
        )
    codes = [known[label] for label in labels]
    return np.asarray(estimator.predict_log_proba(X)[np.arange(len(codes)), codes])
