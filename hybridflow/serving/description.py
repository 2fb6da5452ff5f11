"""What the page about the interface says of one model: its columns, answers and parameters."""

from __future__ import annotations

from typing import Any

from hybridflow.answering import Answerer, AnswerParams
from hybridflow.column import Column
from hybridflow.estimators.base import FlowEstimator

_TYPES = {"boolean": "boolean", "long": "integer", "double": "number", "string": "string"}


def operation(estimator: FlowEstimator, answerer: Answerer) -> dict[str, Any]:
    """Return what OpenAPI is told of ``POST /invocations``."""
    columns = estimator.schema_.columns
    row = {
        "type": "object",
        "properties": {column.name: _cell(column) for column in columns},
        "required": [column.name for column in columns if not _nullable(column)],
        "additionalProperties": False,
    }
    matrix = {"type": "array", "items": {"type": "array"}}
    records = {"type": "array", "items": row}
    split = {
        "type": "object",
        "properties": {"columns": {"type": "array", "items": {"type": "string"}}, "data": matrix},
    }
    body = {
        "type": "object",
        "properties": {
            "dataframe_split": split,
            "dataframe_records": records,
            "instances": records if estimator.schema_.named else matrix,
            "inputs": {},
            "params": AnswerParams.model_json_schema(),
        },
    }
    answer = {
        "type": "object",
        "properties": {
            column.name: {"type": [_TYPES[column.type], "null"]} for column in answerer.columns
        },
    }
    reply = {
        "type": "object",
        "properties": {
            "predictions": {"type": "array", "items": answer},
            "warnings": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["predictions"],
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": body},
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        "responses": {"200": {"content": {"application/json": {"schema": reply}}}},
    }


def _nullable(column: Column) -> bool:
    return column.missing > 0 or column.kind in ("constant", "empty")


def _cell(column: Column) -> dict[str, Any]:
    if any(isinstance(level, str) for level in column.levels):
        kind = "string"
    elif column.levels and all(isinstance(level, bool) for level in column.levels):
        kind = "boolean"
    else:
        kind = "number"
    types = [kind, "null"] if _nullable(column) else kind
    return {"type": types, "description": column.described()}
