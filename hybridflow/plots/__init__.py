"""Pictures of a model, in the manner of scikit-learn's displays."""

from __future__ import annotations

from hybridflow.plots.coverage import CoverageDisplay
from hybridflow.plots.density import DensityHistogramDisplay
from hybridflow.plots.latent import LatentDisplay
from hybridflow.plots.learning import LearningCurveDisplay
from hybridflow.plots.rejection import RiskCoverageDisplay
from hybridflow.plots.reliability import ReliabilityDisplay
from hybridflow.plots.samples import SamplesDisplay
from hybridflow.plots.sweep import trade_off
from hybridflow.plots.tradeoff import TradeOffDisplay

__all__ = [
    "CoverageDisplay",
    "DensityHistogramDisplay",
    "LatentDisplay",
    "LearningCurveDisplay",
    "ReliabilityDisplay",
    "RiskCoverageDisplay",
    "SamplesDisplay",
    "TradeOffDisplay",
    "trade_off",
]
