"""What a model takes and gives, as MLflow says it: built from the table that it was fitted on."""

from __future__ import annotations

from typing import Any

import narwhals.stable.v2 as nw
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

from hybridflow.answering import Answerer, AnswerParams
from hybridflow.column import Column
from hybridflow.errors import ConfigError
from hybridflow.estimators.base import FlowEstimator

EXAMPLE_ROWS = 2

_TYPES = {
    "boolean": DataType.boolean,
    "long": DataType.long,
    "double": DataType.double,
    "string": DataType.string,
}


def signature_of(estimator: FlowEstimator) -> ModelSignature:
    """Return columns in, columns out and parameters of a fitted estimator.

    Numbers are ``double``, text is ``string``. Columns that had missing cells in training, and
    those that are left out, may be absent. A table without column names has a signature
    without names, so that bare matrices are answered, too.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector

    Returns
    -------
    mlflow.models.ModelSignature

    Notes
    -----
    Whole numbers are ``double`` since MLflow cuts the decimals off what is sent for a column of
    type ``long``, and refuses missing cells in it. A boolean column that may miss cells is a
    ``string``, since MLflow takes null for false in one of type ``boolean``.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow import FlowDensity, TrainingConfig
    >>> from hybridflow.mlflow import signature_of
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> model = FlowDensity(training=TrainingConfig(steps=5), random_state=0).fit(X)
    >>> signature_of(model).outputs.input_names()
    ['log_density', 'novelty']
    """
    schema = estimator.schema_
    inputs: list[ColSpec | TensorSpec]
    if schema.named:
        inputs = [
            ColSpec(type_of(column), column.name, required=not is_optional(column))
            for column in schema.columns
        ]
    else:
        inputs = [ColSpec(type_of(column)) for column in schema.columns]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(_TYPES[column.type], column.name, required=False)
        for column in Answerer(estimator).columns
    ]
    asked = AnswerParams()
    params = [
        ParamSpec("output", DataType.string, asked.output),
        ParamSpec("coverage", DataType.double, asked.coverage),
        ParamSpec("rejection", DataType.double, asked.rejection),
    ]
    return ModelSignature(Schema(inputs), Schema(outputs), ParamSchema(params))


def is_optional(column: Column) -> bool:
    """Return whether a table may lack a column: its cells were missing before, or are not used."""
    return column.missing > 0 or column.kind in ("constant", "empty")


def type_of(column: Column) -> DataType:
    """Return the type of a column in a signature."""
    levels = column.levels
    if levels and all(isinstance(level, bool) for level in levels):
        return DataType.string if column.missing > 0 else DataType.boolean
    texts = any(isinstance(level, str) for level in levels)
    unknown = column.kind == "empty" and column.dtype.lower() in ("object", "string")
    return DataType.string if texts or unknown else DataType.double


def example_of(estimator: FlowEstimator) -> Any:
    """Return a few rows drawn from a model as a pandas frame, None if it cannot sample.

    Drawn from the model, since no training row leaves the place where it was trained.
    """
    sample = getattr(estimator, "sample", None)
    if sample is None:
        return None
    try:
        drawn = sample(EXAMPLE_ROWS, random_state=0)
    except NotImplementedError:  # a flow without an inverse
        return None
    rows = drawn[0] if isinstance(drawn, tuple) else drawn
    schema = estimator.schema_
    cells = rows if schema.container == "numpy" else rows.to_numpy()
    names = [column.name for column in schema.columns]
    frame = {
        name: [_example_cell(cell, column) for cell in cells[:, j].tolist()]
        for j, (name, column) in enumerate(zip(names, schema.columns, strict=True))
    }
    return nw.from_dict(frame, backend="pandas").to_native()


def _example_cell(cell: Any, column: Column) -> Any:
    if cell is None or cell != cell:
        return None
    kind = type_of(column)
    if kind == DataType.double:
        return float(cell)
    return bool(cell) if kind == DataType.boolean else str(cell)


def check_named(signature: ModelSignature | None) -> None:
    """Raise if MLflow has dropped the signature, without which a server checks nothing.

    Raises
    ------
    ConfigError
    """
    if signature is None or signature.inputs is None or signature.params is None:
        raise ConfigError(
            "the signature was not saved with the model: pass a fitted estimator of hybridflow, "
            "and no mlflow_model of your own"
        )
