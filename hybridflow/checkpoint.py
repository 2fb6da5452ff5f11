"""The whole state of a training run as plain JSON and tensors, in a file, and back."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridflow import __version__
from hybridflow.container import read_container, write_container
from hybridflow.errors import CheckpointWarning, ConfigError
from hybridflow.history import Record, TrainingState
from hybridflow.training import Trainer

_APART = ("history", "position", "seconds")


class Checkpoint:
    """A file in which a run is kept while it trains, so that a killed one goes on.

    Parameters
    ----------
    path : Path
        A guarded safetensors file, replaced in one step; its folder is made.
    of : dict of str to str
        What tells the run from others, see `identify`.

    Examples
    --------
    >>> from pathlib import Path
    >>> from hybridflow.checkpoint import Checkpoint, identify
    >>> checkpoint = Checkpoint(Path("run/member-0.safetensors"), identify(None, "settings"))
    >>> checkpoint.path.exists()
    False
    """

    def __init__(self, path: Path, of: dict[str, str]) -> None:
        self.path, self.of = path, of
        self._written = self._warned = False

    def resume(self, trainer: Trainer) -> None:
        """Continue the run that the file holds, if there is one.

        Raises
        ------
        ConfigError
            If it is a run on other rows or with other settings.
        CorruptModelError, UnsupportedFormatError, OSError
            If the file is damaged, not a checkpoint, or not readable.
        """
        if not self.path.exists():
            return
        document, tensors = read_container(self.path)
        found = document.get("of", {})
        other = [part for part, digest in self.of.items() if found.get(part) != digest]
        if other:
            raise ConfigError(
                f"checkpoint: {self.path} holds a run with other {' and other '.join(other)} than "
                "this fit; give this fit another folder, or delete the file to start anew"
            )
        restore(trainer, document["run"], tensors)

    def save(self, trainer: Trainer) -> None:
        """Write the run; where that fails later than the first time, warn once and go on.

        Raises
        ------
        OSError
            If the first write fails.
        """
        document, tensors = capture(trainer)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_container(self.path, {"of": self.of, "run": document}, tensors)
        except OSError as error:
            if not self._written:
                raise
            if not self._warned:
                warnings.warn(
                    f"the checkpoint of step {trainer.state.step} could not be written ({error}); "
                    "the one before it is kept, and training goes on",
                    CheckpointWarning,
                    stacklevel=2,
                )
            self._warned = True
        self._written = True


def identify(rows: object, settings: object) -> dict[str, str]:
    """Return what tells a run from others: its version, and digests of its rows and settings.

    Parameters
    ----------
    rows : object
        Tensors, or dataclasses and tuples of them.
    settings : object
        Whatever its `repr` tells apart.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.checkpoint import identify
    >>> one, two = (identify((torch.arange(n),), "settings") for n in (3, 4))
    >>> [part for part in one if one[part] != two[part]]
    ['rows']
    """
    digest = hashlib.sha256()
    for tensor in _tensors(rows):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return {
        "version of hybridflow": __version__,
        "rows": digest.hexdigest(),
        "settings": hashlib.sha256(repr(settings).encode()).hexdigest(),
    }


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors in nested dataclasses and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))


def capture(trainer: Trainer) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return all that a run needs to go on: state, weights, optimiser, random state, order.

    Parameters
    ----------
    trainer : Trainer
        Between two steps.

    Returns
    -------
    document : dict
        Plain JSON.
    tensors : dict of str to Tensor

    Raises
    ------
    ConfigError
        If the table is read in parts.

    Examples
    --------
    >>> import torch
    >>> from hybridflow.batches import Rows
    >>> from hybridflow.checkpoint import capture
    >>> from hybridflow.densities import StudentT
    >>> from hybridflow.model import HybridModel
    >>> from hybridflow.specs import Event
    >>> from hybridflow.training import Trainer, TrainingConfig
    >>> from hybridflow.transforms import Identity, Standardize
    >>> model = HybridModel(
    ...     Event.real(1), Standardize(1), Identity(), StudentT(1), None,
    ...     step=torch.zeros(1), lattice=torch.zeros(1, dtype=torch.bool), origin=torch.zeros(1),
    ... )
    >>> weight = torch.ones(64, dtype=torch.float64)
    >>> rows = Rows(torch.linspace(-2, 2, 64)[:, None].double(), None, weight, weight)
    >>> config = TrainingConfig(steps=10)
    >>> trainer = Trainer(model, rows, None, config, likelihood_weight=1.0, seed=0)
    >>> document, tensors = capture(trainer)
    >>> document["step"], "generator" in tensors
    (0, True)
    """
    if trainer.source is not None:
        raise ConfigError(
            "a run on a table that is read in parts cannot be captured: where it reads is not kept"
        )
    state = trainer.state
    document = {
        name: getattr(state, name)
        for name in ("steps", "step", "factor", "skipped", "restarts", "best_step")
    }
    document["best_value"] = None if state.best_value == math.inf else state.best_value
    document["history"] = [record.model_dump() for record in state.history]
    document["position"] = trainer.batches.position
    document["seconds"] = trainer.clock.elapsed()
    tensors = {f"model.{k}": _copy(v) for k, v in trainer.model.state_dict().items()}
    tensors |= {f"best.{k}": _copy(v) for k, v in state.best.items()}
    tensors |= {f"average.{i}": _copy(tensor) for i, tensor in enumerate(state.average)}
    tensors["generator"] = trainer.generator.get_state()
    tensors["order"] = trainer.batches.order.clone()
    tensors["unlabelled_order"] = trainer.batches.unlabelled_order.clone()
    if trainer.optimizer is not None:
        for i, parameter in enumerate(trainer.parameters):
            for key, value in trainer.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{i}.{key}"] = _copy(value)
    return document, tensors


def restore(trainer: Trainer, document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Continue from what `capture` returned; the run ends as if it had not been stopped.

    Parameters
    ----------
    trainer : Trainer
        Made of the same model, rows and settings as the one that was captured.
    document : dict
    tensors : dict of str to Tensor

    Examples
    --------
    See `capture`.
    """
    history = [Record(**record) for record in document["history"]]
    best_value = math.inf if document["best_value"] is None else document["best_value"]
    numbers = {k: v for k, v in document.items() if k not in _APART}
    best = {k.removeprefix("best."): v for k, v in tensors.items() if k.startswith("best.")}
    averages = sum(k.startswith("average.") for k in tensors)
    trainer.state = TrainingState(
        **{**numbers, "best_value": best_value, "history": history, "best": best},
        average=[tensors[f"average.{i}"].clone() for i in range(averages)],
    )
    trainer.model.load_state_dict(
        {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    )
    trainer.generator.set_state(tensors["generator"])
    trainer.clock.start -= document["seconds"]  # the limit is on all of the run
    trainer.batches.position = document["position"]
    trainer.batches.order = tensors["order"].clone()
    trainer.batches.unlabelled_order = tensors["unlabelled_order"].clone()
    for i, parameter in enumerate(trainer.parameters):
        prefix = f"optimizer.{i}."
        saved = {
            k.removeprefix(prefix): v.clone() for k, v in tensors.items() if k.startswith(prefix)
        }
        if saved and trainer.optimizer is not None:
            trainer.optimizer.state[parameter] = saved


def _copy(tensor: Tensor) -> Tensor:
    """Return a copy that files of tensors take: dense, and sharing memory with no other."""
    return tensor.detach().clone(memory_format=torch.contiguous_format)
