"""The flat table of answers: what a model says about rows wherever it is served.

MLflow's scoring server, ``hybridflow serve``, Spark and the command line of MLflow all answer
with this table. Every column holds one plain value per row, and null where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.utils.validation import check_is_fitted

from hybridflow.config import Config
from hybridflow.errors import ConfigError, closest
from hybridflow.estimators.base import FlowEstimator
from hybridflow.estimators.classifier import HybridClassifier
from hybridflow.estimators.novelty import NoveltyEstimator, RejectingEstimator
from hybridflow.estimators.outlier import FlowOutlierDetector
from hybridflow.estimators.passage import passage
from hybridflow.estimators.regressor import HybridRegressor
from hybridflow.laws import mixed
from hybridflow.novelty import Novelty, Reading

Cell = bool | int | float | str | None
Type = Literal["boolean", "long", "double", "string"]
AnswerTable = dict[str, list[Cell]]

ALL = "all"
OUTPUTS = ("prediction", "probability", "set", "interval", "log_density", "novelty", "abstained")
"""What a row of the table may hold, in this order."""

_PART = 2**13  # rows whose latents are held at once


class AnswerParams(Config):
    """What is asked of a model, beside the rows.

    Parameters
    ----------
    output : str, default="all"
        Which columns, separated by commas: ``"prediction,interval"``.
    coverage : float, default=0.9
        Of intervals and sets, between 0 and 1.
    rejection : float, default=0.05
        The share of usual rows, the most doubtful ones, for which the model abstains;
        0 for none.

    Raises
    ------
    ConfigError
        If one of them is not what it may be.

    Examples
    --------
    >>> from hybridflow.answering import AnswerParams
    >>> AnswerParams(output="prediction", coverage=0.8).rejection
    0.05
    """

    output: str = ALL
    coverage: Annotated[float, Field(gt=0, lt=1)] = 0.9
    rejection: Annotated[float, Field(ge=0, lt=1)] = 0.05


@dataclass(frozen=True)
class AnswerColumn:
    """One column of the table.

    Parameters
    ----------
    name : str
    type : {"boolean", "long", "double", "string"}
    output : str
        Which of `OUTPUTS` it belongs to.
    """

    name: str
    type: Type
    output: str


@dataclass(frozen=True)
class _Said:
    """What all members say about the same rows."""

    readings: Sequence[Reading]
    laws: Sequence[Any]
    novelty: Novelty | None

    @cached_property
    def evidence(self) -> NDArray[np.float64]:
        """The log-evidence of the rows by all members, which several answers rest on."""
        assert self.novelty is not None
        return self.novelty.log_evidence(self.readings)


class Answerer:
    """Answers for rows of a table with a flat table.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
        Fitted.

    Attributes
    ----------
    columns : tuple of AnswerColumn
        All that it can answer. ``prediction``; ``probability_<class>`` and ``in_set_<class>``
        of classes; ``lower`` and ``upper`` of numbers; ``log_density``; ``novelty``, a p-value;
        ``abstained``. Of several outputs ``prediction_<name>`` and so on.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.

    Notes
    -----
    A prediction is null where the model abstains. Numbers that are not finite are null:
    an end of an interval that has no bound, the log-density of a row outside the support.
    With too few held-out rows no row is declined, and intervals and sets hold everything.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from hybridflow import HybridClassifier, TrainingConfig
    >>> from hybridflow.answering import Answerer, AnswerParams
    >>> X, y = load_iris(return_X_y=True)
    >>> model = HybridClassifier(training=TrainingConfig(steps=100), random_state=0).fit(X, y)
    >>> answerer = Answerer(model)
    >>> [column.name for column in answerer.columns][:3]
    ['prediction', 'probability_0', 'probability_1']
    >>> table = answerer.answer(X[:3], AnswerParams(output="prediction", rejection=0.0))
    >>> table
    {'prediction': [0, 0, 0]}
    """

    def __init__(self, estimator: FlowEstimator) -> None:
        check_is_fitted(estimator, "models_")
        self.estimator = estimator
        self.columns = tuple(_columns(estimator))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Which of `OUTPUTS` this model has."""
        there = {column.output for column in self.columns}
        return tuple(name for name in OUTPUTS if name in there)

    def chosen(self, output: str) -> tuple[str, ...]:
        """Return the outputs that a parameter asks for, in the order of the table.

        Raises
        ------
        ConfigError
            If the model has no such output; the message names those that it has.
        """
        names = [name.strip() for name in output.split(",")]
        if names == [ALL]:
            return self.outputs
        for name in names:
            if name not in self.outputs:
                raise ConfigError(
                    f"output: {name!r} is nothing that this model answers; it has "
                    f"{', '.join([ALL, *self.outputs])}{closest(name, [ALL, *self.outputs])}"
                )
        return tuple(name for name in self.outputs if name in names)

    def answer(self, X: Any, params: AnswerParams | None = None) -> AnswerTable:
        """Return the answers for rows.

        Parameters
        ----------
        X : array-like of shape (n, d), frame, or Table
            A `hybridflow.table.Table` holds the columns of training, in their order.
        params : AnswerParams, optional

        Returns
        -------
        dict of str to list of length n
            Plain values, None for null, by the names of `columns`.

        Raises
        ------
        InputError
            If the rows cannot be used.
        ConfigError
            If the model has no such output.
        """
        params = params or AnswerParams()
        chosen = self.chosen(params.output)
        x = self.estimator._read(X)
        table: AnswerTable = {column.name: [] for column in self.columns if column.output in chosen}
        for part in torch.split(x, _PART):
            each = [passage(model, part) for model in self.estimator.models_]
            said = _Said(
                [one.reading for one in each],
                [one.law for one in each],
                getattr(self.estimator, "novelty_", None),
            )
            for name, cells in self._answers(said, chosen, params).items():
                table[name] += cells
        return table

    def _answers(self, said: _Said, chosen: Sequence[str], params: AnswerParams) -> AnswerTable:
        """Return the chosen columns for what members say about rows."""
        declined: NDArray[np.bool_] | None = None
        rejecting = "abstained" in self.outputs and {"prediction", "abstained"} & set(chosen)
        if rejecting:
            assert isinstance(self.estimator, RejectingEstimator)
            declined = np.zeros(len(said.readings[0].log_density), dtype=np.bool_)
            if params.rejection > 0:
                declined = self.estimator._declined(
                    said.laws, said.readings, params.rejection, said.evidence
                )
        found: AnswerTable = {}
        for output in chosen:
            if output == "abstained":
                assert declined is not None
                found["abstained"] = declined.tolist()
                continue
            names = [column.name for column in self.columns if column.output == output]
            values = _ANSWERS[output](self.estimator, said, params)
            for name, cells in zip(names, values, strict=True):
                plain = _plain(cells)
                if output == "prediction" and declined is not None and declined.any():
                    plain = [
                        None if gone else cell for cell, gone in zip(plain, declined, strict=True)
                    ]
                found[name] = plain
        return found


