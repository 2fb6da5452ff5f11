"""Optuna, the engine of the search. The one module that imports it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from hybridflow.errors import require

try:
    import optuna
except ModuleNotFoundError:
    require("optuna", "tune")  # names the extra that brings it
    raise

__all__ = ["optuna", "quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Let Optuna log no more than warnings in a block, and not warn of what it calls experimental.

    What is told of a search is told by `hybridflow.tuning.Progress`.
    """
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
