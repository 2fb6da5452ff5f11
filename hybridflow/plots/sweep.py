"""trade_off: prediction, calibration and density under different weights of the density."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone, is_classifier
from sklearn.metrics import log_loss, root_mean_squared_error
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit, check_cv
from sklearn.utils import _safe_indexing

from hybridflow.errors import ConfigError
from hybridflow.metrics import (
    expected_calibration_error,
    negative_log_likelihood,
    quantile_calibration_error,
)

Table = dict[str, NDArray[Any]]

COLUMNS = ("error", "negative_log_likelihood", "calibration", "log_density")


def trade_off(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    weights: Iterable[float] = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0),
    *,
    cv: Any = None,
) -> Table:
    """Fit clones with different ``likelihood_weight`` and measure them on held-out rows.

    Every weight sees the same splits, so that differences between weights are
    not those between rows.

    Parameters
    ----------
    estimator : HybridClassifier or HybridRegressor
        Fitted or not; it is not changed.
    X : array-like of shape (n, d)
    y : array-like of shape (n,)
        Without missing entries.
    weights : iterable of float, default=(0, 0.03, 0.1, 0.3, 1, 3)
        Values of λ.
    cv : int, splitter or iterable, optional
        How rows are held out, as in scikit-learn; three random quarters if not given.

    Returns
    -------
    dict of str to ndarray
        A table with a row for each weight and split, which pandas and polars
        take as it is:

        - ``likelihood_weight`` and ``split``, its number;
        - ``error``: share of wrong labels, or root mean squared error in the units of y;
        - ``negative_log_likelihood``: mean of -log p(y | x) in nats, which is the log-loss
          of labels;
        - ``calibration``: `expected_calibration_error`, or `quantile_calibration_error`;
        - ``log_density``: mean of log p(x) in nats.

    Raises
    ------
    ConfigError
        If there are no weights, or the estimator has no ``likelihood_weight``.

    References
    ----------
    Nalisnick, Matsukawa, Teh, Gorur, Lakshminarayanan: "Hybrid Models with
    Deep and Invertible Features", 2019.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from hybridflow import HybridClassifier, TrainingConfig
    >>> from hybridflow.plots import trade_off
    >>> X, y = load_iris(return_X_y=True)
    >>> model = HybridClassifier(training=TrainingConfig(steps=20), random_state=0)
    >>> table = trade_off(model, X, y, [0.1, 1.0], cv=2)
    >>> table["likelihood_weight"].tolist(), table["split"].tolist()
    ([0.1, 0.1, 1.0, 1.0], [0, 1, 0, 1])
    """
    values = [float(weight) for weight in weights]
    if not values:
        raise ConfigError("weights: expected at least one value of likelihood_weight, got none")
    if "likelihood_weight" not in estimator.get_params(deep=False):
        raise ConfigError(
            f"{type(estimator).__name__} has no likelihood_weight to trade off; pass a "
            "HybridClassifier or a HybridRegressor"
        )
    classifier = is_classifier(estimator)
    truth = np.asarray(y)
    if cv is None:
        random = StratifiedShuffleSplit if classifier else ShuffleSplit
        cv = random(n_splits=3, test_size=0.25, random_state=0)
    splits = list(check_cv(cv, truth, classifier=classifier).split(np.zeros(len(truth)), truth))
    rows = []
    for weight in values:
        for split, (train, test) in enumerate(splits):
            model = clone(estimator).set_params(likelihood_weight=weight)
            model.fit(_safe_indexing(X, train), truth[train])
            rest = _safe_indexing(X, test)
            measure = _of_labels if classifier else _of_numbers
            figures = measure(model, rest, truth[test])
            rows.append((weight, split, *figures, model.score_samples(rest).mean()))
    names = ("likelihood_weight", "split", *COLUMNS)
    return {
        name: np.array(cells) for name, cells in zip(names, zip(*rows, strict=True), strict=True)
    }


def _of_labels(model: Any, X: Any, y: NDArray[Any]) -> tuple[float, float, float]:
    """Return error rate, log-loss and calibration error."""
    probabilities, labels = model.predict_proba(X), model.classes_
    error = np.mean(labels[probabilities.argmax(axis=1)] != y)
    return (
        float(error),
        float(log_loss(y, probabilities, labels=labels)),
        expected_calibration_error(y, probabilities, labels=labels),
    )


def _of_numbers(model: Any, X: Any, y: NDArray[Any]) -> tuple[float, float, float]:
    """Return root mean squared error, negative log-likelihood and calibration error."""
    law = model.predict_distribution(X)
    return (
        float(root_mean_squared_error(y, law.mean())),
        negative_log_likelihood(y, law),
        quantile_calibration_error(y, law, random_state=0),
    )
