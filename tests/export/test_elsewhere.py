"""The files where hybridflow is not: in an environment without torch, and in MLflow."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnx
import pytest

from .conftest import Exported

ALONE = """
import json, sys
import numpy as np
import onnxruntime
assert not {"torch", "onnx", "hybridflow"} & set(sys.modules)
try:
    import torch
except ImportError:
    pass
else:
    raise SystemExit("torch is here")
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
rows = json.load(open(sys.argv[2]))
feed = {}
for value in session.get_inputs():
    text = value.type == "tensor(string)"
    cells = [("" if text else float("nan")) if c is None else c for c in rows[value.name]]
    feed[value.name] = np.array(cells, dtype=object if text else np.float64)
label, chances = session.run(["label", "probabilities"], feed)
print(json.dumps([label.tolist(), chances.tolist()]))
"""


@pytest.mark.slow
def test_onnxruntime_is_all_that_a_file_needs(classifier: Exported, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "onnxruntime", "numpy"]
    subprocess.run(install, check=True, timeout=600)
    table = classifier.table[:30]
    rows = {name: json.loads(table[name].to_json(orient="values")) for name in table}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "alone.py").write_text(ALONE)
    files = [classifier.folder / "predict.onnx", tmp_path / "rows.json"]
    done = subprocess.run(
        [python, tmp_path / "alone.py", *files],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    label, chances = json.loads(done.stdout)
    assert label == classifier.estimator.predict(table).tolist()
    np.testing.assert_allclose(chances, classifier.estimator.predict_proba(table), atol=1e-9)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # mlflow's own
def test_mlflow_logs_and_loads_it(density: Exported, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = mlflow.create_experiment("export", (tmp_path / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment):
        logged = mlflow.onnx.log_model(
            onnx.load(density.folder / "predict.onnx"),
            name="density",
            save_as_external_data=False,
            pip_requirements=["onnxruntime"],
        )
    loaded = mlflow.pyfunc.load_model(logged.model_uri)
    columns = {name: density.table[name].to_numpy() for name in density.table}
    found = loaded.predict(columns)
    expected = density.estimator.score_samples(density.table)
    np.testing.assert_allclose(found["log_density"], expected, rtol=1e-9)


def test_no_package_of_the_exporter_is_loaded_with_hybridflow() -> None:
    code = "import hybridflow.cli.app, sys; print({'onnx', 'onnxscript'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
