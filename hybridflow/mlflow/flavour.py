"""The flavour: saving a fitted estimator as an MLflow model, and loading it again.

The data of the model is the bundle that `hybridflow.save` writes: tensors and JSON, nothing
pickled. So it loads where ``MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME, ModelInfo
from mlflow.models.utils import _save_example
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS
from mlflow.tracking.artifact_utils import _download_artifact_from_uri
from mlflow.utils.environment import _process_pip_requirements, _PythonEnv
from mlflow.utils.file_utils import get_total_file_size
from mlflow.utils.model_utils import _get_flavor_configuration
from sklearn.utils.validation import check_is_fitted

import hybridflow
from hybridflow.bundle import load, save
from hybridflow.errors import ConfigError
from hybridflow.estimators.base import FlowEstimator
from hybridflow.mlflow.signature import check_named, example_of, signature_of
from hybridflow.registry import Registry, default_registry

FLAVOUR = "hybridflow"
"""The name of the flavour in an ``MLmodel`` file."""

_DATA = "model.hflow"
_LOADER = "hybridflow.mlflow"
_BY_HAND = "local"


def requirements_of(estimator: FlowEstimator) -> list[str]:
    """Return the distributions that a model needs, each with its version.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector

    Returns
    -------
    list of str
        mlflow, hybridflow, and each distribution that provided a flow, base or head.

    Raises
    ------
    ConfigError
        If a component was registered by hand: nobody else can find it.
    """
    registry = estimator.registry or default_registry()
    blueprint = estimator.blueprint_
    parts = [("flow", blueprint.flow), ("base", blueprint.base)]
    parts += [("flow", other) for other in blueprint.others]
    if blueprint.head is not None:
        parts.append(("head", blueprint.head))
    found = {f"mlflow=={mlflow.__version__}", f"hybridflow=={hybridflow.__version__}"}
    for kind, config in parts:
        provider = registry.provider(kind, config)  # type: ignore[arg-type]
        if provider.distribution == _BY_HAND:
            raise ConfigError(
                f"the {kind} of this model was registered by hand, and a server could not find "
                "it: install it as a distribution with an entry point in the group 'hybridflow'"
            )
        if provider.distribution != "hybridflow":
            found.add(f"{provider.distribution}=={provider.version}")
    return sorted(found)


def save_model(
    model: FlowEstimator,
    path: str | os.PathLike[str],
    *,
    mlflow_model: Model | None = None,
    input_example: Any = None,
    pip_requirements: list[str] | None = None,
    extra_pip_requirements: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Save a fitted estimator as an MLflow model in a folder.

    Parameters
    ----------
    model : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
        Fitted.
    path : str or os.PathLike
        A folder that is empty or does not exist.
    mlflow_model : mlflow.models.Model, optional
        What the flavour is added to; `log_model` passes one.
    input_example : pandas.DataFrame or ndarray, optional
        Rows to show; two drawn from the model if not given.
    pip_requirements : list of str, optional
        Instead of mlflow, hybridflow and the distributions of plugins, each with its version.
    extra_pip_requirements : list of str, optional
        Beside them.
    metadata : dict, optional
        Anything that JSON can say, kept in the ``MLmodel`` file.

    Raises
    ------
    sklearn.exceptions.NotFittedError
        If the estimator is not fitted.
    ModelFileError
        If it cannot be saved.
    ConfigError
        If one of its parts was registered by hand.
    mlflow.exceptions.MlflowException
        If the folder is not empty.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from hybridflow import FlowDensity, TrainingConfig
    >>> from hybridflow.mlflow import load_model, save_model
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> model = FlowDensity(training=TrainingConfig(steps=5), random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, f"{folder}/density")
    ...     again = load_model(f"{folder}/density")
    >>> bool(np.allclose(again.score_samples(X), model.score_samples(X)))
    True
    """
    check_is_fitted(model, "models_")
    folder = Path(path).absolute()
    needed = requirements_of(model) if pip_requirements is None else None
    if folder.exists() and any(folder.iterdir()):
        raise MlflowException(
            f"{folder} already exists and is not empty", error_code=RESOURCE_ALREADY_EXISTS
        )
    folder.mkdir(parents=True, exist_ok=True)
    described = Model() if mlflow_model is None else mlflow_model
    described.signature = signature_of(model)
    example = example_of(model) if input_example is None else input_example
    if example is not None:
        _save_example(described, example, str(folder))
    if metadata is not None:
        described.metadata = metadata
    save(model, folder / _DATA)
    mlflow.pyfunc.add_to_model(
        described,
        loader_module=_LOADER,
        data=_DATA,
        conda_env="conda.yaml",
        python_env="python_env.yaml",
    )
    described.add_flavor(
        FLAVOUR,
        hybridflow_version=hybridflow.__version__,
        data=_DATA,
        estimator=type(model).__name__,
        serialization_format="safetensors",
    )
    described.model_size_bytes = get_total_file_size(str(folder))
    described.save(str(folder / MLMODEL_FILE_NAME))
    check_named(Model.load(str(folder)).signature)
    _write_environment(folder, needed, pip_requirements, extra_pip_requirements)


