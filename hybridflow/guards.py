"""Guards that leave the caller's process as it was."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_BUILDING = threading.Lock()


@contextmanager
def building(seed: int) -> Iterator[None]:
    """Build modules from a seed, leaving the caller's random state and dtype alone."""
    with _BUILDING, torch.random.fork_rng(devices=[]):
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch every device
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)


@contextmanager
def stop_on_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the first Ctrl-C instead of raising; a second one is immediate.

    Nothing changes outside of the main thread, or where the caller has a
    handler of their own.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.default_int_handler:
        yield
        return

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        stop()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def put_off_termination(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on SIGTERM, of which the process dies only when the block ends.

    Nothing changes outside of the main thread, or where the caller has a
    handler of their own.
    """
    before = signal.getsignal(signal.SIGTERM)
    main = threading.current_thread() is threading.main_thread()
    if not main or before is not signal.SIG_DFL:
        yield
        return
    asked = False

    def handle(number: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        stop()

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if asked:
            os.kill(os.getpid(), signal.SIGTERM)
