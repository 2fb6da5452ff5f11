"""Fitting one member: build, initialise from the data, train, finish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybridflow.batches import Rows
from hybridflow.callbacks import Callback
from hybridflow.checkpoint import Checkpoint, identify
from hybridflow.contract import check_contract
from hybridflow.distributed import current
from hybridflow.errors import TrainingDivergedError
from hybridflow.estimators.blueprint import Blueprint
from hybridflow.estimators.finishing import finish_head
from hybridflow.estimators.streaming import Stream, Windows
from hybridflow.model import HybridModel
from hybridflow.registry import Registry
from hybridflow.schedule import Schedule
from hybridflow.training import Trainer, TrainingConfig, TrainingState

_ENOUGH = 4096  # rows from which quantiles are good; fewer are repeated with other noise
_COPIES = 32
_FAR = 10.0  # standard deviations after the fitted marginals


def fit_member(
    blueprint: Blueprint,
    registry: Registry,
    rows: Rows,
    train: Tensor,
    held_out: Tensor,
    training: TrainingConfig,
    *,
    likelihood_weight: float | Schedule,
    seed: int,
    dtype: torch.dtype,
    callbacks: Sequence[Callback],
    keyed: bool,
    seconds: float | None = None,
    stream: Stream | None = None,
    unseen: NDArray[np.int64] | None = None,
    checkpoint: Path | None = None,
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
    likelihood_weight : float or Schedule
    seed : int
    dtype : torch.dtype
        Of the networks in training.
    callbacks : sequence of Callback
    keyed : bool
        See `Trainer`.
    seconds : float, optional
        See `Trainer`.
    stream : Stream, optional
        Where batches come from, if `rows` are a sample of a file.
    unseen : ndarray of int, optional
        Positions in the file of the rows of the sample that are held out.
    checkpoint : Path, optional
        Where the run is kept, and goes on from.
    """
    group = current()
    if not group.alone:
        numbers = (len(rows), rows.x.nan_to_num().sum(), rows.task_weight.sum(), seed)
        group.check_same(
            torch.tensor([float(number) for number in numbers]),
            "have different rows, weights or seeds; read the same table on every rank, and pass "
            "the same integer: random_state=0",
        )
    model = blueprint.build(registry, seed).to(rows.x.device)
    mine = rows[train.to(rows.x.device)]
    name = registry.resolve("flow", blueprint.flow)[0].name
    head = None if blueprint.head is None else registry.resolve("head", blueprint.head)[0]
    mixes = head is not None and head.requires_base is None
    if group.first:
        initialize(model, mine, seed, name, mixes=mixes, blur=training.noise or 0.0)
    group.send_model(model)
    model.network_to(dtype)
    source = None
    if stream is not None and unseen is not None:
        source = partial(Windows, stream, unseen, partial(usable, model))
    kept = None
    if checkpoint is not None:
        settings = (blueprint, training, likelihood_weight, seed, dtype, keyed)
        kept = Checkpoint(checkpoint, identify((rows, train, held_out), settings))
    trainer = Trainer(
        model,
        tame(model, mine),
        tame(model, rows[held_out.to(rows.x.device)]) if len(held_out) else None,
        training,
        likelihood_weight=likelihood_weight,
        seed=seed,
        callbacks=callbacks,
        keyed=keyed,
        seconds=seconds,
        source=source,
        save=None if kept is None else kept.save,
    )
    if kept is not None:
        kept.resume(trainer)
        group.check_same(
            torch.tensor([float(trainer.state.step)]),
            "found different checkpoints; give all of them one folder that they share",
        )
    try:
        state = trainer.run()
    except TrainingDivergedError as error:
        raise TrainingDivergedError(f"flow {name!r}: {error}") from None
    model.eval()
    finish(model, mine)
    model.network_to(torch.float64)
    finish_head(model, tame(model, mine))
    group.send_model(model)
    return model.requires_grad_(False), state


def usable(model: HybridModel, rows: Rows) -> Rows:
    """Return rows of a file as a model in training takes them."""
    if model.head is not None and rows.targets is not None:
        model.head.check(rows.targets)
    return tame(model, rows.to(model.step.device))


