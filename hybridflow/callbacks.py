"""Callbacks: empty, documented hooks around the steps of training."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

    from hybridflow.training import TrainingState

_EVERYWHERE: list[Callback] = []


class Callback:
    """Base class of callbacks; every hook does nothing by default.

    Hooks may read the state; they must not change it. A hook that raises
    stops the fit with its own exception.

    Examples
    --------
    >>> from hybridflow.callbacks import Callback
    >>> class Print(Callback):
    ...     def on_validation(self, state):
    ...         print(state.step, state.history[-1].value)
    """

    def on_estimator_start(self, estimator: Any) -> None:
        """Run when `fit` of an estimator begins, before it reads its arguments."""

    def on_estimator_end(self, estimator: Any, error: BaseException | None) -> None:
        """Run when `fit` of an estimator ends: fitted, or with the error that ended it."""

    def on_fit_start(self, state: TrainingState) -> None:
        """Run before the first step of a member."""

    def on_step_end(self, state: TrainingState) -> None:
        """Run after each step."""

    def on_validation(self, state: TrainingState) -> None:
        """Run after each evaluation, when ``state.history`` has a new record."""

    def on_fit_end(self, state: TrainingState) -> None:
        """Run after the last step of a member, also when training was interrupted."""


def everywhere() -> tuple[Callback, ...]:
    """Return the callbacks of every fit, beside those of the estimator."""
    return tuple(_EVERYWHERE)


def call_everywhere(callback: Callback) -> None:
    """Have a callback called by every fit in this process, until it is `call_nowhere`.

    Examples
    --------
    >>> from hybridflow.callbacks import Callback, call_everywhere, call_nowhere, everywhere
    >>> callback = Callback()
    >>> call_everywhere(callback)
    >>> callback in everywhere()
    True
    >>> call_nowhere(callback)
    """
    if callback not in _EVERYWHERE:
        _EVERYWHERE.append(callback)


def call_nowhere(callback: Callback) -> None:
    """Take back what `call_everywhere` did, if it did anything."""
    if callback in _EVERYWHERE:
        _EVERYWHERE.remove(callback)


@contextmanager
def only_own() -> Iterator[None]:
    """Have fits call the callbacks of their own estimator alone, until the block ends.

    For fits that are steps of something larger, such as the trials of a search.

    Examples
    --------
    >>> from hybridflow.callbacks import Callback, call_everywhere, call_nowhere
    >>> from hybridflow.callbacks import everywhere, only_own
    >>> callback = Callback()
    >>> call_everywhere(callback)
    >>> with only_own():
    ...     callback in everywhere()
    False
    >>> callback in everywhere()
    True
    >>> call_nowhere(callback)
    """
    before = _EVERYWHERE.copy()
    _EVERYWHERE.clear()
    try:
        yield
    finally:
        _EVERYWHERE.extend(before)


@contextmanager
def around(estimator: Any, callbacks: Sequence[Callback]) -> Iterator[None]:
    """Tell callbacks that the fit of an estimator begins and how it ends."""
    for callback in callbacks:
        callback.on_estimator_start(estimator)
    try:
        yield
    except BaseException as error:
        for callback in callbacks:
            callback.on_estimator_end(estimator, error)
        raise
    for callback in callbacks:
        callback.on_estimator_end(estimator, None)


class ProgressBar(Callback):
    """A progress bar on the standard error stream.

    Parameters
    ----------
    file : file object, optional
        Where to draw; the standard error stream by default. Nothing is drawn
        unless it is a terminal.

    Examples
    --------
    >>> from hybridflow import HybridRegressor
    >>> from hybridflow.callbacks import ProgressBar
    >>> model = HybridRegressor(callbacks=(ProgressBar(),))
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        self.file = file
        self._progress: Progress | None = None

    def on_fit_start(self, state: TrainingState) -> None:
        """Open the bar."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(file=self.file or sys.stderr)
        if not console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[value]}"),
            console=console,
        )
        self._progress.start()
        self._task = self._progress.add_task("fitting", total=state.steps, value="")

    def on_step_end(self, state: TrainingState) -> None:
        """Advance the bar."""
        if self._progress is not None:
            self._progress.update(self._task, completed=state.step)

    def on_validation(self, state: TrainingState) -> None:
        """Show the last validation loss."""
        if self._progress is not None and state.history:
            self._progress.update(self._task, value=f"loss {state.history[-1].value:.4g}")

    def on_fit_end(self, state: TrainingState) -> None:
        """Close the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
