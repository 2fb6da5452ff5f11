"""The page about serving holds what the server does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from hybridflow import HybridClassifier
from hybridflow.answering import Answerer, AnswerParams
from hybridflow.serving.refusal import CODES

PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text(encoding="utf-8")
JSON = [json.loads(text) for text in re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)]
(CSV,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S)
*FORMS, ASKING = [block for block in JSON if not {"predictions", "message"} & set(block)]
(REPLY,) = [block for block in JSON if "predictions" in block]
(ERROR,) = [block for block in JSON if "message" in block]
ROWS = pd.DataFrame(FORMS[1]["dataframe_records"])


def test_all_forms_on_the_page_ask_the_same(server: Any, classifier: HybridClassifier) -> None:
    assert [next(iter(form)) for form in FORMS] == [
        "dataframe_split",
        "dataframe_records",
        "instances",
        "inputs",
    ]
    replies = [server.post(form) for form in FORMS] + [server.post(CSV.encode(), "text/csv")]
    assert all(reply == replies[0] for reply in replies)
    status, reply = replies[0]
    assert status == 200, reply
    expected = Answerer(classifier).answer(ROWS.assign(planet="Earth"))
    assert [row["prediction"] for row in reply["predictions"]] == expected["prediction"]


def test_params_on_the_page(server: Any, classifier: HybridClassifier) -> None:
    status, reply = server.post(ASKING)
    assert status == 200, reply
    chosen = Answerer(classifier).chosen(AnswerParams(**ASKING["params"]).output)
    named = [c.name for c in Answerer(classifier).columns if c.output in chosen]
    assert list(reply["predictions"][0]) == named


def test_the_answer_on_the_page(server: Any) -> None:
    _, reply = server.post(FORMS[0])
    assert list(reply["predictions"][0]) == list(REPLY["predictions"][0])


def test_the_error_on_the_page(server: Any) -> None:
    rows = FORMS[1]["dataframe_records"]
    status, reply = server.post({"instances": [rows[0], rows[1] | {"height": "tall"}]})
    assert status == 400
    assert reply | {"request_id": ""} == ERROR | {"request_id": ""}


def test_every_status_is_on_the_page() -> None:
    errors = PAGE.split("## Errors")[1]
    for status, code in CODES.items():
        assert str(status) in errors
        assert f"`{code}`" in errors
