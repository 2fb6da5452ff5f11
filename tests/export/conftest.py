"""Models that are exported once for all tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from hybridflow import (
    Categorical,
    FlowDensity,
    HybridClassifier,
    HybridRegressor,
    TrainingConfig,
)
from hybridflow.estimators.base import FlowEstimator
from hybridflow.export import Export, to_onnx
from hybridflow.flows import RealNVP, SplineCoupling

QUICK = TrainingConfig(steps=30)


@dataclass(frozen=True)
class Exported:
    """An estimator, the rows it was fitted on, and its files."""

    estimator: Any
    table: pd.DataFrame
    export: Export
    folder: Path

    def run(self, table: pd.DataFrame, file: str = "predict.onnx") -> dict[str, Any]:
        """Return the outputs of a file for a table, fed as a user would."""
        session = session_of(self.folder / file)
        feed = {}
        for value in session.get_inputs():
            column = table[value.name]
            if value.type == "tensor(string)":
                feed[value.name] = column.astype(object).fillna("").to_numpy(dtype=object)
            else:
                feed[value.name] = column.to_numpy(dtype=np.float64, na_value=np.nan)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(None, feed), strict=True))


def session_of(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )


def mixed_table(n: int, seed: int) -> pd.DataFrame:
    """Return numbers, text, booleans, numeric levels, missing cells and an unused column."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.integers(18, 80, n).astype(float),
            "income": rng.lognormal(3, 0.5, n),
            "works": rng.random(n) < 0.7,
            "city": rng.choice(["Bern", "Genf", "Zürich"], n),
            "zone": rng.choice([1.0, 2.0, 7.0], n),
            "always": 3.0,
        }
    )
    table.loc[rng.random(n) < 0.2, "income"] = np.nan
    table.loc[rng.random(n) < 0.1, "city"] = None
    return table


def made(estimator: FlowEstimator, table: pd.DataFrame, folder: Path, **options: Any) -> Exported:
    return Exported(estimator, table, to_onnx(estimator, folder, rows=table, **options), folder)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Two members on a mixed table, with prediction sets and a temperature."""
    table = mixed_table(400, 0)
    y = np.where((table["age"] > 45) ^ table["income"].isna(), "yes", "no")
    model = HybridClassifier(
        RealNVP(layers=2, hidden_layers=1, hidden_units=16),
        members=2,
        training=QUICK,
        columns={"zone": Categorical()},
        random_state=0,
    )
    with pytest.warns(UserWarning, match="always"):
        model.fit(table, y)
    model.calibration_ = model.calibration_.replace(temperature=1.5)
    return made(model, table, tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Two members, whose laws are mixed, and intervals over folds."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(rng.normal(size=(400, 3)), columns=["a", "b", "c"])
    y = table["a"] ** 2 + 0.3 * rng.normal(size=400)
    model = HybridRegressor(
        RealNVP(layers=1, hidden_layers=1, hidden_units=16),
        head="gaussian",
        members=2,
        training=QUICK,
        random_state=0,
    ).fit(table, y)
    return made(model, table, tmp_path_factory.mktemp("regressor"))


@pytest.fixture(scope="session")
def density(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The default flow, small, one member."""
    rng = np.random.default_rng(2)
    table = pd.DataFrame(rng.normal(size=(400, 3)), columns=["a", "b", "c"])
    table["c"] = np.exp(table["a"]) + 0.1 * table["c"]
    flow = SplineCoupling(layers=2, hidden_units=16, hidden_layers=1)
    model = FlowDensity(flow, members=1, training=QUICK, random_state=0).fit(table)
    return made(model, table, tmp_path_factory.mktemp("density"))
