"""One trial: choose settings, fit, score, and tell how it ended."""

from __future__ import annotations

import math
import time
import traceback
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from hybridflow.callbacks import only_own
from hybridflow.errors import HybridFlowError, HybridFlowWarning, InputError
from hybridflow.tuning.backend import optuna, quiet
from hybridflow.tuning.liveness import ERROR, Heartbeat, give_up
from hybridflow.tuning.plan import Plan
from hybridflow.tuning.pruning import CURVE, OutOfTime, Watch, WorseInAll, deadline
from hybridflow.tuning.score import negative_log_density, negative_log_task

if TYPE_CHECKING:
    from hybridflow.training import Record

SECONDS = "seconds"
"""The attribute of a trial with what it took."""
TASK, DENSITY = "task", "density"
"""The attributes with the means of -log p(y | x) and -log p(x) of the held-out rows, in nats."""

_State = optuna.trial.TrialState


def run_trial(plan: Plan, study: optuna.Study, seconds: float | None = None) -> int:
    """Run one trial.

    What makes settings bad, such as training that diverges, a model that its
    audit refuses or a score that is not finite, prunes the trial, so that the
    sampler keeps away from there; any other exception fails it. Neither is raised.

    Parameters
    ----------
    plan : Plan
    study : optuna.Study
    seconds : float, optional
        What is left of the time for the search. A trial that is running when it
        is over is stopped, unless none has been completed yet.

    Returns
    -------
    int
        Its number.

    Raises
    ------
    InputError
        If the data cannot be used, whatever the settings.
    """
    with quiet():
        trial = study.ask()
        start = time.perf_counter()
        try:
            with Heartbeat(trial, plan.command):
                state, values = _attempt(plan, study, trial, seconds)
                trial.set_user_attr(SECONDS, time.perf_counter() - start)
            study.tell(trial, values, state=state)
        except optuna.exceptions.UpdateFinishedTrialError:
            pass  # this worker was taken for dead, and the settings are tried again
        except InputError as error:
            trial.set_user_attr(ERROR, str(error))
            study.tell(trial, state=_State.FAIL)
            raise
        except BaseException:  # Ctrl-C: as if the worker had been killed
            give_up(study, _frozen(study, trial))
            raise
    return trial.number


def _attempt(
    plan: Plan, study: optuna.Study, trial: optuna.Trial, seconds: float | None
) -> tuple[optuna.trial.TrialState, list[float] | None]:
    """Return how a trial ended, having noted why where it has no score."""
    watch = Watch(_rule(plan, study, trial), _over(study, seconds))
    try:
        return _State.COMPLETE, _scores(plan, trial, watch)
    except optuna.TrialPruned:
        return _State.PRUNED, None
    except OutOfTime:
        trial.set_user_attr(ERROR, "stopped: the time for the search was over")
        return _State.PRUNED, None
    except optuna.exceptions.OptunaError:
        raise
    except HybridFlowError as error:
        # Where parts are chosen, one of them may not fit data that fit the others.
        if isinstance(error, InputError) and not plan.space.components:
            raise
        trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}")
        return _State.PRUNED, None
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        trial.set_user_attr(
            ERROR, f"{type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        )
        return _State.FAIL, None
    finally:
        if watch.curve:
            trial.set_user_attr(CURVE, watch.curve)


def _scores(plan: Plan, trial: optuna.Trial, watch: Watch) -> list[float]:
    """Fit and return the scores."""
    split = plan.split
    with warnings.catch_warnings():
        # They are about the rows, and come once, with the fit in the end.
        warnings.simplefilter("ignore", HybridFlowWarning)
        with only_own():  # a search is reported as a whole, by what `tune` is given
            estimator = split.fitted(plan.build(plan.space.suggest(trial), (watch,)))
        if estimator.audit_ is not None:
            estimator.audit_.check()
        density = negative_log_density(
            estimator, split.table(split.held), split.weights(split.held)
        )
        task = None
        if hasattr(estimator, "score_joint"):
            rows = split.labelled
            task = negative_log_task(
                estimator, split.table(rows), split.target(rows), split.weights(rows)
            )
    for name, value in ((TASK, task), (DENSITY, density)):
        if value is not None and math.isfinite(value):
            trial.set_user_attr(name, value)
    values = [score.value(task, density, split.columns) for score in plan.scores]
    if not all(map(math.isfinite, values)):
        told = f"the score of the held-out rows is not finite: task {task}, density {density}"
        trial.set_user_attr(ERROR, told)
        raise optuna.TrialPruned
    return values


def _rule(plan: Plan, study: optuna.Study, trial: optuna.Trial) -> Callable[[int, Record], bool]:
    """Return what decides at each evaluation whether to stop."""
    if len(plan.scores) > 1:
        if isinstance(plan.pruner, optuna.pruners.NopPruner):
            return lambda evaluation, record: False
        return WorseInAll(study, plan.scores, plan.split.columns, plan.evaluations)
    (score,) = plan.scores

    def reported(evaluation: int, record: Record) -> bool:
        trial.report(score.value(record.task, record.density, plan.split.columns), evaluation)
        return trial.should_prune()

    return reported


def _over(study: optuna.Study, seconds: float | None) -> Callable[[], bool]:
    """Return what says whether to stop for lack of time: not before there is a result."""
    late = deadline(seconds)
    return lambda: late() and bool(study.get_trials(deepcopy=False, states=(_State.COMPLETE,)))


def _frozen(study: optuna.Study, trial: optuna.Trial) -> optuna.trial.FrozenTrial:
    return next(t for t in study.get_trials(deepcopy=False) if t.number == trial.number)
