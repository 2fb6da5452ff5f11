"""Masked networks: their one pass, their feature-by-feature sweeps, and the adjoint of these."""

from hybridflow.masked.adjoint import solve_adjoint
from hybridflow.masked.net import MaskedMLP
from hybridflow.masked.sweeps import BlockedSweep, FunctionalSweep, Sweep

__all__ = ["BlockedSweep", "FunctionalSweep", "MaskedMLP", "Sweep", "solve_adjoint"]
