"""Measures of probabilities, laws, rejection scores and coverage that scikit-learn has not."""

from __future__ import annotations

from hybridflow.metrics.calibration import (
    CalibrationBins,
    calibration_bins,
    expected_calibration_error,
    top_label,
)
from hybridflow.metrics.concordance import concordance_index
from hybridflow.metrics.coverage import coverage_band
from hybridflow.metrics.predictive import (
    negative_log_likelihood,
    pit_values,
    quantile_calibration_error,
)
from hybridflow.metrics.rejection import area_under_risk_coverage, risk_coverage_curve

__all__ = [
    "CalibrationBins",
    "area_under_risk_coverage",
    "calibration_bins",
    "concordance_index",
    "coverage_band",
    "expected_calibration_error",
    "negative_log_likelihood",
    "pit_values",
    "quantile_calibration_error",
    "risk_coverage_curve",
    "top_label",
]
