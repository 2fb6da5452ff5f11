"""Fitting all members of an estimator: one after the other, or in processes of their own."""

from __future__ import annotations

import os
import signal
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import numpy as np
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray
from torch import Tensor

from hybridflow.batches import Rows
from hybridflow.callbacks import Callback, everywhere
from hybridflow.distributed import check_shareable, current
from hybridflow.errors import ConfigError, LostProcessError
from hybridflow.estimators.blueprint import Blueprint
from hybridflow.estimators.members import fit_member
from hybridflow.estimators.streaming import Stream
from hybridflow.guards import stop_on_interrupt
from hybridflow.model import HybridModel
from hybridflow.registry import Kind, Registry, default_registry
from hybridflow.schedule import Schedule
from hybridflow.training import Clock, History, TrainingConfig, TrainingState

_COMPONENTS: tuple[Kind, ...] = ("flow", "base", "head")


@dataclass(frozen=True)
class Share:
    """What is one member's own; see `fit_member`.

    Parameters
    ----------
    blueprint : Blueprint
    train, held_out : Tensor of int
    training : TrainingConfig
    seed : int
    unseen : ndarray of int or None
        None where all rows are in memory.
    checkpoint : Path or None
    """

    blueprint: Blueprint
    train: Tensor
    held_out: Tensor
    training: TrainingConfig
    seed: int
    unseen: NDArray[np.int64] | None = None
    checkpoint: Path | None = None


@dataclass(frozen=True)
class Common:
    """What all members share; see `fit_member`.

    Parameters
    ----------
    rows : Rows
    likelihood_weight : float or Schedule
    dtype : torch.dtype
    keyed : bool
    stream : Stream or None
    """

    rows: Rows
    likelihood_weight: float | Schedule
    dtype: torch.dtype
    keyed: bool
    stream: Stream | None = None

    def fit(
        self,
        share: Share,
        registry: Registry,
        callbacks: Sequence[Callback],
        seconds: float | None,
    ) -> tuple[HybridModel, TrainingState]:
        """Fit one member."""
        return fit_member(
            share.blueprint,
            registry,
            self.rows,
            share.train,
            share.held_out,
            share.training,
            likelihood_weight=self.likelihood_weight,
            seed=share.seed,
            dtype=self.dtype,
            callbacks=callbacks,
            keyed=self.keyed,
            seconds=seconds,
            stream=self.stream,
            unseen=share.unseen,
            checkpoint=share.checkpoint,
        )


@dataclass(frozen=True)
class Crew:
    """Members that were fitted.

    Parameters
    ----------
    models : list of HybridModel
    histories : list of list of Record
    interrupted : bool
    """

    models: list[HybridModel]
    histories: list[History]
    interrupted: bool


def fit_members(
    shares: Sequence[Share],
    common: Common,
    registry: Registry,
    *,
    callbacks: Sequence[Callback],
    clock: Clock,
    n_jobs: int | None,
) -> Crew:
    """Fit every member; the weights are the same however many at a time.

    They are so bit for bit where this process computes in one thread, as the others do;
    with more threads sums may differ in their last digit.

    While callbacks of every fit are set (`call_everywhere`), it is one at a time.
    After Ctrl-C members that have begun keep their best weights, others are left out.

    Parameters
    ----------
    shares : sequence of Share
        One of each member.
    common : Common
    registry : Registry
    callbacks : sequence of Callback
    clock : Clock
    n_jobs : int or None
        As in scikit-learn.

    Raises
    ------
    ConfigError
        If callbacks or a local plugin would have to go to other processes.
    LostProcessError
        If one of these was killed.
    """
    jobs = min(joblib.effective_n_jobs(n_jobs), len(shares))
    group = current()
    check_shareable(group, jobs=jobs)
    if jobs > 1 and not everywhere():  # those of every fit, say a log, live in this process
        return _side_by_side(shares, common, registry, callbacks=callbacks, clock=clock, jobs=jobs)
    models, histories, interrupted = [], [], False
    for member, share in enumerate(shares):
        seconds = clock.share(len(shares) - member)
        with group.leave_on_error():
            model, state = common.fit(share, registry, callbacks, seconds)
        models.append(model)
        histories.append(state.history)
        interrupted |= state.interrupted
        if interrupted:
            break
    return Crew(models, histories, interrupted)


