"""Write the golden bundles of this version beside this file; older ones stay as they are.

Run once per release: ``python tests/golden/write.py``. Each bundle comes with
rows and the answers that every later version must give for them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import hybridflow
from hybridflow import (
    FlowDensity,
    FlowOutlierDetector,
    HybridClassifier,
    HybridRegressor,
    TrainingConfig,
)
from hybridflow.flows import MAF, RealNVP, SplineCoupling

HERE = Path(__file__).parent


def main() -> None:
    """Fit one small model per estimator and write it with its answers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)) * [1.0, 100.0, 0.1]
    X[:, 2] = np.round(X[:, 2], 1)  # ties, and so the noise that is kept in the bundle
    y = X[:, 0] + rng.normal(size=len(X))
    training = TrainingConfig(steps=100)
    spline = SplineCoupling(layers=2, bins=4, hidden_units=8, hidden_layers=1)
    coupling = RealNVP(layers=2, hidden_units=8, hidden_layers=1)
    autoregressive = MAF(layers=1, hidden_units=8, hidden_layers=1)
    models = {
        "classifier": HybridClassifier(coupling, training=training, random_state=0).fit(
            X, np.array(["no", "perhaps", "yes"])[np.digitize(y, [-0.5, 0.5])]
        ),
        "regressor": HybridRegressor(spline, training=training, members=2, random_state=0).fit(
            X, y
        ),
        "density": FlowDensity(autoregressive, "mixture", training=training, random_state=0).fit(X),
        "detector": FlowOutlierDetector(spline, "student-t", training=training, random_state=0).fit(
            X
        ),
    }
    methods = {
        "classifier": ["score_samples", "predict_proba", "transform"],
        "regressor": ["score_samples", "predict", "transform"],
        "density": ["score_samples", "transform"],
        "detector": ["score_samples", "decision_function", "transform"],
    }
    rows = np.vstack([X[:5], [[0.0, 0.0, 0.0], [5.0, -400.0, 0.7]]])
    for name, model in models.items():
        path = HERE / f"{name}-{hybridflow.__version__}.hflow"
        model.save(path, overwrite=False)
        answers = {method: getattr(model, method)(rows).tolist() for method in methods[name]}
        document = {"X": rows.tolist(), "answers": answers}
        path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
