"""Calibration on held-out rows: temperature, prediction intervals, prediction sets.

Plain numpy, float64. What is learned is a `Calibration`, a frozen config that
a bundle keeps; nothing here knows of networks or tables.
"""

from __future__ import annotations

from hybridflow.calibration.conformal import Calibration, Conformal, Fold
from hybridflow.calibration.intervals import interval, tail_probability
from hybridflow.calibration.sets import prediction_set
from hybridflow.calibration.temperature import fit_temperature, tempered

__all__ = [
    "Calibration",
    "Conformal",
    "Fold",
    "fit_temperature",
    "interval",
    "prediction_set",
    "tail_probability",
    "tempered",
]