def log_model(
    model: FlowEstimator,
    name: str = "model",
    *,
    registered_model_name: str | None = None,
    input_example: Any = None,
    pip_requirements: list[str] | None = None,
    extra_pip_requirements: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
    run_id: str | None = None,
) -> ModelInfo:
    """Log a fitted estimator to MLflow, in the active run if there is one.

    Parameters
    ----------
    model : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
        Fitted.
    name : str, default="model"
    registered_model_name : str, optional
        Also make it a new version of this registered model.
    input_example, pip_requirements, extra_pip_requirements, metadata
        As in `save_model`.
    run_id : str, optional
        A run that is not active.

    Returns
    -------
    mlflow.models.model.ModelInfo
        Its ``model_uri`` loads the model; ``registered_model_version`` is that of the registry.

    Raises
    ------
    ModelFileError, ConfigError
        As `save_model`.
    mlflow.exceptions.MlflowException
        If the tracking server does not take it.

    Examples
    --------
    See the page about MLflow.
    """
    import hybridflow.mlflow as flavour

    info: ModelInfo = Model.log(
        artifact_path=None,
        name=name,
        flavor=flavour,
        flavor_name=FLAVOUR,
        registered_model_name=registered_model_name,
        run_id=run_id,
        model=model,
        input_example=input_example,
        pip_requirements=pip_requirements,
        extra_pip_requirements=extra_pip_requirements,
        metadata=metadata,
    )
    return info


def load_model(
    model_uri: str, dst_path: str | None = None, *, registry: Registry | None = None
) -> FlowEstimator:
    """Load the estimator of a saved, logged or registered model.

    Parameters
    ----------
    model_uri : str
        A folder, ``models:/name@champion``, ``models:/name/3``, ``models:/m-...`` or ``runs:/...``.
    dst_path : str, optional
        Where to download it to; a temporary folder if not given.
    registry : Registry, optional
        Where component names resolve; the default one if not given.

    Returns
    -------
    HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector

    Raises
    ------
    mlflow.exceptions.MlflowException
        If there is no such model, or one of another flavour.
    ModelFileError, PluginError
        As `hybridflow.load`.

    Examples
    --------
    See `save_model`.
    """
    folder = _download_artifact_from_uri(artifact_uri=model_uri, output_path=dst_path)
    flavour = _get_flavor_configuration(model_path=folder, flavor_name=FLAVOUR)
    return load(Path(folder) / Path(flavour["data"]).name, registry=registry)


def _write_environment(
    folder: Path, needed: list[str] | None, given: list[str] | None, extra: list[str] | None
) -> None:
    """Write what an environment for the model must hold, for pip and for conda."""
    conda, pinned, constraints = _process_pip_requirements(needed, given, extra)
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda, default_flow_style=False))
    (folder / "requirements.txt").write_text("\n".join(pinned))
    if constraints:
        (folder / "constraints.txt").write_text("\n".join(constraints))
    _PythonEnv.current().to_yaml(str(folder / "python_env.yaml"))
