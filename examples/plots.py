"""Eight pictures of two models: run it with ``python examples/plots.py``.

Writes them as PNG files into the folder ``plots``, or into the one that is given.
"""

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from sklearn.datasets import load_diabetes, load_wine
from sklearn.model_selection import train_test_split

from hybridflow import HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.plots import (
    CoverageDisplay,
    DensityHistogramDisplay,
    LatentDisplay,
    LearningCurveDisplay,
    ReliabilityDisplay,
    RiskCoverageDisplay,
    SamplesDisplay,
    TradeOffDisplay,
)

mpl.use("Agg")  # files, no windows
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "plots")
folder.mkdir(parents=True, exist_ok=True)
training = TrainingConfig(steps=40)  # the default trains longer

X, y = load_wine(return_X_y=True, as_frame=True)
X = X[["alcohol", "flavanoids", "color_intensity", "proline"]]
cultivars = np.array(["Barolo", "Grignolino", "Barbera"])[y]
X_train, X_test, y_train, y_test = train_test_split(X, cultivars, test_size=0.4, random_state=0)
classifier = HybridClassifier(training=training, random_state=0).fit(X_train, y_train)

rows, target = load_diabetes(return_X_y=True)
rows_train, rows_test, target_train, target_test = train_test_split(rows, target, random_state=0)
regressor = HybridRegressor(training=training, random_state=0).fit(rows_train, target_train)
older = np.where(rows_test[:, 0] > 0, "older half", "younger half")

displays = {
    "learning": LearningCurveDisplay.from_estimator(regressor),
    "reliability": ReliabilityDisplay.from_estimator(regressor, rows_test, target_test),
    "risk": RiskCoverageDisplay.from_estimator(regressor, rows_test, target_test),
    "coverage": CoverageDisplay.from_estimator(regressor, rows_test, target_test, groups=older),
    "density": DensityHistogramDisplay.from_estimator(
        classifier, {"train": X_train, "test": X_test, "a fifth larger": 1.2 * X_test}
    ),
    "latent": LatentDisplay.from_estimator(classifier, X_train, y_train),
    "samples": SamplesDisplay.from_estimator(classifier, X_train, random_state=0),
    "trade-off": TradeOffDisplay.from_estimator(classifier, X, cultivars, [0.0, 4.0], cv=2),
}
for name, display in displays.items():
    display.figure_.savefig(folder / f"{name}.png", dpi=120)
    print("wrote", folder / f"{name}.png")
