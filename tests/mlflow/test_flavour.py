"""The flavour: saved without pickle, pinned, with a signature, and loaded again."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from sklearn.exceptions import NotFittedError

import hybridflow
from hybridflow import FlowDensity, FlowSpec, HybridClassifier, Registry, hookimpl
from hybridflow.answering import Answerer, AnswerParams
from hybridflow.errors import ConfigError, CorruptModelError
from hybridflow.flows.affine import RealNVP
from hybridflow.mlflow import load_model, save_model, signature_of
from hybridflow.mlflow.flavour import requirements_of

Save = Callable[[Any], Path]


def test_the_estimator_comes_back(
    saved: Save, classifier: HybridClassifier, table: pd.DataFrame
) -> None:
    again = load_model(str(saved(classifier)))
    assert isinstance(again, HybridClassifier)
    assert again.predict_proba(table).tolist() == classifier.predict_proba(table).tolist()


def test_the_pyfunc_answers_with_the_flat_table(
    saved: Save, classifier: HybridClassifier, table: pd.DataFrame
) -> None:
    model = mlflow.pyfunc.load_model(str(saved(classifier)))
    rows = table.astype({"age": float})
    answered = model.predict(rows, params={"coverage": 0.8, "rejection": 0.1})
    expected = Answerer(classifier).answer(table, AnswerParams(coverage=0.8, rejection=0.1))
    assert {name: column.tolist() for name, column in answered.items()} == expected
    assert list(model.predict(rows[:1], params={"output": "novelty"})) == ["novelty"]


def test_nothing_in_the_folder_is_pickled_or_executed(
    saved: Save, density: FlowDensity, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(density)
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds == {"", ".hflow", ".json", ".txt", ".yaml"}
    opened: list[str] = []
    watching = [True]

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching[0] and event == "pickle.find_class":
            opened.append(str(arguments))

    sys.addaudithook(watch)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.pyfunc.load_model(str(folder)).predict(np.zeros((1, 3)))
    watching[0] = False
    assert opened == []


def test_a_changed_bit_is_refused(saved: Save, density: FlowDensity) -> None:
    folder = saved(density)
    data = bytearray((folder / "model.hflow").read_bytes())
    data[-5] ^= 1
    (folder / "model.hflow").write_bytes(data)
    with pytest.raises(CorruptModelError):
        mlflow.pyfunc.load_model(str(folder))


def test_the_signature_is_that_of_the_table(classifier: HybridClassifier) -> None:
    signature = signature_of(classifier)
    assert {c.name: (c.type.name, c.required) for c in signature.inputs} == {
        "height": ("double", True),
        "age": ("double", True),
        "city": ("string", False),
        "married": ("boolean", True),
        "income": ("double", False),
        "planet": ("string", False),
    }
    assert {p.name: p.default for p in signature.params} == {
        "output": "all",
        "coverage": 0.9,
        "rejection": 0.05,
    }
    assert [c.name for c in signature.outputs] == [c.name for c in Answerer(classifier).columns]


def test_a_table_without_names_has_a_signature_without_names(density: FlowDensity) -> None:
    inputs = signature_of(density).inputs
    assert [column.name for column in inputs] == [None] * 3
    assert not inputs.has_input_names()


def test_a_boolean_column_that_may_miss_cells_is_text() -> None:
    rng = np.random.default_rng(0)
    flag = np.array([True, False, None], dtype=object)[rng.integers(0, 3, 300)]
    X = pd.DataFrame({"a": rng.normal(size=300), "flag": flag})
    model = FlowDensity(RealNVP(layers=2), training=hybridflow.TrainingConfig(steps=5)).fit(X)
    assert signature_of(model).inputs.input_dict()["flag"].type.name == "string"


def test_the_example_is_drawn_from_the_model(
    saved: Save, classifier: HybridClassifier, table: pd.DataFrame
) -> None:
    folder = saved(classifier)
    shown = json.loads((folder / "serving_input_example.json").read_text())["dataframe_split"]
    assert shown["columns"] == list(table)
    assert len(shown["data"]) == 2
    heights = {round(row[0], 6) for row in shown["data"]}
    assert heights.isdisjoint(table["height"].round(6))
    example = Model.load(str(folder)).load_input_example(str(folder))
    assert len(mlflow.pyfunc.load_model(str(folder)).predict(example)) == 2


def test_versions_are_pinned(saved: Save, density: FlowDensity) -> None:
    folder = saved(density)
    pins = (folder / "requirements.txt").read_text().splitlines()
    expected = [f"hybridflow=={hybridflow.__version__}", f"mlflow=={mlflow.__version__}"]
    assert pins == expected
    conda = yaml.safe_load((folder / "conda.yaml").read_text())
    assert conda["dependencies"][-1]["pip"] == expected
    flavour = Model.load(str(folder)).flavors["hybridflow"]
    assert flavour["hybridflow_version"] == hybridflow.__version__


def plugin() -> types.SimpleNamespace:
    from hybridflow.flows.affine import SPECS

    (spec,) = [spec for spec in SPECS if spec.name == "realnvp"]
    other = type("OtherNVP", (RealNVP,), {"__module__": __name__})
    found = FlowSpec("other-nvp", "A plugin's flow", other, spec.build)

    class Plugin:
        @hookimpl
        def hybridflow_flows(self) -> list[FlowSpec]:
            return [found]

    return types.SimpleNamespace(hooks=Plugin(), config=other)


@pytest.mark.parametrize("distribution", ["flows-of-others", "local"])
def test_plugins_are_pinned_if_they_can_be_installed(
    distribution: str, matrix: np.ndarray, tmp_path: Path
) -> None:
    registry, part = Registry(entry_points=False), plugin()
    registry.register(part.hooks, distribution=distribution, version="1.2")
    quick = hybridflow.TrainingConfig(steps=5)
    model = FlowDensity("other-nvp", training=quick, registry=registry).fit(matrix)
    if distribution == "local":
        with pytest.raises(ConfigError, match="flow of this model was registered by hand"):
            save_model(model, tmp_path / "model")
        return
    assert "flows-of-others==1.2" in requirements_of(model)


def test_what_the_user_requires_comes_instead_or_beside(
    density: FlowDensity, tmp_path: Path
) -> None:
    save_model(density, tmp_path / "a", pip_requirements=["hybridflow"])
    assert (tmp_path / "a/requirements.txt").read_text().splitlines()[1:] == ["hybridflow"]
    save_model(density, tmp_path / "b", extra_pip_requirements=["torch==2.13"])
    assert "torch==2.13" in (tmp_path / "b/requirements.txt").read_text().splitlines()


def test_metadata_and_an_example_of_ones_own(density: FlowDensity, tmp_path: Path) -> None:
    rows = pd.DataFrame([[1.0, 2.0, 3.0]])
    save_model(density, tmp_path / "model", metadata={"ticket": 7}, input_example=rows)
    found = Model.load(str(tmp_path / "model"))
    assert found.metadata == {"ticket": 7}
    assert found.load_input_example(str(tmp_path / "model")).to_numpy().tolist() == [[1, 2, 3]]


def test_errors(density: FlowDensity, tmp_path: Path, saved: Save) -> None:
    with pytest.raises(NotFittedError):
        save_model(FlowDensity(), tmp_path / "new")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(MlflowException, match="already exists and is not empty"):
        save_model(density, tmp_path / "full")
    model = mlflow.pyfunc.load_model(str(saved(density)))
    with pytest.raises(MlflowException, match="coverage") as caught:
        model.predict(np.zeros((1, 3)), params={"coverage": 7.0})
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(MlflowException, match="infinity"):
        model.predict(np.full((1, 3), np.inf))


def test_the_native_loader_refuses_another_flavour(tmp_path: Path) -> None:
    Model(flavors={"python_function": {}}).save(str(tmp_path / "MLmodel"))
    with pytest.raises(MlflowException, match="hybridflow"):
        load_model(str(tmp_path))


def test_whole_numbers_of_a_frame_need_a_cast(
    saved: Save, classifier: HybridClassifier, table: pd.DataFrame
) -> None:
    """MLflow refuses loudly; ``long`` in the signature would cut decimals off in silence."""
    model = mlflow.pyfunc.load_model(str(saved(classifier)))
    with pytest.raises(MlflowException, match="age"):
        model.predict(table)
