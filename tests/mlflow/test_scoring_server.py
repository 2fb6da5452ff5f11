"""The contract of serving, against MLflow's real scoring server on this machine."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hybridflow import HybridClassifier, HybridRegressor
from hybridflow.answering import Answerer, AnswerParams, AnswerTable

ROWS = 4


def post(address: str, body: Any, kind: str = "application/json") -> tuple[int, Any]:
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    data = text.encode() if isinstance(text, str) else text
    request = urllib.request.Request(
        f"{address}/invocations", data=data, headers={"Content-Type": kind}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, strict(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, strict(error.read())


def strict(text: bytes) -> Any:
    """Read JSON that has no NaN and no Infinity, which the standard does not know."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in a reply")

    return json.loads(text, parse_constant=refuse)


def columns(reply: Any) -> AnswerTable:
    records = reply["predictions"]
    return {name: [record[name] for record in records] for name in records[0]}


def same(found: AnswerTable, expected: AnswerTable) -> None:
    assert list(found) == list(expected)
    for name, cells in expected.items():
        numbers = any(type(cell) is float for cell in cells)
        assert found[name] == (pytest.approx(cells, rel=1e-9) if numbers else cells), name


def nulls(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the records of a frame with None for missing cells."""
    return frame.astype(object).where(frame.notna(), None).to_dict(orient="records")


def frame_payloads(frame: pd.DataFrame) -> dict[str, tuple[Any, str]]:
    records = nulls(frame)
    names = list(frame)
    doubles = frame.astype({"age": float})  # whole numbers in Parquet are refused by MLflow
    listed = {name: [record[name] for record in records] for name in names}
    split = {"columns": names, "data": [list(record.values()) for record in records]}
    return {
        "dataframe_split": ({"dataframe_split": split}, "application/json"),
        "dataframe_records": ({"dataframe_records": records}, "application/json"),
        "instances": ({"instances": records}, "application/json"),
        "inputs of columns": ({"inputs": listed}, "application/json"),
        "inputs of records": ({"inputs": records}, "application/json"),
        "csv": (frame.to_csv(index=False, float_format="%.17g"), "text/csv"),
        "parquet": (doubles.to_parquet(index=False), "application/vnd.apache.parquet"),
        "json with charset": ({"dataframe_split": split}, "application/json; charset=utf-8"),
    }


FORMS = [
    "dataframe_split",
    "dataframe_records",
    "instances",
    "inputs of columns",
    "inputs of records",
    "csv",
    "parquet",
    "json with charset",
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table(
    form: str, of_frame: str, classifier: HybridClassifier, table: pd.DataFrame
) -> None:
    gaps = [table[table[name].isna()][:2] for name in ("city", "income")]
    rows = pd.concat([table[:ROWS], *gaps])
    status, reply = post(of_frame, *frame_payloads(rows)[form])
    assert status == 200, reply
    same(columns(reply), Answerer(classifier).answer(rows))


def test_params(of_frame: str, classifier: HybridClassifier, table: pd.DataFrame) -> None:
    asked = {"output": "prediction,set", "coverage": 0.6, "rejection": 0.3}
    rows = table[:40]
    status, reply = post(of_frame, {"dataframe_records": nulls(rows), "params": asked})
    assert status == 200, reply
    expected = Answerer(classifier).answer(rows, AnswerParams(**asked))
    assert None in expected["prediction"]
    same(columns(reply), expected)


def test_columns_that_may_be_absent_and_in_any_order(
    of_frame: str, classifier: HybridClassifier, table: pd.DataFrame
) -> None:
    rows = table[["married", "age", "height"]][:ROWS]
    status, reply = post(of_frame, {"dataframe_records": nulls(rows)})
    assert status == 200, reply
    missing = table[:ROWS].assign(city=None, income=np.nan)
    same(columns(reply), Answerer(classifier).answer(missing))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"dataframe_records": [{"height": 170.0}]}, "age"),
        ({"dataframe_records": [{"height": "x", "age": 3, "married": True}]}, "height"),
        (
            {
                "dataframe_records": [{"height": 170.0, "age": 3, "married": True}],
                "params": {"coverage": 2.0},
            },
            "coverage",
        ),
        (
            {
                "dataframe_records": [{"height": 170.0, "age": 3, "married": True}],
                "params": {"output": "weather"},
            },
            "weather",
        ),
        ({"rows": []}, "dataframe_split"),
    ],
    ids=["column-missing", "text-for-a-number", "coverage", "output", "no-rows"],
)
def test_what_cannot_be_answered(of_frame: str, body: Any, said: str) -> None:
    status, reply = post(of_frame, body)
    assert status == 400
    assert said in json.dumps(reply)


MATRIX_FORMS: dict[str, Callable[[list[list[float]]], tuple[Any, str]]] = {
    "instances": lambda rows: ({"instances": rows}, "application/json"),
    "inputs": lambda rows: ({"inputs": rows}, "application/json"),
    "dataframe_split": lambda rows: (
        {"dataframe_split": {"columns": ["a", "b", "c"], "data": rows}},
        "application/json",
    ),
    "dataframe_records": lambda rows: (
        {"dataframe_records": [dict(zip("abc", row, strict=True)) for row in rows]},
        "application/json",
    ),
    "csv": lambda rows: (
        "a,b,c\n" + "\n".join(",".join(map(repr, row)) for row in rows),
        "text/csv",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_every_form_of_a_matrix(
    form: str, of_matrix: str, regressor: HybridRegressor, matrix: np.ndarray
) -> None:
    status, reply = post(of_matrix, *MATRIX_FORMS[form](matrix[:ROWS].tolist()))
    assert status == 200, reply
    same(columns(reply), Answerer(regressor).answer(matrix[:ROWS]))


PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")


def test_the_requests_on_the_page(of_frame: str) -> None:
    blocks = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)]
    *forms, asking = [block for block in blocks if not {"predictions", "message"} & set(block)]
    (csv,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S)
    replies = [post(of_frame, form) for form in forms] + [post(of_frame, csv, "text/csv")]
    assert [status for status, _ in replies] == [200] * 5, replies
    for _, reply in replies[1:]:
        same(columns(reply), columns(replies[0][1]))
    assert post(of_frame, asking)[0] == 200


ROW = {"height": 171.5, "age": 40, "city": "Bern", "married": True, "income": 3100.0}


@pytest.mark.parametrize(
    ("sent", "taken_for"),
    [
        ({"colour": "red"}, {}),
        ({"married": None}, {"married": False}),
        ({"married": "no"}, {"married": True}),
        ({"height": "171.5"}, {"height": 171.5}),
    ],
    ids=["unknown-column", "null-truth", "text-for-truth", "text-for-a-number"],
)
def test_what_mlflow_converts_before_the_model_sees_it(
    of_frame: str, sent: dict[str, Any], taken_for: dict[str, Any]
) -> None:
    """As the page says; `hybridflow serve` refuses these."""
    status, reply = post(of_frame, {"instances": [ROW | sent]})
    assert status == 200, reply
    assert reply == post(of_frame, {"instances": [ROW | taken_for]})[1]


def test_parameters_that_there_are_not_are_left_out(of_frame: str) -> None:
    status, reply = post(of_frame, {"instances": [ROW], "params": {"colour": "red"}})
    assert status == 200
    assert reply == post(of_frame, {"instances": [ROW]})[1]
