"""``hybridflow serve``: a model over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from hybridflow.cli.options import Model

NAME = "serve"
EPILOG = """Examples:

hybridflow serve houses.hflow --port 8000

curl http://127.0.0.1:8000/invocations -H 'Content-Type: text/csv' -T new.csv -X POST

The interface is described at /docs, and by the page about serving."""


def command(
    model: Model,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="0.0.0.0 for every address of this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    max_body: Annotated[
        float, typer.Option(metavar="MIB", help="Largest body of a request, in MiB.")
    ] = 16.0,
    max_rows: Annotated[int, typer.Option(min=1, help="Most rows of a request.")] = 100_000,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Within which a request must have arrived.")
    ] = 10.0,
    extra: Annotated[
        Literal["error", "ignore"],
        typer.Option(help="Whether columns that the model does not know are refused."),
    ] = "error",
) -> None:
    """Serve a model over HTTP, by the protocol of MLflow's scoring server, until stopped.

    POST rows to /invocations; /ping, /health and /version say that it is up. There is no
    encryption and no password: put a proxy in front of it that has both.
    """
    from hybridflow import load
    from hybridflow.cli.failures import talk
    from hybridflow.errors import require
    from hybridflow.serving.limits import Limits

    require("fastapi", "serve")
    require("uvicorn", "serve")
    from hybridflow.serving.server import serve

    if not 0 < max_body <= 4096:
        raise typer.BadParameter("expected more than 0, at most 4096", param_hint="--max-body")
    if not 0 < timeout <= 3600:
        raise typer.BadParameter("expected more than 0, at most 3600", param_hint="--timeout")
    limits = Limits(body=round(max_body * 2**20), rows=max_rows, seconds=timeout, extra=extra)
    serve(
        load(model),
        host=host,
        port=port,
        limits=limits,
        ready=lambda address: talk(f"serving {model} at {address}, described at {address}/docs"),
    )
