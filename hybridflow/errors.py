"""The errors and warnings of hybridflow, by who can act on them.

Every error derives from `HybridFlowError`; most also derive from the built-in
type that callers already catch (`ValueError`, `ImportError`, `RuntimeError`).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class HybridFlowError(Exception):
    """Base class of every error that hybridflow raises on purpose."""


class InputError(HybridFlowError, ValueError):
    """Data that cannot be used: the message names the argument, place and fix."""


class InputTypeError(InputError, TypeError):
    """Data of a kind that is never a table, such as a generator or a matrix."""


class ConfigError(HybridFlowError, ValueError):
    """A parameter, name or setting outside what is allowed."""


class ConcurrentFitError(HybridFlowError, RuntimeError):
    """`fit` was called on an estimator that is being fitted in another thread."""


class TrainingDivergedError(HybridFlowError, RuntimeError):
    """Training met non-finite values again and again and was given up."""


class LostProcessError(HybridFlowError, RuntimeError):
    """A process that took part in a fit ended without an answer: it crashed or was killed."""


class TuningError(HybridFlowError, RuntimeError):
    """A search could not go on: its storage is out of reach, or no trial succeeds."""


class InverseError(HybridFlowError, RuntimeError):
    """An inverse that is found by iteration did not reach its tolerance."""


class InexactModelError(HybridFlowError, RuntimeError):
    """The audit of a fitted model found that it is not the map or density it says it is."""


class ExportError(HybridFlowError, RuntimeError):
    """A model has no graph, or its graph does not answer as the model does."""


class MissingExtraError(HybridFlowError, ImportError):
    """An optional dependency is not installed."""


class ModelFileError(HybridFlowError):
    """Base class of what can be wrong with a saved model."""


class CorruptModelError(ModelFileError):
    """The file is damaged: truncated, changed, or inconsistent with itself."""


class UnsupportedFormatError(ModelFileError):
    """The file is not a hybridflow bundle."""


class IncompatibleModelError(ModelFileError):
    """The bundle needs another version of hybridflow or of a plugin."""


class MissingPluginError(ModelFileError):
    """The bundle uses a component whose distribution is not installed."""


class UnsafePathError(ModelFileError):
    """The path is not a regular file (a device, a pipe, a loop of links)."""


class ModelSelfTestError(ModelFileError):
    """The loaded model does not reproduce the outputs stored with it."""


class ResourceLimitError(ModelFileError):
    """The request needs more memory than is allowed; nothing was allocated."""


class PluginError(HybridFlowError):
    """Base class of what can be wrong with a plugin."""


class PluginLoadError(PluginError):
    """A plugin could not be imported."""


class PluginContractError(PluginError):
    """A plugin does not keep the contract of its hook or component."""


class DuplicatePluginError(PluginError):
    """Two distributions offer a component of the same name."""


class HybridFlowWarning(UserWarning):
    """Base class of every warning that hybridflow issues."""


class SmallSampleWarning(HybridFlowWarning):
    """So few rows that no validation split is made."""


class ConstantFeatureWarning(HybridFlowWarning):
    """A column holds one value and is left out of the density."""


class DegenerateFeaturesWarning(HybridFlowWarning):
    """Columns are duplicates or combinations of others: their density is singular."""


class HighCardinalityWarning(HybridFlowWarning):
    """Columns have so many levels that most have few rows."""


class IdentifierWarning(HybridFlowWarning):
    """Columns number the rows."""


class UnseenCategoryWarning(HybridFlowWarning):
    """Rows hold levels that the training rows did not hold."""


class UnseenMissingWarning(HybridFlowWarning):
    """Cells are missing in columns that had no missing cell in training."""


class RareClassWarning(HybridFlowWarning):
    """A class has too few rows to be held out."""


class ConstantTargetWarning(HybridFlowWarning):
    """The regression target holds one value."""


class UncalibratedWarning(HybridFlowWarning):
    """Too few rows were held out for the coverage asked for: the answer is everything."""


class NonIntegerCountWarning(HybridFlowWarning):
    """A count likelihood was given values that are not whole numbers."""


class IndexMismatchWarning(HybridFlowWarning):
    """X and y have the same index labels in another order; rows pair by position."""


class InterruptedFitWarning(HybridFlowWarning):
    """Training was interrupted; the best weights so far are kept."""


class CheckpointWarning(HybridFlowWarning):
    """A checkpoint could not be written; the one before it is kept, and training goes on."""


class InexactModelWarning(HybridFlowWarning):
    """A model whose audit was bad is being saved."""


class DriftWarning(HybridFlowWarning):
    """Inputs rebuilt by an inverse were too inexact for gradients and are recomputed."""


class TrackingWarning(HybridFlowWarning):
    """What a fit reports did not reach the tracking server; the fit itself is done."""


class SlowPluginWarning(HybridFlowWarning):
    """Importing a plugin takes unusually long."""


class PluginVersionWarning(HybridFlowWarning):
    """A bundle was written with another version of a plugin, and passed its self-test."""


class BrokenPluginWarning(HybridFlowWarning):
    """A plugin was quarantined; `hybridflow plugins list --load` gives the reason."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency or say which extra brings it.

    Parameters
    ----------
    module : str
        Name of the module to import.
    extra : str
        The extra of hybridflow that installs it.

    Returns
    -------
    types.ModuleType
        The imported module.

    Raises
    ------
    MissingExtraError
        If the module is not installed.

    Examples
    --------
    >>> from hybridflow.errors import require
    >>> require("json", "mlflow").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(
            f'this needs {module}, which is not installed: pip install "hybridflow[{extra}]"'
        ) from error


def closest(word: str, options: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the option nearest to `word`, or ``""``.

    Parameters
    ----------
    word : str
    options : iterable of str

    Returns
    -------
    str

    Examples
    --------
    >>> from hybridflow.errors import closest
    >>> closest("realvnp", ["maf", "realnvp"])
    "; did you mean 'realnvp'?"
    """
    matches = difflib.get_close_matches(word, list(options), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
