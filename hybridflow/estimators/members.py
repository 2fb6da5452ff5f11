"""Fitting one member: build, initialise from the data, train, finish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hybridflow.batches import Rows
from hybridflow.callbacks import Callback
from hybridflow.errors import TrainingDivergedError
from hybridflow.estimators.blueprint import Blueprint
from hybridflow.estimators.finishing import finish_head
from hybridflow.model import HybridModel, check_contract
from hybridflow.registry import Registry
from hybridflow.training import Trainer, TrainingConfig, TrainingState

_ENOUGH = 4096  # rows from which quantiles are good; fewer are repeated with other noise
_FAR = 10.0  # standard deviations after the fitted marginals


def fit_member(
    blueprint: Blueprint,
    registry: Registry,
    rows: Rows,
    train: Tensor,
    held_out: Tensor,
    training: TrainingConfig,
    *,
    likelihood_weight: float,
    seed: int,
    dtype: torch.dtype,
    callbacks: Sequence[Callback],
    keyed: bool,
) -> tuple[HybridModel, TrainingState]:
    """Fit one member and return it, ready to answer in float64, with its training state.

    Parameters
    ----------
    blueprint : Blueprint
    registry : Registry
    rows : Rows
        All rows.
    train, held_out : Tensor of int
        Positions of the rows to train on and to stop early on.
    training : TrainingConfig
    likelihood_weight : float
    seed : int
    dtype : torch.dtype
        Of the networks in training.
    callbacks : sequence of Callback
    keyed : bool
        See `Trainer`.
    """
    model = blueprint.build(registry, seed).to(rows.x.device)
    mine = rows[train.to(rows.x.device)]
    name = registry.resolve("flow", blueprint.flow)[0].name
    head = None if blueprint.head is None else registry.resolve("head", blueprint.head)[0]
    initialize(model, mine, seed, name, mixes=head is not None and head.requires_base is None)
    model.network_to(dtype)
    trainer = Trainer(
        model,
        tame(model, mine),
        tame(model, rows[held_out.to(rows.x.device)]) if len(held_out) else None,
        training,
        likelihood_weight=likelihood_weight,
        seed=seed,
        callbacks=callbacks,
        keyed=keyed,
    )
    try:
        state = trainer.run()
    except TrainingDivergedError as error:
        raise TrainingDivergedError(f"flow {name!r}: {error}") from None
    model.eval()
    model.flow.finish(((model.preprocess(mine.x)[0].to(dtype), None),), mine.weight)
    model.network_to(torch.float64)
    finish_head(model, tame(model, mine))
    return model.requires_grad_(False), state


@torch.no_grad()
def tame(model: HybridModel, rows: Rows) -> Rows:
    """Pull cells far out of the fitted marginals back to where they begin.

    The gradient of a row grows with its distance: a single cell a million
    deviations out would make up the whole clipped gradient of its batch.
    """
    standard, _ = model.preprocess(rows.x)
    far = standard.abs() > _FAR
    if not far.any():
        return rows
    edge, _ = model.preprocess.inverse(standard.clamp(-_FAR, _FAR))
    return replace(rows, x=torch.where(far, edge, rows.x))


@torch.no_grad()
def initialize(model: HybridModel, rows: Rows, seed: int, name: str, *, mixes: bool = True) -> None:
    """Give every part its data-dependent start, in order, in float64.

    A head that reads the base (`mixes` is False) gets z in the coordinates of the base.

    Raises
    ------
    PluginContractError
        If the flow, which is called `name`, does not keep its contract.
    """
    x, weight, clean, y = rows.x, rows.weight, rows.x, codes(rows)
    if model.noised:
        # The same few draws for every row keep a weight equal to a repetition.
        copies = len(model.noise) if len(x) < _ENOUGH else 1
        if copies > 1:
            x = model.dequantise(x[None], model.noise[:, None]).flatten(0, 1)
            weight = weight.repeat(copies)
            y = None if y is None else y.repeat(copies, 1)
        else:
            generator = torch.Generator().manual_seed(seed)
            uniform = torch.rand(x.shape, generator=generator, dtype=torch.float64)
            x = model.dequantise(x, uniform.to(x.device))
    model.preprocess.initialize(x, weight=weight)
    standard = model.preprocess(x)[0].clamp(-_FAR, _FAR)
    model.flow.initialize(standard, weight=weight)
    if model.event.features:
        check_contract(model.flow, model.event, name, standard[:5])
    z, _ = model.flow(standard)
    model.base.initialize(z, y=y, weight=weight)
    if model.head is not None and rows.targets is not None:
        if mixes:
            model.fit_mixing(z, standard, weight)
        labelled = rows.targets.labelled
        clean_z = model.readout(model.latent(clean[labelled])[0])
        model.head.initialize(clean_z, None, rows.targets[labelled], rows.task_weight[labelled])


def codes(rows: Rows) -> Tensor | None:
    """Return the values of the targets, shape (n, k), NaN where not observed."""
    if rows.targets is None:
        return None
    return torch.where(rows.targets.observed, rows.targets.values, torch.nan)