def _predictions(estimator: FlowEstimator, said: _Said, params: AnswerParams) -> list[Any]:
    if isinstance(estimator, HybridClassifier):
        chances = estimator._probabilities_of(said.laws)
        if estimator._has_several:
            return list((chances > 0.5).astype(np.int64).T)
        return [estimator.classes_[chances.argmax(axis=1)]]
    if isinstance(estimator, HybridRegressor):
        return _by_output(mixed(said.laws).mean())
    assert isinstance(estimator, FlowOutlierDetector)
    score = _log_density(said)
    if estimator.novelty_ is not None:
        score = said.evidence
    return [np.where(score - estimator.offset_ < 0, -1, 1)]


def _probabilities(estimator: FlowEstimator, said: _Said, params: AnswerParams) -> list[Any]:
    assert isinstance(estimator, HybridClassifier)
    return list(estimator._probabilities_of(said.laws).T)


def _sets(estimator: FlowEstimator, said: _Said, params: AnswerParams) -> list[Any]:
    assert isinstance(estimator, HybridClassifier)
    return list(estimator._set(said.laws, params.coverage, allow_empty=False).T)


def _intervals(estimator: FlowEstimator, said: _Said, params: AnswerParams) -> list[Any]:
    assert isinstance(estimator, HybridRegressor)
    found = estimator._interval(said.laws, params.coverage)
    return list(found.reshape(len(found), -1).T)


