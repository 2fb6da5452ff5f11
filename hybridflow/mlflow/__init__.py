"""hybridflow in MLflow: a flavour of models, tracking of fits and of tuning.

Everything here needs the extra ``mlflow``. `save_model`, `log_model` and `load_model` are what
every flavour has, `_load_pyfunc` is what MLflow's servers and Spark load a model with.
"""

import warnings

from hybridflow.errors import require

require("mlflow", "mlflow")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what MLflow says of type hints of its own
    require("mlflow.pyfunc.model", "mlflow")

from hybridflow.mlflow.flavour import FLAVOUR, load_model, log_model, save_model  # noqa: E402
from hybridflow.mlflow.scoring import AnswerModel, _load_pyfunc  # noqa: E402, F401
from hybridflow.mlflow.signature import signature_of  # noqa: E402
from hybridflow.mlflow.studies import StudyCallback  # noqa: E402
from hybridflow.mlflow.tracking import TrackingCallback, autolog  # noqa: E402

__all__ = [
    "FLAVOUR",
    "AnswerModel",
    "StudyCallback",
    "TrackingCallback",
    "autolog",
    "load_model",
    "log_model",
    "save_model",
    "signature_of",
]
