"""A small table, a model that is quick to fit, and a flow that can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import optuna
import pytest

from hybridflow import Config, FlowSpec, HybridRegressor, Registry, TrainingConfig, hookimpl
from hybridflow.config import Choice, Int
from hybridflow.flows import RealNVP
from hybridflow.heads import GaussianHead


class Moody(Config):
    """A flow of a plugin."""

    mood: Annotated[Literal["fine", "raises", "refuses"], Choice(("fine", "raises", "refuses"))] = (
        "fine"
    )
    hidden_units: Annotated[int, Int(4, 8)] = 4


def build(event: Any, config: Moody) -> Any:
    from hybridflow.errors import ConfigError
    from hybridflow.flows.affine import build_coupling

    if config.mood == "raises":
        raise ZeroDivisionError("in a bad mood")
    if config.mood == "refuses":
        raise ConfigError("not this table")
    return build_coupling(event, RealNVP(layers=2, hidden_units=config.hidden_units))


class Plugin:
    @hookimpl
    def hybridflow_flows(self) -> list[FlowSpec]:
        return [FlowSpec("moody", "A flow for tests", Moody, build)]


@pytest.fixture
def registry() -> Registry:
    registry = Registry(entry_points=False)
    registry.register(Plugin())
    return registry


class Scripted(optuna.samplers.RandomSampler):
    """Gives the n-th trial the n-th of some values."""

    def __init__(self, values: dict[str, list[Any]]) -> None:
        super().__init__(seed=0)
        self.values = values

    def sample_independent(self, study, trial, param_name, param_distribution):
        values = self.values.get(param_name)
        if values is None:
            return super().sample_independent(study, trial, param_name, param_distribution)
        return values[trial.number]


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture(scope="session")
def table() -> tuple[np.ndarray, np.ndarray]:
    """Rows of two columns, and a number that follows from them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(260, 2)) @ [[1.0, 0.7], [0.0, 0.5]]
    return X, X[:, 0] - X[:, 1] + 0.3 * rng.normal(size=260)


@pytest.fixture
def quick() -> Callable[..., HybridRegressor]:
    """Return a model that is fitted in a fraction of a second."""

    def make(**params: Any) -> HybridRegressor:
        given: dict[str, Any] = {
            "flow": RealNVP(layers=2, hidden_units=4, hidden_layers=1),
            "head": GaussianHead(basis="identity"),
            "training": TrainingConfig(steps=40, evaluations=10),
        }
        return HybridRegressor(**{**given, **params})

    return make


@pytest.fixture
def small() -> dict[str, Any]:
    """A space with nothing in it that takes long."""
    return {
        "flow__layers": 2,
        "flow__hidden_units": Int(4, 8),
        "flow__hidden_layers": 1,
        "head__basis": "identity",
        "training__batch_size": 256,
    }


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "study.journal"
