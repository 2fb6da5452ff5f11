"""Checks of the constructor parameters that estimators share."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state

from hybridflow.errors import ConfigError
from hybridflow.schedule import Schedule


def check_likelihood_weight(value: Any) -> float | Schedule:
    """Return λ, a finite number of at least 0 or a schedule of such."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(
            "likelihood_weight must be a finite number >= 0 (0 is discriminative, the number of "
            f"columns the joint likelihood) or a Schedule, got {value!r}"
        )
    return float(value)


def check_choice(name: str, value: Any, options: tuple[str, ...]) -> None:
    """Raise ConfigError unless a parameter is one of its options."""
    if value not in options:
        raise ConfigError(f"{name} must be {' or '.join(map(repr, options))}, got {value!r}")


def check_time(value: Any) -> float | None:
    """Return a limit in seconds, a positive number or None."""
    if value is None:
        return None
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (number and 0 < value < math.inf):
        raise ConfigError(f"time_limit must be a positive number of seconds or None, got {value!r}")
    return float(value)


def check_members(value: Any) -> int:
    """Return the number of members, from 1 to 100."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= 100:
        raise ConfigError(f"members must be a whole number from 1 to 100, got {value!r}")
    return int(value)


def check_jobs(value: Any) -> int | None:
    """Return how many processes may work, a whole number other than 0 or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value == 0:
        raise ConfigError(
            f"n_jobs must be a whole number, -1 for as many as there are cores, or None, got "
            f"{value!r}"
        )
    return int(value)


def check_checkpoint(value: Any, random_state: Any, *, streamed: bool) -> Path | None:
    """Return the folder in which the runs of a fit are kept, or None."""
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ConfigError(f"checkpoint must be the path of a folder or None, got {value!r}")
    path = Path(os.fsdecode(value))
    if path.exists() and not path.is_dir():
        raise ConfigError(f"checkpoint must be a folder, and {path} is a file; name another path")
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer):
        raise ConfigError(
            f"checkpoint={os.fspath(value)!r} needs a fit that can be repeated, and random_state "
            f"is {random_state!r}; pass a whole number: random_state=0"
        )
    if streamed:
        raise ConfigError(
            "checkpoint: a fit to a table that is read in parts cannot be kept, since where it "
            "reads is not; raise its buffer to the number of rows, or leave checkpoint out"
        )
    return path


def check_dtype(value: Any, *, small: bool) -> torch.dtype:
    """Return the type of the networks in training."""
    known = {"float32": torch.float32, "float64": torch.float64}
    known["auto"] = torch.float64 if small else torch.float32
    if value not in known:
        raise ConfigError(f"dtype must be one of {', '.join(sorted(known))}, got {value!r}")
    return known[value]


def check_device(value: Any) -> torch.device:
    """Return a device that is there."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if value == "auto":
        return torch.device("cuda" if count else "cpu")
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError):
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be 'cpu', 'cuda', 'cuda:N' or 'auto', got {value!r}")
    if device.type == "cuda" and count == 0:
        raise ConfigError(f"no CUDA device for device={value!r}; use device='auto'")
    if device.type == "cuda" and (device.index or 0) >= count:
        have = ", ".join(f"'cuda:{i}'" for i in range(count))
        raise ConfigError(f"no device {value!r}; there are {have}")
    return device


def check_seed(value: Any) -> np.random.RandomState:
    """Return the random state of a seed."""
    try:
        state: np.random.RandomState = check_random_state(value)
    except ValueError as error:
        raise ConfigError(
            f"random_state: {error}; pass a whole number, a numpy RandomState or None"
        ) from None
    return state


def check_count(value: Any, features: int, most: int) -> int:
    """Return the number of rows to draw, if that many fit into `most` cells."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
        raise ConfigError(f"n_samples must be a whole number >= 0, got {value!r}")
    if value * max(1, features) > most:
        raise ConfigError(
            f"n_samples={value} rows of {features} columns do not fit into memory; draw at most "
            f"{most // max(1, features)} at a time"
        )
    return int(value)
