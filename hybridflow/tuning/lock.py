"""The lock of a journal file, which does not stay closed when its holder is killed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from hybridflow.tuning.backend import optuna
from hybridflow.tuning.liveness import this_host

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from optuna.storages.journal import JournalFileOpenLock


class JournalLock:
    """The lock file of Optuna, behind a lock of the operating system.

    Optuna's lock is a file that is made by one process at a time, on any file
    system; where its holder is killed, the others wait for half a minute. A lock of the
    operating system is let go with its process, but does not reach every machine.
    Whoever holds the second knows that no process of this machine holds the first: one
    that says it is of this machine was left by a process that is gone.

    Parameters
    ----------
    path : Path
        Of the journal, absolute.

    Examples
    --------
    >>> from pathlib import Path
    >>> from hybridflow.tuning.lock import JournalLock
    >>> journal = Path("study.journal").absolute()
    >>> journal.touch()
    >>> lock = JournalLock(journal)
    >>> lock.acquire()
    True
    >>> lock.release()
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = Path(f"{path}.lock")
        self._shared: JournalFileOpenLock = optuna.storages.journal.JournalFileOpenLock(str(path))
        self._own: int | None = None

    def acquire(self) -> bool:
        """Wait until the lock is free, and take it."""
        self._own = os.open(self._path, os.O_RDWR)
        try:
            if fcntl is not None:
                # Some network file systems have no such locks: then a killed holder is waited for.
                with contextlib.suppress(OSError):
                    fcntl.flock(self._own, fcntl.LOCK_EX)
                    self._clear()
            self._shared.acquire()
            self._file.write_text(this_host(), encoding="utf-8")
        except BaseException:
            self._let_go()
            raise
        return True

    def release(self) -> None:
        """Let the next one have the lock."""
        try:
            self._shared.release()
        finally:
            self._let_go()

    def _clear(self) -> None:
        """Remove what a killed process of this machine left."""
        with contextlib.suppress(FileNotFoundError):
            if self._file.read_text(encoding="utf-8") == this_host():
                self._file.unlink()

    def _let_go(self) -> None:
        if self._own is not None:
            os.close(self._own)
            self._own = None
