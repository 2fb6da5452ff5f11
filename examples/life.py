"""The life of a model, told as it goes: ``python examples/life.py``.

Tune, track, register, serve, export, and score on Spark: scikit-learn's diabetes table
with the real Optuna, MLflow, ONNX Runtime and Spark. All files go to the folder
``life_output``. Needs the extras ``tune``, ``mlflow``, ``serve`` and ``onnx``; the last part
needs ``spark`` and Java, and is left out where they are not there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

# Before torch is imported: two threads on two busy cores are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split

from hybridflow import HybridRegressor, TrainingConfig, tune
from hybridflow.export import to_onnx
from hybridflow.mlflow import StudyCallback, log_model
from hybridflow.tuning import TuningResult

CHAMPION = "models:/diabetes@champion"


def main() -> None:
    """Tell the story."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=8, help="of the search")
    parser.add_argument("--steps", type=int, default=300, help="most training steps of each")
    parser.add_argument("--output", type=Path, default=Path("life_output"))
    options = parser.parse_args()
    shutil.rmtree(options.output, ignore_errors=True)
    options.output.mkdir(parents=True)
    os.chdir(options.output)
    os.environ["MLFLOW_TRACKING_URI"] = "sqlite:///mlflow.db"
    mlflow.set_experiment("diabetes")

    X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    print(f"{len(train)} people to learn from, {len(test)} to test on, {X.shape[1]} columns")

    model = tuned(train, y_train, options.trials, options.steps).estimator
    error = root_mean_squared_error(y_test, model.predict(test))
    print(f"   error of the tuned model on the test rows: {error:.1f}")
    register(model)
    rows = test.iloc[:5].reset_index(drop=True)
    served(model, rows)
    exported(model, test)
    scored_on_spark(model, test)
    print(f"\nAll files are in {options.output}/. To look at the runs: mlflow ui, in there.")


def title(text: str) -> None:
    """Print the heading of a part."""
    print(f"\n{text}\n{'-' * len(text)}")


def tuned(X: pd.DataFrame, y: pd.Series, trials: int, steps: int) -> TuningResult:
    """Search, and report every trial to MLflow."""
    title("1. Tune, and track")
    plain = HybridRegressor("realnvp", training=TrainingConfig(steps=steps), random_state=0)
    reported = StudyCallback()
    found = tune(plain, X, y, trials=trials, callbacks=[reported])
    reported.wait()
    runs = mlflow.search_runs(search_all_experiments=True)
    print(f"   {len(found.study.trials)} trials; {len(runs)} runs in MLflow")
    print(f"   score {found.study.best_value:.3f}, the defaults' {found.study.trials[0].value:.3f}")
    return found


def register(model: HybridRegressor) -> None:
    """Log the model, and make it the champion."""
    title("2. Register")
    info = log_model(model, registered_model_name="diabetes")
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("diabetes", "champion", info.registered_model_version)
    model.save("diabetes.hflow")
    print(f"   {CHAMPION} is version {info.registered_model_version}")


def served(model: HybridRegressor, rows: pd.DataFrame) -> None:
    """Ask both servers, and compare their answers with those of the model."""
    title("3. Serve")
    request = {"dataframe_split": rows.astype(float).to_dict(orient="split", index=False)}
    scripts = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    hybridflow = [sys.executable, "-m", "hybridflow", "serve", "diabetes.hflow"]
    generic = [sys.executable, "-m", "mlflow", "models", "serve", "-m", CHAMPION]
    for name, command, health in (
        ("hybridflow serve", hybridflow, "/health"),
        ("mlflow models serve", [*generic, "--env-manager", "local"], "/ping"),
    ):
        with running(command, environment, health) as address:
            answers = post(f"{address}/invocations", request)["predictions"]
        densities = [row["log_density"] for row in answers]
        np.testing.assert_allclose(densities, model.score_samples(rows), rtol=1e-6)
        print(f"   {name}: {json.dumps(answers[0])}")


@contextmanager
def running(command: list[str], environment: dict[str, str], health: str) -> Iterator[str]:
    """Run a server on a free port, wait until it is ready, and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with Path(f"server-{port}.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(address + health, timeout=5).close()
                break
            except OSError:
                if server.poll() is not None:
                    sys.exit(Path(log.name).read_text())
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def post(url: str, body: dict[str, object]) -> dict[str, list[dict[str, float]]]:
    """Return the answer to a request in JSON."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def exported(model: HybridRegressor, rows: pd.DataFrame) -> None:
    """Export to ONNX, and predict with ONNX Runtime alone."""
    title("4. Export")
    print(to_onnx(model, "onnx", rows=rows))
    session = onnxruntime.InferenceSession("onnx/predict.onnx")
    columns = {name: rows[name].to_numpy(float) for name in rows}
    (mean,) = session.run(["mean"], columns)
    np.testing.assert_allclose(mean.ravel(), model.predict(rows), rtol=1e-6)
    print(f"   ONNX Runtime predicts {len(rows)} rows as the model does")


def scored_on_spark(model: HybridRegressor, rows: pd.DataFrame) -> None:
    """Score rows with the champion in two processes of Spark."""
    title("5. Score on Spark")
    if find_spec("pyspark") is None or shutil.which("java") is None:
        print('   left out: it needs Java and pip install "hybridflow[spark]"')
        return
    from pyspark.sql import SparkSession

    os.environ |= {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    local = {"spark.driver.host": "127.0.0.1", "spark.ui.enabled": "false"}
    spark = SparkSession.builder.master("local[2]").config(map=local).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    try:
        score = mlflow.pyfunc.spark_udf(
            spark,
            CHAMPION,
            result_type="prediction double, log_density double, novelty double",
            env_manager="local",
        )
        table = spark.createDataFrame(rows.astype(float)).repartition(2)
        scored = table.withColumn("answer", score(*rows.columns))
        found = scored.select(*rows.columns, "answer.*").toPandas()
    finally:
        spark.stop()
    answered = found[found["prediction"].notna()]
    expected = model.predict(answered[rows.columns])
    np.testing.assert_allclose(answered["prediction"], expected, rtol=1e-6)
    print(f"   {len(found)} rows, of which the model abstained on {len(found) - len(answered)}")
    print(found[["prediction", "log_density", "novelty"]].head(3).round(3).to_string())


if __name__ == "__main__":
    main()
