"""Running the application until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hybridflow.estimators.base import FlowEstimator
from hybridflow.serving.app import create_app
from hybridflow.serving.limits import Limits

DRAIN = 10
"""Seconds that requests which are being answered have when the server is told to stop."""

_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)
_SAID = b'{"error_code": "REQUEST_TIMEOUT", "message": "the request did not arrive in time"}'


def serve(
    estimator: FlowEstimator,
    *,
    host: str,
    port: int,
    limits: Limits,
    ready: Callable[[str], None],
) -> None:
    """Serve a model until SIGTERM or SIGINT, and finish what is being answered then.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
        Fitted.
    host : str
    port : int
        0 for any that is free.
    limits : Limits
    ready : callable
        Is given the address when it is bound.

    Raises
    ------
    OSError
        If the address is taken or not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # By its protocol asyncio knows TCP, and sends small replies at once.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from None
    config = uvicorn.Config(
        create_app(estimator, limits),
        http=_patient_for(limits.seconds),
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN,
    )
    # uvicorn ends by raising the signal again: then it finds this, and the program ends well.
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{listener.getsockname()[1]}")
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _patient_for(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with a limit of time for the head of a request.

    uvicorn has none: a connection that sends a byte now and then stays open for ever. It takes
    the protocol as a class, and offers no other place to put this.
    """

    class Patient(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            self._forget()

        def _watch(self) -> None:
            """Start the clock where the head of a request is awaited, else stop it."""
            if self.conn.their_state is not h11.IDLE:
                self._forget()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._end)

        def _forget(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _end(self) -> None:
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                self.transport.write(_LATE % (len(_SAID), _SAID))
                self.transport.close()

    return Patient
