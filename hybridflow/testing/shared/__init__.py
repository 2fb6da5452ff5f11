"""Checks that hold for flows, bases and heads alike."""

from __future__ import annotations

from hybridflow.testing.shared import description, gradients, process, rows, starting, state

CHECKS = (
    *description.CHECKS,
    *rows.CHECKS,
    *state.CHECKS,
    *gradients.CHECKS,
    *starting.CHECKS,
    *process.CHECKS,
)
