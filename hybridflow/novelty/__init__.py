"""How unusual rows are: scores, p-values calibrated on held-out rows, and reports."""

from __future__ import annotations

from hybridflow.novelty.calibration import Novelty, Source
from hybridflow.novelty.pvalues import (
    conformal_pvalue,
    harmonic_mean,
    log_tail,
    novelty_share,
    rows_needed,
    worst_case,
)
from hybridflow.novelty.report import NoveltyReport
from hybridflow.novelty.scores import COMBINED, SCORES, Fit, Reading, Score, fit_scores

__all__ = [
    "COMBINED",
    "SCORES",
    "Fit",
    "Novelty",
    "NoveltyReport",
    "Reading",
    "Score",
    "Source",
    "conformal_pvalue",
    "fit_scores",
    "harmonic_mean",
    "log_tail",
    "novelty_share",
    "rows_needed",
    "worst_case",
]
