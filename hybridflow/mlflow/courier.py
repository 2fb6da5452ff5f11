"""Sending to a tracking server from a thread of its own, so that no fit waits for it."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

LONGEST_WAIT: Final = 5.0
"""Seconds that a fit waits, in all, for what it reports to arrive."""

_MOST_WAITING = 10_000  # messages; beyond these a server that never answers fills no memory
_AT_EXIT = 30.0  # seconds; a database on this machine is slow to be made, and never dead
_LOCAL = ("sqlite:", "file:", "/", "./")


class Parcel:
    """What is sent for one run, in order; after a failure the rest of it is dropped.

    Attributes
    ----------
    failure : Exception or None
        What went wrong.
    """

    def __init__(self, courier: Courier) -> None:
        self.failure: Exception | None = None
        self._courier = courier
        self._left = 0
        self._changed = threading.Condition()

    def send(self, message: Callable[[], None]) -> None:
        """Have something called in the thread; never waits."""
        with self._changed:
            if self.failure is not None:
                return
            self._left += 1
        if not self._courier.take(self, message):
            self._done(RuntimeError("too much is waiting to be sent"))

    def wait(self, seconds: float) -> bool:
        """Wait until all is sent or given up, but not longer; return whether it is."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._left:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def deliver(self, message: Callable[[], None]) -> None:
        """Call a message, in the thread."""
        failure: Exception | None = None
        if self.failure is None:
            try:
                message()
            except Exception as error:
                failure = error
        self._done(failure)

    def _done(self, failure: Exception | None) -> None:
        with self._changed:
            self.failure = self.failure or failure
            self._left -= 1
            self._changed.notify_all()


class Courier:
    """The thread that sends to one address.

    A daemon: it keeps no process alive. While a message is stuck, what comes after it waits
    here, and nobody else does.

    Parameters
    ----------
    address : str
        Of the tracking server or database.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.late = False
        self._waiting: queue.Queue[tuple[Parcel, Callable[[], None]]] = queue.Queue(_MOST_WAITING)
        threading.Thread(target=self._work, name="hybridflow-tracking", daemon=True).start()

    def take(self, parcel: Parcel, message: Callable[[], None]) -> bool:
        """Put a message behind those that wait; return False if there is no room."""
        try:
            self._waiting.put_nowait((parcel, message))
        except queue.Full:
            return False
        return True

    def patience(self) -> float:
        """Return the seconds to wait: none while something is late that others waited for."""
        return 0.0 if self.late else LONGEST_WAIT

    def finish(self) -> None:
        """Let what waits for a database on this machine arrive before the process ends."""
        deadline = time.monotonic() + _AT_EXIT
        while self.address.startswith(_LOCAL) and self._waiting.unfinished_tasks:
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def _work(self) -> None:
        while True:
            parcel, message = self._waiting.get()
            parcel.deliver(message)
            self._waiting.task_done()
            if not self._waiting.unfinished_tasks:
                self.late = False


_COURIERS: dict[str, Courier] = {}
_LOCK = threading.Lock()


def courier_to(address: str) -> Courier:
    """Return the courier to an address, the same for all fits of this process."""
    with _LOCK:
        if address not in _COURIERS:
            _COURIERS[address] = Courier(address)
            atexit.register(_COURIERS[address].finish)
        return _COURIERS[address]
