"""The application: paths, and what each answers."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
import warnings
from typing import Any

import anyio
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

import hybridflow
from hybridflow.answering import Answerer, AnswerTable
from hybridflow.errors import ConfigError, HybridFlowWarning, InputError
from hybridflow.estimators.base import FlowEstimator
from hybridflow.serving.description import operation
from hybridflow.serving.limits import Limits
from hybridflow.serving.payload import Payload, media_type, read_payload
from hybridflow.serving.refusal import CODES, RefusedError
from hybridflow.serving.rows import Rows

LOG = logging.getLogger("hybridflow.serving")

_ID = "X-Request-Id"


class Service:
    """Answers the requests for one model, one at a time.

    The maths holds the interpreter's lock most of the time, so that answering two requests at
    once would make both late.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
        Fitted.
    limits : Limits
    """

    def __init__(self, estimator: FlowEstimator, limits: Limits) -> None:
        self.answerer = Answerer(estimator)
        self.rows = Rows(estimator, ignore_extra=limits.extra == "ignore")
        self.limits = limits
        self._one_at_a_time = asyncio.Lock()

    async def invoke(self, request: Request) -> Response:
        """Answer ``POST /invocations``."""
        kind = media_type(request.headers.get("content-type"))
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise RefusedError(415, "Content-Encoding: send the body as it is, not compressed")
        body = await self.body(request)
        async with self._one_at_a_time:
            return await anyio.to_thread.run_sync(self.answer, body, kind)

    async def body(self, request: Request) -> bytes:
        """Return the body of a request.

        Raises
        ------
        RefusedError
            413 if it is too long, 408 if it does not come.
        """
        most = self.limits.body
        too_long = f"the body is longer than the {most:,} bytes that it may have"
        length = request.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > most:
            raise RefusedError(413, too_long)
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        raise RefusedError(413, too_long)
        except TimeoutError:
            raise RefusedError(
                408, f"the body did not arrive within {self.limits.seconds:g} seconds"
            ) from None
        return bytes(body)

    def answer(self, body: bytes, kind: str) -> Response:
        """Return the reply to a body."""
        payload = read_payload(body, kind, self.limits.rows)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", HybridFlowWarning)
            table, notes = self.ask(payload)
        for warning in caught:
            if issubclass(warning.category, HybridFlowWarning):
                notes.append(str(warning.message))
        return reply(table, payload.rows, notes)

    def ask(self, payload: Payload) -> tuple[AnswerTable, list[str]]:
        """Return the answers to the rows of a request, and what there is to warn of.

        Raises
        ------
        RefusedError
            400 if the rows or the parameters cannot be used.
        """
        try:
            self.answerer.chosen(payload.params.output)
            X, notes = self.rows.read(payload)
            return self.answerer.answer(X, payload.params), notes
        except (InputError, ConfigError) as error:
            raise RefusedError(400, str(error)) from None


def reply(table: AnswerTable, rows: int, notes: list[str]) -> Response:
    """Return a table of answers as JSON, a record for each row."""
    names = list(table)
    records = [
        dict(zip(names, cells, strict=True)) for cells in zip(*table.values(), strict=True)
    ] or [{} for _ in range(rows)]
    content: dict[str, Any] = {"predictions": records}
    if notes:
        content["warnings"] = notes
    return Response(json.dumps(content, allow_nan=False), media_type="application/json")


def create_app(estimator: FlowEstimator, limits: Limits | None = None) -> FastAPI:
    """Return the application that serves a model.

    Parameters
    ----------
    estimator : HybridClassifier, HybridRegressor, FlowDensity or FlowOutlierDetector
        Fitted.
    limits : Limits, optional

    Returns
    -------
    fastapi.FastAPI
        An ASGI application: any server runs it.

    Examples
    --------
    >>> import numpy as np
    >>> from hybridflow import FlowDensity, TrainingConfig
    >>> from hybridflow.serving.app import create_app
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> model = FlowDensity(training=TrainingConfig(steps=5), random_state=0).fit(X)
    >>> create_app(model).title
    'FlowDensity'
    """
    service = Service(estimator, limits or Limits())
    app = FastAPI(
        title=type(estimator).__name__,
        version=hybridflow.__version__,
        description="A model of hybridflow, by the protocol of MLflow's scoring server.",
        redoc_url=None,
    )
    app.add_api_route(
        "/invocations",
        _guarded(service),
        methods=["POST"],
        summary="Answer for rows",
        openapi_extra=operation(estimator, service.answerer),
        responses={status: {"description": CODES[status]} for status in (400, 408, 413, 415, 500)},
    )
    for path in ("/ping", "/health"):
        app.add_api_route(path, _healthy, methods=["GET"], summary="Say that it is up")
    app.add_api_route("/version", _version, methods=["GET"], summary="The version of hybridflow")
    app.add_exception_handler(HTTPException, _refused_by_path)
    return app


def _guarded(service: Service) -> Any:
    """Return the handler of rows: whatever happens in it, the reply is JSON and no traceback."""

    async def invocations(request: Request) -> Response:
        identity = uuid.uuid4().hex
        try:
            response = await service.invoke(request)
        except RefusedError as refusal:
            return failure(refusal.status, refusal.message, identity)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except Exception:
            LOG.exception("request %s", identity)
            return failure(
                500, "the model could not answer; the log of the server says why", identity
            )
        response.headers[_ID] = identity
        return response

    return invocations


def failure(status: int, message: str, identity: str) -> Response:
    """Return a reply that says why there is no answer."""
    content = {"error_code": CODES.get(status, "ERROR"), "message": message, "request_id": identity}
    headers = {_ID: identity}
    if status in (408, 413):
        headers["Connection"] = "close"  # what is left of the body is not read
    return Response(json.dumps(content), status, headers, "application/json")


def _healthy() -> dict[str, str]:
    return {"status": "ok"}


def _version() -> Response:
    return Response(hybridflow.__version__, media_type="text/plain")


def _refused_by_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {404: "there is no such path; rows go to /invocations", 405: "send rows with POST"}
    response = failure(
        error.status_code, told.get(error.status_code, str(error.detail)), uuid.uuid4().hex
    )
    response.headers.update(error.headers or {})
    return response
