"""What a worker needs to run the trials of a study. It is sent to other processes."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone

from hybridflow.callbacks import Callback
from hybridflow.config import Config
from hybridflow.errors import ConfigError
from hybridflow.estimators.base import FlowEstimator
from hybridflow.estimators.outlier import AUTO
from hybridflow.training import TrainingConfig
from hybridflow.tuning.backend import optuna, quiet
from hybridflow.tuning.pruning import median_pruner
from hybridflow.tuning.rows import Split
from hybridflow.tuning.score import Score
from hybridflow.tuning.space import Space
from hybridflow.tuning.storage import open_storage, shown

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_IDENTITY = "hybridflow"
"""The attribute of a study that says what is searched on what."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_NOT_IDENTITY = ("callbacks", "registry", "device", "random_state")


@dataclass(frozen=True)
class Plan:
    """A search: what is fitted to which rows, how it is scored, and where the study is.

    Parameters
    ----------
    estimator : FlowEstimator
        Not fitted, and not changed.
    split : Split
    space : Space
    scores : tuple of Score
        Several for a study with several objectives.
    storage : str, Path or storage of Optuna
    name : str
        Of the study; empty for one that the rest of the plan gives.
    seed : int
    sampler : optuna.samplers.BaseSampler or None
    pruner : optuna.pruners.BasePruner or None
    command : str
        What tells the trials of one call of `tune` from those of others.
    """

    estimator: FlowEstimator
    split: Split
    space: Space
    scores: tuple[Score, ...]
    storage: str | Path | BaseStorage
    name: str
    seed: int
    sampler: optuna.samplers.BaseSampler | None
    pruner: optuna.pruners.BasePruner | None
    command: str

    @property
    def evaluations(self) -> int:
        """How often a whole training is evaluated."""
        training = self.estimator._config("training")
        assert isinstance(training, TrainingConfig)
        return training.evaluations

    @property
    def study_name(self) -> str:
        """The name of the study: that of the same plan is the same on every machine."""
        if self.name:
            return self.name
        sha = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode())
        return f"{type(self.estimator).__name__}-{sha.hexdigest()[:12]}"

    def identity(self) -> dict[str, Any]:
        """Return what must not change while a study goes on, as plain JSON."""
        params = self.estimator.get_params(deep=False)
        return {
            "estimator": {
                "class": type(self.estimator).__name__,
                **{
                    name: _ADDRESS.sub("", repr(value))
                    for name, value in params.items()
                    if name not in _NOT_IDENTITY
                },
            },
            "space": self.space.describe(),
            "scores": [str(score) for score in self.scores],
            "rows": self.split.digest(),
        }

    def open(self, worker: int = 0) -> optuna.Study:
        """Open the study, and begin it with the settings that the estimator has.

        Parameters
        ----------
        worker : int, default=0
            Which of several workers of one command opens it.

        Raises
        ------
        ConfigError
            If there is a study of this name that searches something else.
        """
        storage, identity = open_storage(self.storage), self.identity()
        with quiet():
            study = optuna.create_study(
                storage=storage,
                study_name=self.study_name,
                directions=["minimize"] * len(self.scores),
                load_if_exists=True,
                pruner=self._pruner(),
            )
            fresh = not study.get_trials(deepcopy=False)  # read before what is written before
            self._compare(study.user_attrs.get(_IDENTITY), identity, study, fresh=fresh)
            if fresh and worker == 0:
                study.set_user_attr(_IDENTITY, identity)
                study.enqueue_trial(self.space.start(), skip_if_exists=True)
            study.sampler = self._sampler(fresh=fresh and worker == 0)
        return study

    def build(self, chosen: dict[str, Any], callbacks: tuple[Callback, ...]) -> FlowEstimator:
        """Return the estimator of one trial, ready to be fitted to the rows to train on.

        It has one member, unless the space or flow="auto" ask for several, and one
        random state in all trials.

        Parameters
        ----------
        chosen : dict
            As `Space.assign` returns it.
        callbacks : tuple of Callback
        """
        estimator = self.configured(chosen)
        params: dict[str, Any] = {"callbacks": callbacks}
        known = estimator.get_params(deep=False)
        if "members" not in chosen and known["flow"] != AUTO:
            params["members"] = 1
        if not isinstance(known["random_state"], int | np.integer):
            params["random_state"] = self.seed
        for name in ("validation", "calibration"):
            params[name] = self._local(known[name])
        return estimator.set_params(**params)

    def configured(self, chosen: dict[str, Any]) -> FlowEstimator:
        """Return the estimator with the settings of a trial, as it is fitted in the end."""
        estimator: FlowEstimator = clone(self.estimator)
        own = estimator.get_params(deep=False)
        kept = dict(chosen)
        for kind in ("flow", "base", "head"):
            config = own.get(kind)
            # A config of the estimator's own holds more than its name.
            if isinstance(config, Config) and isinstance(chosen.get(kind), str):
                spec, _ = estimator._registry().resolve(kind, config)
                if spec.name == chosen[kind]:
                    del kept[kind]
        return estimator.set_params(**kept)

    def _local(self, rows: Any) -> Any:
        """Return positions among all rows as positions among those to train on."""
        if (
            rows is None
            or isinstance(rows, str | float | int | np.number)
            or hasattr(rows, "split")
        ):
            return rows
        array = np.asarray(rows)
        if array.dtype == bool:
            return array[self.split.train]
        return np.flatnonzero(np.isin(self.split.train, array))

    def _pruner(self) -> optuna.pruners.BasePruner:
        if len(self.scores) > 1:  # where Optuna has none: `WorseInAll`
            return optuna.pruners.NopPruner()
        return median_pruner(self.evaluations) if self.pruner is None else self.pruner

    def _sampler(self, *, fresh: bool) -> optuna.samplers.BaseSampler:
        """Return the sampler; workers with the same random numbers would try the same."""
        if self.sampler is not None:
            if not fresh:
                self.sampler.reseed_rng()
            return self.sampler
        seed = self.seed if fresh else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if len(self.scores) == 1 and self.space.conditional:
                return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
            return optuna.samplers.TPESampler(seed=seed)

    def _compare(
        self, before: Any, now: dict[str, Any], study: optuna.Study, *, fresh: bool
    ) -> None:
        """Refuse a study of the same name that searches something else."""
        if before is None:
            if not fresh:
                raise ConfigError(
                    f"study {study.study_name!r} in {shown(self.storage)} was not begun by "
                    "hybridflow; choose another name"
                )
            return
        if before == now:
            return
        told = []
        for part in now:
            old, new = before.get(part), now[part]
            if isinstance(old, dict) and isinstance(new, dict):
                names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
                told += [
                    f"{part} {name}: {old.get(name, 'none')} before, {new.get(name, 'none')} now"
                    for name in names[:3]
                ]
            elif old != new:
                told.append(f"{part}: {old} before, {new} now")
        raise ConfigError(
            f"study {study.study_name!r} in {shown(self.storage)} searches something else: "
            f"{'; '.join(told)}. Its trials do not compare with these: choose another name for "
            "the study, or none, which gives each search its own"
        )
