"""The scikit-learn estimators."""

from hybridflow.estimators.classifier import HybridClassifier
from hybridflow.estimators.density import FlowDensity
from hybridflow.estimators.outlier import FlowOutlierDetector
from hybridflow.estimators.regressor import HybridRegressor

__all__ = ["FlowDensity", "FlowOutlierDetector", "HybridClassifier", "HybridRegressor"]
