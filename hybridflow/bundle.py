"""Bundles: saving a fitted estimator to one file and loading it again.

The file is a container (`hybridflow.container`): tensors and one JSON document
with the estimator, its components with their configs and the distributions
that they come from, columns, target, training history, and a few probe rows
drawn from the model, never training rows, with the model's answers to them.
Loading resolves every name through the registry, compares every tensor with
the architecture, and asks the model its probe rows again. Nothing in a file is
unpickled, executed, or imported by name.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridflow.container import read_container, read_document, write_container
from hybridflow.errors import (
    CorruptModelError,
    IncompatibleModelError,
    InexactModelWarning,
    ModelFileError,
    ModelSelfTestError,
    PluginVersionWarning,
)
from hybridflow.provenance import Component, components_of, install_command, other_versions
from hybridflow.registry import Registry, default_registry
from hybridflow.verdict import REMEDY, Audit

if TYPE_CHECKING:
    from hybridflow.estimators.base import FlowEstimator


@dataclass(frozen=True)
class Verification:
    """What `verify` found; a bundle that cannot be trusted raises instead.

    Parameters
    ----------
    estimator : str
        Name of the estimator's class.
    sha256 : str
        The digest, which was compared.
    components : tuple of Component
        All installed.
    other_versions : tuple of str
        Plugins installed in another version than the bundle was written with.
    parameters : int
        Numbers in the tensors of all members.
    probe_rows : int
        Rows asked again.
    differences : dict of str to float
        Largest difference of each answer, relative to 1 + its magnitude.
    audit : Audit or None
        What the audit at the end of the fit found; None in files without it.

    Examples
    --------
    See `verify`.
    """

    estimator: str
    sha256: str
    components: tuple[Component, ...]
    other_versions: tuple[str, ...]
    parameters: int
    probe_rows: int
    differences: dict[str, float]
    audit: Audit | None


def save(estimator: FlowEstimator, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
    """Write a fitted estimator to one file, atomically.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
        Callbacks, splitters, random states and registries are not stored.
    path : str or os.PathLike
        Where the file shall be; ``.hflow`` is the usual suffix.
    overwrite : bool, default=True
        Whether an existing file may be replaced.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ModelFileError
        If it cannot be stored: a class of one's own, weights that are not finite.
    FileExistsError, UnsafePathError, OSError
        As `hybridflow.atomic.atomic_write`.

    Warns
    -----
    InexactModelWarning
        If the audit of the fitted model was bad.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from hybridflow import FlowDensity, TrainingConfig, load
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = FlowDensity("nice", training=TrainingConfig(steps=5), random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.hflow")
    ...     again = load(f"{folder}/model.hflow")
    >>> bool(np.allclose(again.score_samples(X), model.score_samples(X)))
    True
    """
    from sklearn.utils.validation import check_is_fitted

    from hybridflow import selftest
    from hybridflow.estimators.state import to_state
    from hybridflow.restoring import ESTIMATORS

    if type(estimator) not in ESTIMATORS.values():
        raise ModelFileError(
            f"only {', '.join(ESTIMATORS)} themselves can be saved, got {type(estimator)!r}"
        )
    check_is_fitted(estimator, "models_")
    if estimator.audit_ is not None and not estimator.audit_.ok:
        warnings.warn(
            f"the saved model is inexact, and cannot be exported: "
            f"{'; '.join(map(str, estimator.audit_.bad))}. {REMEDY}",
            InexactModelWarning,
            stacklevel=2,
        )
    document, tensors = to_state(estimator)
    registry = estimator.registry or default_registry()
    for kind, component in document["components"].items():
        provider = registry.provider(kind, getattr(estimator.blueprint_, kind))
        component.update(distribution=provider.distribution, version=provider.version)
    document["event"] = estimator.blueprint_.event.model_dump(mode="json")
    document["probe"] = selftest.probe(estimator)
    write_container(path, document, tensors, overwrite=overwrite)


def load(path: str | os.PathLike[str], *, registry: Registry | None = None) -> FlowEstimator:
    """Read a fitted estimator from a file, on the CPU, and let it prove itself.

    Parameters
    ----------
    path : str or os.PathLike
        What `save` wrote.
    registry : Registry, optional
        Where component names resolve; the default one if not given.

    Returns
    -------
    HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector

    Raises
    ------
    CorruptModelError, UnsupportedFormatError, UnsafePathError
        If the file is damaged, inconsistent, of another kind, or no file.
    MissingPluginError
        If a component's distribution is not installed; the message says what to install.
    IncompatibleModelError
        If it needs another version of hybridflow or of a plugin.
    ModelSelfTestError
        If the model answers its probe rows otherwise than when it was saved.
    ResourceLimitError
        If the description asks for far more memory than the file's tensors have.
    PluginError
        If a plugin that it needs is installed but broken.
    OSError
        If the file is missing or not readable.

    Warns
    -----
    PluginVersionWarning
        If a plugin is installed in another version, and all checks passed.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from hybridflow import FlowDensity, TrainingConfig, load
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> model = FlowDensity("nice", training=TrainingConfig(steps=5), random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.hflow")
    ...     type(load(f"{folder}/model.hflow")).__name__
    'FlowDensity'
    """
    estimator, verification = _load(path, registry)
    if verification.other_versions:
        warnings.warn(
            f"{os.fsdecode(path)}: {'; '.join(verification.other_versions)}. The self-test over "
            f"{verification.probe_rows} rows passed",
            PluginVersionWarning,
            stacklevel=2,
        )
    return estimator


def inspect(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the description in a bundle; builds nothing and does not import torch.

    Parameters
    ----------
    path : str or os.PathLike
        What `save` wrote.

    Returns
    -------
    dict
        Plain JSON: ``estimator``, ``params``, ``components``, ``schema``,
        ``target``, ``histories``, ``probe`` and more. The digest was compared.

    Raises
    ------
    ModelFileError, OSError
        As `load`, for what concerns the file alone.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from hybridflow import FlowDensity, TrainingConfig
    >>> from hybridflow.bundle import inspect
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> model = FlowDensity("nice", training=TrainingConfig(steps=5), random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.hflow")
    ...     inspect(f"{folder}/model.hflow")["components"]["flow"]["name"]
    'nice'
    """
    return read_document(path)


def verify(path: str | os.PathLike[str], *, registry: Registry | None = None) -> Verification:
    """Check a bundle as `load` does, and report what was checked.

    Parameters
    ----------
    path : str or os.PathLike
        What `save` wrote.
    registry : Registry, optional
        Where component names resolve; the default one if not given.

    Returns
    -------
    Verification

    Raises
    ------
    ModelFileError, PluginError, OSError
        As `load`.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from hybridflow import FlowDensity, TrainingConfig
    >>> from hybridflow.bundle import verify
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> model = FlowDensity("nice", training=TrainingConfig(steps=5), random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.hflow")
    ...     found = verify(f"{folder}/model.hflow")
    >>> found.estimator, found.probe_rows
    ('FlowDensity', 8)
    """
    return _load(path, registry)[1]


def _load(
    path: str | os.PathLike[str], registry: Registry | None
) -> tuple[FlowEstimator, Verification]:
    from hybridflow.restoring import restore

    document, tensors = read_container(path)
    try:
        components = components_of(document)
        others = other_versions(components, registry or default_registry())
        try:
            estimator, differences = restore(document, tensors, components, registry)
        except CorruptModelError as error:
            if not others:
                raise
            # What is whole but does not fit was made by other code.
            raise IncompatibleModelError(f"{error}; {_remedy(components, others)}") from error
        except ModelSelfTestError as error:
            raise ModelSelfTestError(f"{error}; {_remedy(components, others)}") from error
    except ModelFileError as error:
        raise type(error)(f"{os.fsdecode(path)}: {error}") from error
    verification = Verification(
        estimator=document["estimator"],
        sha256=document["sha256"],
        components=components,
        other_versions=others,
        parameters=sum(p.numel() for model in estimator.models_ for p in model.parameters()),
        probe_rows=len(document["probe"]["rows"]),
        differences=differences,
        audit=estimator.audit_,
    )
    return estimator, verification


def _remedy(components: tuple[Component, ...], others: tuple[str, ...]) -> str:
    if not others:
        return "the same versions are installed, so the code or a library under it changed"
    return f"{'; '.join(others)}: {install_command(components)}"