@dataclass(frozen=True)
class _Answer:
    """What comes back from another process: plain data, since models may not travel."""

    weights: dict[str, Tensor]
    history: History
    interrupted: bool
    warnings: list[Warning]


def _side_by_side(
    shares: Sequence[Share],
    common: Common,
    registry: Registry,
    *,
    callbacks: Sequence[Callback],
    clock: Clock,
    jobs: int,
) -> Crew:
    """Fit members in processes of their own, several at a time."""
    _check_portable(shares[0].blueprint, registry, callbacks, jobs)
    device, rows = common.rows.x.device, common.rows.to("cpu")
    seconds = clock.share(-(-len(shares) // jobs))
    with tempfile.TemporaryDirectory(prefix="hybridflow-") as folder:
        stop = Path(folder) / "stop"
        tasks = [
            joblib.delayed(_fit_elsewhere)(
                share, replace(common, rows=rows), device, seconds, stop, os.getpid(), member == 0
            )
            for member, share in enumerate(shares)
        ]
        pool = joblib.Parallel(jobs, backend="loky", pre_dispatch=jobs, batch_size=1)
        with stop_on_interrupt(stop.touch):
            try:
                answered: list[_Answer | None] = pool(tasks)
            except TerminatedWorkerError:
                if stop.exists():  # Ctrl-C reached a process that had not begun
                    raise KeyboardInterrupt from None
                raise LostProcessError(
                    f"n_jobs={jobs}: a process that fitted a member ended without an answer, most "
                    "often because memory ran out, of which each process needs its own; fit with "
                    "fewer at a time, such as n_jobs=1"
                ) from None
    models, histories, interrupted = [], [], False
    for share, answer in zip(shares, answered, strict=True):
        if answer is None:  # later ones would be taken for this one, with its held-out rows
            break
        model = share.blueprint.build(registry, seed=0)
        model.load_state_dict(answer.weights)
        models.append(model.to(device).eval().requires_grad_(False))
        histories.append(answer.history)
        interrupted |= answer.interrupted
        for warning in answer.warnings:
            warnings.warn(warning, stacklevel=6)
    return Crew(models, histories, interrupted)


def _check_portable(
    blueprint: Blueprint, registry: Registry, callbacks: Sequence[Callback], jobs: int
) -> None:
    """Refuse what only this process has."""
    if callbacks:
        raise ConfigError(
            f"callbacks= would run in other processes with {jobs} members at a time, where nobody "
            "sees what they do; leave them out, or fit with n_jobs=1"
        )
    configs = [(kind, getattr(blueprint, kind)) for kind in _COMPONENTS]
    used = [
        registry.provider(kind, registry.resolve(kind, config)[0].name).distribution
        for kind, config in configs
        if config is not None
    ]
    if registry is not default_registry() or "local" in used:
        raise ConfigError(
            "registry: plugins that were registered by hand are not known in other processes; "
            "install the plugin, or fit with n_jobs=1"
        )


def _fit_elsewhere(
    share: Share,
    common: Common,
    device: torch.device,
    seconds: float | None,
    stop: Path,
    parent: int,
    first: bool,
) -> _Answer | None:
    """Fit one member; run in another process. None if it need not begin any more."""
    if os.getpid() != parent:
        # Ctrl-C reaches every process of a terminal: the parent decides, by the file `stop`.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if stop.exists() and not first:
        return None
    with _one_thread(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model, state = replace(common, rows=common.rows.to(device)).fit(
            share, default_registry(), (_StopOnFile(stop, os.getppid()),), seconds
        )
    weights = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    seen = [found.message for found in told if isinstance(found.message, Warning)]
    return _Answer(weights, state.history, state.interrupted, seen)


class _StopOnFile(Callback):
    """Stops training once a file is there, or nobody waits for the member any more."""

    def __init__(self, path: Path, parent: int) -> None:
        self.path, self.parent = path, parent

    def on_step_end(self, state: TrainingState) -> None:
        """Look for the file and the parent."""
        left = os.getppid() != self.parent
        state.interrupted = state.interrupted or left or self.path.exists()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute in one thread: as many processes as cores would otherwise hinder each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
