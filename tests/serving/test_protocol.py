"""``hybridflow serve`` answers as MLflow's scoring server does."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hybridflow
from hybridflow import HybridClassifier, HybridRegressor
from hybridflow.answering import Answerer, AnswerParams, AnswerTable


def columns(reply: Any) -> AnswerTable:
    records = reply["predictions"]
    return {name: [record[name] for record in records] for name in records[0]}


def same(found: AnswerTable, expected: AnswerTable) -> None:
    assert list(found) == list(expected)
    for name, cells in expected.items():
        numbers = any(type(cell) is float for cell in cells)
        assert found[name] == (pytest.approx(cells, rel=1e-9) if numbers else cells), name


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict(orient="records")


def split(frame: pd.DataFrame) -> dict[str, Any]:
    return {"columns": list(frame), "data": [list(row.values()) for row in records(frame)]}


def listed(frame: pd.DataFrame) -> dict[str, list[Any]]:
    return {name: [row[name] for row in records(frame)] for name in frame}


FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "dataframe_split": lambda rows: {"dataframe_split": split(rows)},
    "dataframe_records": lambda rows: {"dataframe_records": records(rows)},
    "instances": lambda rows: {"instances": records(rows)},
    "inputs-of-columns": lambda rows: {"inputs": listed(rows)},
    "inputs-of-records": lambda rows: {"inputs": records(rows)},
    "csv": lambda rows: rows.to_csv(index=False, float_format="%.17g").encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table(
    form: str, server: Any, classifier: HybridClassifier, table: pd.DataFrame
) -> None:
    rows = table[:30]
    assert rows["city"].isna().any()
    kind = "text/csv; charset=utf-8" if form == "csv" else "application/json"
    status, reply = server.post(FORMS[form](rows), kind)
    assert status == 200, reply
    same(columns(reply), Answerer(classifier).answer(rows))
    assert "warnings" not in reply


@pytest.mark.parametrize(
    "form",
    [
        {"instances": None},
        {"inputs": None},
        {"dataframe_split": "data"},
    ],
    ids=["instances", "inputs", "dataframe_split"],
)
def test_every_form_of_a_matrix(
    form: dict[str, Any], of_matrix: Any, regressor: HybridRegressor, matrix: np.ndarray
) -> None:
    ((name, inner),) = form.items()
    rows = matrix[:5].tolist()
    status, reply = of_matrix.post({name: {inner: rows} if inner else rows})
    assert status == 200, reply
    same(columns(reply), Answerer(regressor).answer(matrix[:5]))


def test_params(server: Any, classifier: HybridClassifier, table: pd.DataFrame) -> None:
    asked = {"output": "prediction,set", "coverage": 0.6, "rejection": 0.3}
    status, reply = server.post({"dataframe_records": records(table[:40]), "params": asked})
    assert status == 200, reply
    expected = Answerer(classifier).answer(table[:40], AnswerParams(**asked))
    assert None in expected["prediction"]
    same(columns(reply), expected)


def test_columns_that_may_be_absent_and_in_any_order(
    server: Any, classifier: HybridClassifier, table: pd.DataFrame
) -> None:
    status, reply = server.post(
        {"dataframe_records": records(table[["married", "age", "height"]][:4])}
    )
    assert status == 200, reply
    missing = table[:4].assign(city=None, income=np.nan)
    same(columns(reply), Answerer(classifier).answer(missing))


def test_a_level_that_is_new_is_answered_with_a_warning(server: Any, row: dict[str, Any]) -> None:
    status, reply = server.post({"instances": [row | {"city": "Chur"}]})
    assert status == 200
    assert "'Chur'" in reply["warnings"][0]
    assert "warnings" not in server.post({"instances": [row]})[1]


def test_unseen_columns_are_warned_of_if_they_are_ignored(
    serving: Any, classifier: HybridClassifier, tmp_path: Path, row: dict[str, Any]
) -> None:
    with serving(classifier, tmp_path, "--extra", "ignore") as server:
        status, reply = server.post({"instances": [row | {"colour": "red"}]})
        assert status == 200
        assert "'colour'" in reply["warnings"][0]


def test_paths_that_say_that_it_is_up(server: Any) -> None:
    assert server.ask("GET", "/ping")[:2] == (200, {"status": "ok"})
    assert server.ask("GET", "/health")[:2] == (200, {"status": "ok"})
    assert server.ask("GET", "/version")[:2] == (200, hybridflow.__version__.encode())


def test_the_interface_describes_the_model(server: Any) -> None:
    status, page, _ = server.ask("GET", "/openapi.json")
    assert status == 200
    operation = page["paths"]["/invocations"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    row = body["dataframe_records"]["items"]
    assert row["required"] == ["height", "age", "married"]
    assert row["properties"]["city"]["type"] == ["string", "null"]
    assert row["properties"]["married"]["type"] == "boolean"
    assert set(body["params"]["properties"]) == {"output", "coverage", "rejection"}
    reply = operation["responses"]["200"]["content"]["application/json"]["schema"]
    answers = reply["properties"]["predictions"]["items"]["properties"]
    assert answers["abstained"]["type"] == ["boolean", "null"]
    assert server.ask("GET", "/docs")[0] == 200


def test_told_to_stop_it_ends_well(
    serving: Any, regressor: HybridRegressor, tmp_path: Path
) -> None:
    with serving(regressor, tmp_path) as server:
        assert server.post({"instances": [[0.0, 0.0, 0.0]]})[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
    assert not any("Traceback" in line for line in server.said)
