"""The self-test of a bundle: rows drawn from the model, and its answers to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridflow.errors import CorruptModelError, ModelSelfTestError
from hybridflow.estimators import HybridClassifier, HybridRegressor
from hybridflow.estimators.base import FlowEstimator

ROWS = 8
TOLERANCE = 1e-6
"""Largest difference of an answer, relative to 1 + its magnitude."""

_TRIES = 8
_MOST_ROWS = 1000


def probe(estimator: FlowEstimator) -> dict[str, Any]:
    """Draw rows from a fitted estimator and note its answers.

    The rows come from the model and are never rows of the training table.

    Returns
    -------
    dict
        Plain JSON: ``rows`` as the model reads them, null where a cell is
        missing, and ``answers``, by name, one number or list of numbers per row. Rows with
        an answer that is not finite are left out.
    """
    rows = _draw(estimator)
    found = answers(estimator, rows)
    stacked = np.column_stack([*found.values()])
    fit = np.isfinite(stacked).all(axis=1) & ~np.isinf(rows.numpy()).any(axis=1)
    kept = np.flatnonzero(fit)[:ROWS]
    return {
        "rows": [
            [None if np.isnan(cell) else cell for cell in row]
            for row in rows.numpy()[kept].tolist()
        ],
        "answers": {name: values[kept].tolist() for name, values in found.items()},
    }


def answers(estimator: FlowEstimator, rows: Tensor) -> dict[str, NDArray[np.float64]]:
    """Return what an estimator says of rows of shape (n, K), one array per kind of answer."""
    rows = rows.to(estimator.models_[0].step.device)
    found = {"score_samples": estimator._log_score(rows)}
    if isinstance(estimator, HybridClassifier):
        found["predict_proba"] = estimator._probabilities(rows)
    if isinstance(estimator, HybridRegressor):
        law = estimator._law(rows)
        found["predict"] = law.mean()
        found["median"] = law.quantile(0.5)
    return found


def compare(estimator: FlowEstimator, document: dict[str, Any]) -> dict[str, float]:
    """Ask the probe rows again.

    Parameters
    ----------
    estimator : FlowEstimator
        As it was loaded.
    document : dict
        What `probe` returned.

    Returns
    -------
    dict of str to float
        Largest difference of each answer, relative to 1 + its magnitude.

    Raises
    ------
    ModelSelfTestError
        If one is larger than `TOLERANCE`.
    CorruptModelError
        If the document is no probe of this model.
    """
    try:
        rows = _rows(document["rows"], len(estimator.schema_.kept))
        found = answers(estimator, torch.from_numpy(rows))
        stored = {name: _array(document["answers"][name], found[name].shape[1:]) for name in found}
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptModelError(f"its probe rows are not those of its model: {error!r}") from error
    differences = {}
    for name, before in stored.items():
        if len(before) != len(rows):
            raise CorruptModelError("its probe rows and their answers differ in number")
        relative = np.abs(found[name] - before) / (1 + np.abs(before))
        differences[name] = float(relative.max(initial=0.0))
        if not differences[name] <= TOLERANCE:  # NaN is no pass either
            raise ModelSelfTestError(
                f"the loaded model does not answer as it did when it was saved: {name} of its "
                f"{len(rows)} probe rows differ by up to {differences[name]:.3g} (relative to "
                f"1 + magnitude; {TOLERANCE:g} is tolerated)"
            )
    return differences


def _rows(values: Any, width: int) -> NDArray[np.float64]:
    """Return probe rows, NaN where a cell is null."""
    if not isinstance(values, list):
        raise ValueError("no list of rows")
    missing = np.array([[cell is None for cell in row] for row in values], dtype=bool)
    numbers = [[0.0 if cell is None else cell for cell in row] for row in values]
    array = _array(numbers, (width,))
    return np.where(missing, np.nan, array) if len(array) else array


def _draw(estimator: FlowEstimator) -> Tensor:
    """Return a few more rows than are needed, shape (n, K), always the same."""
    count = ROWS * _TRIES
    try:
        return estimator._draw(count, 0)[0]
    except NotImplementedError:
        # A flow without an inverse: base samples, taken for standardised rows.
        model = estimator.models_[0]
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            codes = None
            if model.categories is not None:
                codes = model.categories.sample(count, generator)
            z = model.base.sample(count, model.context(codes), generator).double()
            return model.layout.join(model.preprocess.inverse(z)[0], codes).cpu()


def _array(values: Any, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return one finite array of this shape per row."""
    if not isinstance(values, list) or len(values) > _MOST_ROWS:
        raise ValueError("no list of rows, or too long a one")
    array = np.asarray(values, dtype=np.float64) if values else np.empty((0, *shape))
    if array.shape[1:] != shape or not np.isfinite(array).all():
        raise ValueError(f"rows of shape {array.shape[1:]}, expected finite ones of {shape}")
    return array
