"""What a display asks of an estimator, and how it says that it is not there."""

from __future__ import annotations

from typing import Any

from hybridflow.errors import InputError


def answer(estimator: Any, method: str, *arguments: Any) -> Any:
    """Call a method of an estimator, or of what is at the end of a pipeline.

    Raises
    ------
    InputError
        If it has no such method.
    """
    if not hasattr(estimator, method):
        raise InputError(
            f"{type(estimator).__name__} has no {method}(), which this display needs; use "
            "from_predictions with numbers of your own"
        )
    return getattr(estimator, method)(*arguments)


def last_step(estimator: Any) -> Any:
    """Return the last step of a scikit-learn pipeline, any other estimator itself."""
    return estimator[-1] if hasattr(estimator, "named_steps") else estimator
