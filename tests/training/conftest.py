"""Small rows, a small model and a trainer for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hybridflow.batches import Rows
from hybridflow.densities import Normal
from hybridflow.flows import RealNVP
from hybridflow.guards import building
from hybridflow.likelihoods import (
    Categorical,
    Gaussian,
    GeneralizedLinear,
    LinearBasis,
    TargetBatch,
)
from hybridflow.model import HybridModel
from hybridflow.registry import default_registry
from hybridflow.specs import Event, Target
from hybridflow.training import Trainer, TrainingConfig
from hybridflow.transforms import Standardize

MakeRows = Callable[..., Rows]
MakeModel = Callable[..., HybridModel]
MakeTrainer = Callable[..., Trainer]


def rows(n: int = 60, unlabelled: int = 0, classes: int = 3, seed: int = 0) -> Rows:
    """Return n rows of three columns, the last on whole numbers, weighted, with labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=generator, dtype=torch.float64) * 2 + 1
    x[:, 2] = x[:, 2].round()
    labels = (x[:, :1] + 0.5 * x[:, 1:2] > 1).double() + (x[:, 1:2] > 2).double()
    observed = torch.arange(n)[:, None] >= unlabelled
    weight = torch.rand(n, generator=generator, dtype=torch.float64) + 0.5
    task_weight = weight * torch.tensor([1.0, 3.0, 0.5]).double()[labels[:, 0].long()]
    return Rows(x, TargetBatch(labels.clamp(max=classes - 1), observed), weight, task_weight)


def model(
    table: Rows,
    head: str | None = "categorical",
    noised: bool = False,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    away: float = 0.0,
) -> HybridModel:
    """Return a model of a few dozen weights, initialised on the table.

    `away` is the size of random steps from the start, at which a flow is the identity.
    """
    event = Event.real(3)
    with building(seed):
        spec, config = default_registry().resolve(
            "flow", RealNVP(layers=2, hidden_units=8, hidden_layers=1)
        )
        flow = spec.build(event, config)
        likelihood = None
        if head == "categorical":
            likelihood = Categorical(Target(kind="classification", classes=("a", "b", "c")))
        elif head == "gaussian":
            likelihood = Gaussian(Target(kind="regression", location=(1.0,), scale=(2.0,)))
        linear = None if likelihood is None else GeneralizedLinear(LinearBasis(event), likelihood)
        built = HybridModel(
            event,
            Standardize(3),
            flow,
            Normal(3),
            linear,
            step=torch.tensor([0.0, 0.0, float(noised)]),
            lattice=torch.tensor([False, False, noised]),
            origin=torch.zeros(3),
        )
        built.network_to(torch.float64)
        built.preprocess.initialize(table.x, weight=table.weight)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter += away * torch.randn_like(parameter)
            if away:
                built.mixing.copy_(torch.randn(built.mixing.shape))
    built.network_to(dtype)
    return built


@pytest.fixture
def make_rows() -> MakeRows:
    return rows


@pytest.fixture
def make_model() -> MakeModel:
    return model


@pytest.fixture
def make_trainer() -> MakeTrainer:
    def make(
        table: Rows | None = None,
        held_out: Rows | None = None,
        *,
        head: str | None = "categorical",
        noised: bool = False,
        dtype: torch.dtype = torch.float64,
        away: float = 0.0,
        likelihood_weight: float = 0.3,
        seed: int = 0,
        callbacks: tuple = (),
        keyed: bool = False,
        **config: object,
    ) -> Trainer:
        table = rows() if table is None else table
        return Trainer(
            model(table, head, noised, dtype, seed, away),
            table,
            held_out,
            TrainingConfig(**config),
            likelihood_weight=likelihood_weight,
            seed=seed,
            callbacks=callbacks,
            keyed=keyed,
        )

    return make
