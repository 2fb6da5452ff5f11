"""The model that MLflow's servers, batch jobs and Spark call: rows in, the table of answers out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from hybridflow.answering import Answerer, AnswerParams, AnswerTable
from hybridflow.bundle import load
from hybridflow.column import Column
from hybridflow.errors import ConfigError, InputError
from hybridflow.estimators.base import FlowEstimator
from hybridflow.mlflow.signature import is_optional

# MLflow makes text of the nulls in a list of texts, where rows come as `inputs`.
_NULL = "None"
_TRUTH = {"True": True, "true": True, "False": False, "false": False}


class AnswerModel:
    """What ``mlflow.pyfunc.load_model`` returns for a saved model, behind MLflow's own checks.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
        Fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow import FlowDensity, TrainingConfig
    >>> from hybridflow.mlflow import AnswerModel
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> model = FlowDensity(training=TrainingConfig(steps=5), random_state=0).fit(X)
    >>> list(AnswerModel(model).predict(X[:3]))
    ['log_density', 'novelty']
    """

    def __init__(self, estimator: FlowEstimator) -> None:
        self.estimator = estimator
        self.answerer = Answerer(estimator)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return the table of answers.

        Parameters
        ----------
        model_input : pandas.DataFrame or ndarray
            Rows, as MLflow hands them over.
        params : dict, optional
            ``output``, ``coverage`` and ``rejection``, see `AnswerParams`.

        Returns
        -------
        pandas.DataFrame
            One row per row.

        Raises
        ------
        mlflow.exceptions.MlflowException
            If rows or parameters cannot be used; servers answer with the status 400.
        """
        try:
            asked = AnswerParams(**(params or {}))
            table = self.answerer.answer(self._rows(model_input), asked)
        except (InputError, ConfigError) as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return as_frame(table)

    def _rows(self, given: Any) -> Any:
        """Return rows as the estimator reads them: as a frame only if it was fitted on one."""
        if not nw.dependencies.is_pandas_dataframe(given):
            return given
        columns = self.estimator.schema_.columns
        if not self.estimator.schema_.named:
            for column, name in zip(columns, given.columns, strict=False):
                given = _mended(given, name, column)
            return given.to_numpy()
        absent = {c.name: np.nan for c in columns if is_optional(c) and c.name not in given}
        given = given.assign(**absent) if absent else given
        for column in columns:
            given = _mended(given, column.name, column)
        return given


def _mended(frame: Any, name: Any, column: Column) -> Any:
    """Return a frame with the nulls and truth values back that MLflow has made text of."""
    if name not in frame or frame[name].dtype.kind != "O" or not column.levels:
        return frame
    cells = frame[name].tolist()
    truths = all(isinstance(level, bool) for level in column.levels)
    mended = [
        None
        if cell == _NULL and _NULL not in column.levels
        else _TRUTH.get(cell, cell)
        if truths and isinstance(cell, str)
        else cell
        for cell in cells
    ]
    return frame if mended == cells else frame.assign(**{str(name): np.array(mended, dtype=object)})


def as_frame(table: AnswerTable) -> Any:
    """Return a table of answers as a pandas frame in which null is None, so that JSON has null."""
    gaps = [name for name, cells in table.items() if None in cells]
    columns = table | {name: np.array(table[name], dtype=object) for name in gaps}
    frame = nw.from_dict(columns, backend="pandas").to_native()
    for name in gaps:  # pandas 3 has made its own text of text, in which null is NaN
        cells = frame[name].astype(object)
        frame[name] = cells.where(cells.notna(), None)
    return frame


def _load_pyfunc(path: str) -> AnswerModel:
    """Return the model in a file: what MLflow calls, by the name of this function's module."""
    return AnswerModel(load(path))