def _densities(estimator: FlowEstimator, said: _Said, params: AnswerParams) -> list[Any]:
    return [_log_density(said)]


def _novelties(estimator: FlowEstimator, said: _Said, params: AnswerParams) -> list[Any]:
    assert isinstance(estimator, NoveltyEstimator)
    assert estimator.novelty_ is not None
    return [estimator.novelty_.pvalue(said.readings, evidence=said.evidence)]


_ANSWERS: dict[str, Callable[[FlowEstimator, _Said, AnswerParams], list[Any]]] = {
    "prediction": _predictions,
    "probability": _probabilities,
    "set": _sets,
    "interval": _intervals,
    "log_density": _densities,
    "novelty": _novelties,
}


def _columns(estimator: FlowEstimator) -> list[AnswerColumn]:
    """Return every column that an estimator can answer."""
    target = estimator.blueprint_.target
    several = [f"_{name}" for name in target.names] if target and len(target.names) > 1 else [""]
    columns: list[AnswerColumn] = []
    if isinstance(estimator, HybridClassifier) and estimator._has_several:
        assert target is not None
        columns += [AnswerColumn(f"prediction_{n}", "long", "prediction") for n in target.names]
        columns += [AnswerColumn(f"probability_{n}", "double", "probability") for n in target.names]
    elif isinstance(estimator, HybridClassifier):
        labels = _plain(estimator.classes_)
        columns.append(AnswerColumn("prediction", _type_of(labels), "prediction"))
        columns += [AnswerColumn(f"probability_{n}", "double", "probability") for n in labels]
        columns += [AnswerColumn(f"in_set_{n}", "boolean", "set") for n in labels]
    elif isinstance(estimator, HybridRegressor):
        columns += [AnswerColumn(f"prediction{n}", "double", "prediction") for n in several]
        columns += [
            AnswerColumn(f"{end}{n}", "double", "interval")
            for n in several
            for end in ("lower", "upper")
        ]
    elif isinstance(estimator, FlowOutlierDetector):
        columns.append(AnswerColumn("prediction", "long", "prediction"))
    columns.append(AnswerColumn("log_density", "double", "log_density"))
    if isinstance(estimator, NoveltyEstimator) and estimator.novelty_ is not None:
        columns.append(AnswerColumn("novelty", "double", "novelty"))
        if isinstance(estimator, RejectingEstimator):
            columns.append(AnswerColumn("abstained", "boolean", "abstained"))
    return columns


def _type_of(labels: Sequence[Cell]) -> Type:
    """Return the type of a column that holds labels."""
    if all(isinstance(label, bool) for label in labels):
        return "boolean"
    if all(isinstance(label, int) for label in labels):
        return "long"
    return "double" if all(isinstance(label, int | float) for label in labels) else "string"


def _plain(cells: Any) -> list[Cell]:
    """Return cells as JSON has them: null for what is not finite, text for bytes."""
    if cells.dtype.kind == "f":
        return [cell if math.isfinite(cell) else None for cell in cells.tolist()]
    if cells.dtype.kind in "SO":
        listed = cells.tolist()
        return [cell.decode("latin-1") if isinstance(cell, bytes) else cell for cell in listed]
    plain: list[Cell] = cells.tolist()
    return plain


def _by_output(values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    return [values] if values.ndim == 1 else list(values.T)


def _log_density(said: _Said) -> NDArray[np.float64]:
    """Return the logarithm of the mean density over members."""
    each = np.stack([reading.log_density for reading in said.readings])
    return np.asarray(np.logaddexp.reduce(each, axis=0) - math.log(len(each)))


__all__ = [
    "ALL",
    "OUTPUTS",
    "AnswerColumn",
    "AnswerParams",
    "AnswerTable",
    "Answerer",
]