@torch.no_grad()
def tame(model: HybridModel, rows: Rows) -> Rows:
    """Pull cells far out of the fitted marginals back to where they begin.

    The gradient of a row grows with its distance: a single cell a million
    deviations out would make up the whole clipped gradient of its batch.
    """
    numbers, _ = model.layout.split(rows.x)
    complete, _ = model.complete(numbers, numbers.isnan())
    standard, _ = model.preprocess(complete)
    far = standard.abs() > _FAR
    if not far.any():
        return rows
    edge, _ = model.preprocess.inverse(standard.clamp(-_FAR, _FAR))
    x = rows.x.clone()
    x[:, list(model.layout.numbers)] = torch.where(far, edge, numbers)
    return replace(rows, x=x)


@torch.no_grad()
def finish(model: HybridModel, rows: Rows) -> None:
    """Let the flow see the training rows once more, after training."""
    numbers, given = model.layout.split(rows.x)
    complete, _ = model.complete(numbers, numbers.isnan())
    standard = model.preprocess(complete)[0].to(model.dtype)
    model.flow.finish(((standard, model.context(given)),), rows.weight)


@torch.no_grad()
def initialize(
    model: HybridModel,
    rows: Rows,
    seed: int,
    name: str,
    *,
    mixes: bool = True,
    blur: float = 0.0,
) -> None:
    """Give every part its data-dependent start, in order, in float64.

    A head that reads the base (`mixes` is False) gets z in the coordinates of the base.
    The flow starts on rows with the Gaussian noise that it is trained with, `blur`.

    Raises
    ------
    PluginContractError
        If the flow, which is called `name`, does not keep its contract.
    """
    weight, y = rows.weight, codes(rows)
    x, given = model.layout.split(rows.x)
    if model.categories is not None and given is not None:
        model.categories.initialize(given, weight)
    generator = torch.Generator().manual_seed(seed)
    n, copies = len(x), 1
    if (model.stochastic or blur) and n < _ENOUGH:
        # The same few draws for every row keep a weight equal to a repetition.
        copies = len(model.noise) or _COPIES
        x, weight = x.repeat(copies, 1), weight.repeat(copies)
        y = None if y is None else y.repeat(copies, 1)
        given = None if given is None else given.repeat(copies, 1)
    missing = x.isnan()
    if model.stochastic:
        if copies > 1:
            uniform = model.noise.repeat_interleave(n, 0)
        else:
            uniform = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        x = model.dequantise(filled(x, missing, weight, uniform), uniform)
    model.preprocess.initialize(x, weight=weight)
    standard = model.preprocess(x)[0].clamp(-_FAR, _FAR)
    if missing.any():
        standard = torch.where(missing, model.fill(uniform)[0], standard)
    if blur:
        shape = (copies, x.shape[1]) if copies > 1 else x.shape
        draws = torch.randn(shape, generator=generator, dtype=torch.float64)
        draws = draws.repeat_interleave(len(x) // len(draws), 0)
        standard = model.smooth(standard, blur * draws.to(x.device))
    context = model.context(given)
    model.flow.initialize(standard, context, weight=weight)
    if model.event.features:
        check_contract(model.flow, model.event, name, standard[:5])
    z, _ = model.flow(standard, context)
    model.base.initialize(z, context, y=y, weight=weight)
    if model.head is not None and rows.targets is not None:
        if mixes:
            model.fit_mixing(z, standard, weight)
        labelled = rows.targets.labelled
        latent, read = model.task_view(rows.x[labelled])
        model.head.initialize(
            model.readout(latent), read, rows.targets[labelled], rows.task_weight[labelled]
        )


def filled(x: Tensor, missing: Tensor, weight: Tensor, uniform: Tensor) -> Tensor:
    """Return numbers with each missing cell at a quantile of the others of its column.

    So what is fitted to the column is that of its observed cells.

    Parameters
    ----------
    x, missing : Tensor of shape (n, D)
    weight : Tensor of shape (n,)
    uniform : Tensor of shape (n, D)
        Which quantile, on [0, 1).
    """
    if not missing.any():
        return x
    x = x.clone()
    for j in missing.any(0).nonzero()[:, 0].tolist():
        gaps = missing[:, j]
        known, order = x[~gaps, j].sort()
        share = weight[~gaps][order].cumsum(0) / weight[~gaps].sum()
        place = torch.searchsorted(share, uniform[gaps, j]).clamp(max=len(known) - 1)
        x[gaps, j] = known[place]
    return x


def codes(rows: Rows) -> Tensor | None:
    """Return the values of the targets, shape (n, k), NaN where not observed."""
    if rows.targets is None:
        return None
    return torch.where(rows.targets.observed, rows.targets.values, torch.nan)
