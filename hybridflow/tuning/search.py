"""tune: the best settings of an estimator."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from hybridflow.errors import ConfigError, TuningError
from hybridflow.estimators.base import FlowEstimator
from hybridflow.tuning.backend import optuna, quiet
from hybridflow.tuning.liveness import ERROR, WORKER, counts, recover
from hybridflow.tuning.plan import Plan
from hybridflow.tuning.pool import run_pool
from hybridflow.tuning.result import TuningResult
from hybridflow.tuning.rows import split_rows
from hybridflow.tuning.score import Score, read_scores
from hybridflow.tuning.space import space_of
from hybridflow.tuning.storage import JOURNAL
from hybridflow.tuning.trial import run_trial

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

Callback = Callable[[optuna.Study, optuna.trial.FrozenTrial], None]

_HOPELESS = 3
"""Trials without a score after which a search without any is given up."""
_State = optuna.trial.TrialState


def tune(
    estimator: FlowEstimator,
    X: Any,
    y: Any = None,
    sample_weight: ArrayLike | None = None,
    *,
    trials: int | None = 50,
    time_limit: float | None = None,
    space: Mapping[str, Any] | None = None,
    score: str | Score | Sequence[str | Score] | None = None,
    holdout: Any = 0.2,
    storage: str | Path | BaseStorage = JOURNAL,
    study: str | None = None,
    workers: int = 1,
    sampler: optuna.samplers.BaseSampler | None = None,
    pruner: optuna.pruners.BasePruner | None = None,
    seed: int = 0,
    refit: bool = True,
    callbacks: Sequence[Callback] = (),
) -> TuningResult:
    """Search for the best settings of an estimator with Optuna, and fit it with them.

    The same part of the rows is held out from every trial, and all are scored on it.
    A trial fits one member to the others; the first has the settings that the
    estimator came with. The same call, in the same folder or with the same storage,
    resumes a search, or joins it from another process or machine.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
        It is not changed.
    X, y, sample_weight
        As in its `fit`. Give no row that you will test on.
    trials : int or None, default=50
        Trials of the study, those of earlier calls and other workers included.
        Machines that join may together run over it by a trial each. None for no limit.
    time_limit : float, optional
        Seconds for the search. What is running then is stopped, unless there is no
        result yet. The fit in the end comes on top.
    space : dict, optional
        What to search differently, or not at all: see `space_of`.
    score : str, Score, or sequence of these, optional
        What is minimised: ``"task"`` (the mean of -log p(y | x)), ``"likelihood"``
        (of -log p(x), per column), a sum such as ``"task + 0.3 likelihood"``. Several are
        objectives of their own. The default is the task of a hybrid, the
        likelihood of a density.
    holdout : float, splitter or array of int, default=0.2
        The rows to score on: a share (of every class), a splitter, whose first
        split is taken, or positions.
    storage : str, Path or storage of Optuna, default="hybridflow-tuning.journal"
        A journal file, or the URL of a database: ``sqlite:///study.db``,
        ``postgresql://...``, ``mysql+pymysql://...``.
    study : str, optional
        Its name. By default each estimator, table, space and score has its own.
    workers : int, default=1
        Processes. With one, trials run in this process and a new study with the same
        seed repeats; with several, plugins are those that are installed.
    sampler : optuna.samplers.BaseSampler, optional
        Tree-structured Parzen estimators if not given.
    pruner : optuna.pruners.BasePruner, optional
        By default trials stop that are worse than the median of those before at the
        same point of their validation curve; with several scores, worse in all of them. There
        only ``NopPruner()`` may be given, which stops none.
    seed : int, default=0
        Of the held-out rows, of the sampler, and of all fits if the estimator has none.
    refit : bool, default=True
        Whether the estimator is fitted to all rows with the best settings.
    callbacks : sequence of callable, default=()
        Called with the study and the trial after each trial of this call, always in this
        process, one at a time. `Progress` is one.

    Returns
    -------
    TuningResult

    Raises
    ------
    InputError
        If the data cannot be used.
    ConfigError
        If a parameter cannot be used, or the study searches something else.
    MissingExtraError
        If Optuna or the driver of a database is not installed.
    TuningError
        If no trial gives a score, or the storage does not answer.

    References
    ----------
    Bergstra, Bardenet, Bengio, Kégl: "Algorithms for Hyper-Parameter
    Optimization", 2011. Akiba, Sano, Yanase, Ohta, Koyama: "Optuna: A
    Next-generation Hyperparameter Optimization Framework", 2019.

    Examples
    --------
    >>> from optuna.storages import InMemoryStorage
    >>> from sklearn.datasets import load_iris
    >>> from hybridflow import HybridClassifier, TrainingConfig, tune
    >>> X, y = load_iris(return_X_y=True)
    >>> model = HybridClassifier(training=TrainingConfig(steps=20), quality="fast")
    >>> found = tune(model, X, y, trials=2, storage=InMemoryStorage())
    >>> len(found.study.trials), found.estimator.predict(X[:2]).shape
    (2, (2,))
    """
    if not isinstance(estimator, FlowEstimator):
        raise ConfigError(f"estimator: expected one of hybridflow, got {estimator!r:.100}")
    trials, workers = _whole("trials", trials, none=True), _whole("workers", workers) or 1
    _check_budget(trials, time_limit)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ConfigError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")
    if workers > 1 and isinstance(storage, optuna.storages.InMemoryStorage):
        raise ConfigError("workers: several processes need a storage in a file or a database")
    scores = read_scores(score, hybrid="head" in estimator.get_params(deep=False))
    if len(scores) > 1 and not isinstance(pruner, optuna.pruners.NopPruner | None):
        raise ConfigError(
            f"pruner: {type(pruner).__name__} compares one value, and there are {len(scores)} "
            "scores; leave it out, or state a sum: score='task + 0.3 likelihood'"
        )
    plan = Plan(
        estimator,
        split_rows(estimator, X, y, sample_weight, holdout, seed),
        space_of(estimator, space),
        scores,
        storage,
        study or "",
        seed,
        sampler,
        pruner,
        uuid.uuid4().hex,
    )
    found = _search(plan, trials, time_limit, workers, callbacks)
    result = TuningResult(plan, found)
    if refit:
        result.estimator = result.fit()
    return result


def _search(
    plan: Plan,
    trials: int | None,
    time_limit: float | None,
    workers: int,
    callbacks: Sequence[Callback],
) -> optuna.Study:
    """Run trials until the budget is used up."""
    begin = time.monotonic()
    study = plan.open()
    failed = 0

    def seconds() -> float | None:
        return None if time_limit is None else max(0.0, time_limit - (time.monotonic() - begin))

    def left(running: int) -> int:
        """Return how many trials may be begun beside those that are running here."""
        recover(study)
        everything = study.get_trials(deepcopy=False)
        complete = any(trial.state == _State.COMPLETE for trial in everything)
        if seconds() == 0 and complete:
            return 0
        if seconds() == 0 and running:
            return 0
        if trials is None:
            return workers
        used = sum(counts(trial) or _elsewhere(trial, plan.command) for trial in everything)
        return trials - used - running

    def done(number: int) -> None:
        nonlocal failed
        everything = study.get_trials(deepcopy=False)
        trial = next(trial for trial in everything if trial.number == number)
        failed += trial.state != _State.COMPLETE and ERROR in trial.user_attrs
        for callback in callbacks:
            callback(study, trial)
        complete = any(trial.state == _State.COMPLETE for trial in everything)
        if failed >= _HOPELESS and not complete:
            raise _hopeless(study)

    with quiet():
        if workers > 1 and left(0) > 0:
            run_pool(plan, study, workers, left, seconds, done)
        else:
            while left(0) > 0:
                done(run_trial(plan, study, seconds()))
        if not study.get_trials(deepcopy=False, states=(_State.COMPLETE,)):
            raise _hopeless(study)
    return study


def _elsewhere(trial: optuna.trial.FrozenTrial, command: str) -> bool:
    """Return whether a trial is being run by another command."""
    if trial.state != _State.RUNNING:
        return False
    mark = trial.user_attrs.get(WORKER)
    return mark is not None and mark["command"] != command


def _hopeless(study: optuna.Study) -> TuningError:
    reasons = [trial.user_attrs.get(ERROR) for trial in study.get_trials(deepcopy=False)]
    told = [reason for reason in reasons if reason]
    last = f"; the last one: {told[-1]}" if told else ""
    return TuningError(f"no trial gave a score{last}")


def _whole(name: str, value: Any, *, none: bool = False) -> int | None:
    if none and value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")
    return value


def _check_budget(trials: int | None, time_limit: Any) -> None:
    if time_limit is None:
        if trials is None:
            raise ConfigError("trials and time_limit cannot both be None: the search would not end")
        return
    number = isinstance(time_limit, int | float) and not isinstance(time_limit, bool)
    if not (number and 0 < time_limit < math.inf):
        raise ConfigError(
            f"time_limit must be a positive number of seconds or None, got {time_limit!r}"
        )
