"""predict.onnx, read by onnxruntime, against the methods of the estimator."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

from hybridflow.errors import HybridFlowWarning
from hybridflow.export import to_onnx

from .conftest import Exported, mixed_table

BATCHES = pytest.mark.parametrize("n", [1, 7, 64, 500])


@contextmanager
def without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HybridFlowWarning)
        yield


@BATCHES
def test_a_classifier_answers_alike(classifier: Exported, n: int) -> None:
    table = mixed_table(n, 5)
    table.loc[table.index[::5], "city"] = "Chur"  # never seen
    model, found = classifier.estimator, classifier.run(table)
    with without_warnings():
        np.testing.assert_array_equal(found["label"], model.predict(table))
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(table), atol=1e-10)
        np.testing.assert_array_equal(found["set"], model.predict_set(table, 0.9))
        np.testing.assert_allclose(found["log_density"], model.score_samples(table), atol=1e-8)
        np.testing.assert_allclose(found["novelty_pvalue"], model.novelty_pvalue(table), atol=1e-8)
        np.testing.assert_allclose(found["latent"], model.transform(table), atol=1e-8)


@BATCHES
def test_a_regressor_answers_alike(regressor: Exported, n: int) -> None:
    table = pd.DataFrame(np.random.default_rng(n).normal(size=(n, 3)) * 2, columns=list("abc"))
    model, found = regressor.estimator, regressor.run(table)
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    np.testing.assert_allclose(found["mean"], model.predict(table), rtol=1e-8)
    np.testing.assert_allclose(found["quantiles"], model.predict_quantile(table, levels), atol=1e-7)
    np.testing.assert_allclose(found["interval"], model.predict_interval(table, 0.9), atol=1e-7)


@pytest.mark.parametrize("spread", [1.0, 10.0, 100.0])
def test_tails_are_alike(density: Exported, spread: float) -> None:
    table = density.table * spread
    expected = density.estimator.score_samples(table)
    np.testing.assert_allclose(density.run(table)["log_density"], expected, rtol=1e-9)


@pytest.mark.parametrize("missing", [["a"], ["a", "c"], ["a", "b", "c"]], ids=" ".join)
def test_cells_that_were_never_missing_may_be(density: Exported, missing: list[str]) -> None:
    table = density.table[:40].copy()
    table.loc[table.index[::3], missing] = np.nan
    with without_warnings():
        expected = density.estimator.score_samples(table)
    np.testing.assert_allclose(density.run(table)["log_density"], expected, rtol=1e-9)


def test_a_missing_text_is_the_empty_string(classifier: Exported) -> None:
    table = mixed_table(20, 8)
    table["city"] = None
    with without_warnings():
        expected = classifier.estimator.score_samples(table)
    np.testing.assert_allclose(classifier.run(table)["log_density"], expected, rtol=1e-9)


def test_inputs_are_the_columns_that_the_model_uses(classifier: Exported) -> None:
    graph = onnx.load(classifier.folder / "predict.onnx").graph
    kinds = {
        value.name: onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
        for value in graph.input
    }
    double = dict.fromkeys(["age", "income", "works", "zone"], "DOUBLE")
    assert kinds == double | {"city": "STRING"}
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("file", ["predict.onnx", "sample.onnx"])
def test_a_file_is_whole_and_tells_nothing_of_its_maker(classifier: Exported, file: str) -> None:
    path = classifier.folder / file
    model = onnx.load(path)
    assert {found.domain: found.version for found in model.opset_import}[""] == 20
    assert {found.domain for found in model.opset_import} <= {"", "ai.onnx.ml"}
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    texts = re.findall(rb"[\x20-\x7e]{4,}", path.read_bytes())
    home = str(Path(__file__).resolve().parents[2]).encode()
    assert not [text for text in texts if home in text or b".py" in text]
    assert sorted(p.name for p in classifier.folder.iterdir()) == ["predict.onnx", "sample.onnx"]


def test_metadata_say_what_the_file_is(classifier: Exported) -> None:
    entries = onnx.load(classifier.folder / "predict.onnx").metadata_props
    found = {entry.key: json.loads(entry.value) for entry in entries}
    assert found["hybridflow.classes"] == ["no", "yes"]
    assert [column["name"] for column in found["hybridflow.columns"]] == list(classifier.table)
    assert found["hybridflow.outputs"][:2] == ["label", "probabilities"]
    assert {"hybridflow", "torch"} <= set(found["hybridflow.versions"])


def test_float32_is_close_and_smaller(density: Exported, tmp_path: Path) -> None:
    options = {"float32": True, "outputs": ["log_density"], "rows": density.table}
    export = to_onnx(density.estimator, tmp_path, **options)
    assert export.outputs == ("log_density",)
    size = (tmp_path / "predict.onnx").stat().st_size
    assert size < (density.folder / "predict.onnx").stat().st_size
    single = Exported(density.estimator, density.table, export, tmp_path)
    expected = density.estimator.score_samples(density.table)
    np.testing.assert_allclose(single.run(density.table)["log_density"], expected, atol=1e-3)


def test_the_export_prints_what_it_compared(classifier: Exported) -> None:
    printed = str(classifier.export)
    for word in ("batch 1", "batch 7", "batch 64", "batch 4,096", "tails", "missing", "set"):
        assert word in printed
