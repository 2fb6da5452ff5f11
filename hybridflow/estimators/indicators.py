"""Reading several labels per row: a table of 0 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridflow.errors import ConfigError, InputError
from hybridflow.estimators.outcomes import Outcomes, read_outputs
from hybridflow.laws import CategoricalLaw, JointLaw
from hybridflow.specs import Target


def is_table(y: Any) -> bool:
    """Say whether y has two dimensions, and more than one column.

    Examples
    --------
    >>> from hybridflow.estimators.indicators import is_table
    >>> is_table([[0, 1], [1, 1]]), is_table([[0], [1]]), is_table([0, 1])
    (True, False, False)
    """
    shape = getattr(y, "shape", None)
    if shape is None:
        first = y[0] if isinstance(y, list | tuple) and y else None
        return isinstance(first, list | tuple | np.ndarray) and len(first) > 1
    return len(shape) == 2 and shape[1] > 1 and not hasattr(y, "toarray")


def read_indicators(y: Any, n: int, class_weight: Any, name: str) -> Outcomes:
    """Read several labels per row.

    Parameters
    ----------
    y : array-like or frame of shape (n, k)
        0 and 1, or booleans; missing where it is not known.
    n : int
        Expected number of rows.
    class_weight : None
        Weights of classes have no meaning here.
    name : str
        Of the estimator, for messages.

    Raises
    ------
    InputError
        If y holds anything else.
    ConfigError
        If there are weights of classes.
    """
    outcomes = read_outputs(y, n, name)
    wrong = ~(np.isnan(outcomes.values) | np.isin(outcomes.values, (0.0, 1.0)))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"Unknown label type: y has {len(outcomes.names)} columns and holds "
            f"{outcomes.values[row, column]:g} at row {row} of {outcomes.names[column]!r}: several "
            "labels per row are columns of 0 and 1; for numbers use HybridRegressor"
        )
    if class_weight is not None:
        raise ConfigError(
            "class_weight is for one label per row, and y has a column per label: leave it out, "
            "or give sample_weight"
        )
    return outcomes


def indicator_target(indicators: Outcomes) -> Target:
    """Describe several labels."""
    k = len(indicators.names)
    return Target(
        kind="multi-label",
        names=indicators.names,
        classes=tuple(range(k)),
        location=(0.0,) * k,
        scale=(1.0,) * k,
    )


def probabilities(law: CategoricalLaw | JointLaw) -> NDArray[np.float64]:
    """Return the probability of each class, or of each of several labels, shape (n, k)."""
    return law.probabilities if isinstance(law, CategoricalLaw) else law.mean()


def log_probabilities(law: CategoricalLaw | JointLaw) -> NDArray[np.float64]:
    """Return the logarithms of `probabilities`, also where these underflow."""
    if isinstance(law, CategoricalLaw):
        return law.log_probabilities
    return np.stack([one.log_prob(1.0) for one in law.marginals], -1)
