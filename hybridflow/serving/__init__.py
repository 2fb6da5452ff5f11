"""Serving a model over HTTP: the protocol of MLflow's scoring server, with guards.

Needs FastAPI and uvicorn, which the extra ``serve`` brings, and ``mlflow`` too.
"""

from hybridflow.serving.limits import Limits

__all__ = ["Limits"]
