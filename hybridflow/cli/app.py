"""The program: its name, version, help, and one command per file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hybridflow import __version__
from hybridflow.cli import (
    export,
    fit,
    inspect,
    plugins,
    predict,
    sample,
    score,
    serve,
    tune,
    verify,
)
from hybridflow.cli.failures import failures

EPILOG = """Exit codes: 0 done, 1 the data, the settings or a file cannot be used, 2 wrong usage, \
3 verification failed, 130 interrupted, 141 the reader of the output went away.

Set HYBRIDFLOW_DEBUG=1 to see the traceback of an error."""


class Program(TyperGroup):
    """The group of commands, with the errors of every command made readable.

    The type of a context differs between versions of typer, hence `Any`.
    """

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments; ``--help`` and ``--version`` print here."""
        with failures():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with failures():
            return super().invoke(ctx)


app = typer.Typer(
    name="hybridflow",
    cls=Program,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
for verb in (fit, tune, predict, score, sample, inspect, verify, serve):
    app.command(verb.NAME, epilog=verb.EPILOG)(verb.command)
app.add_typer(export.app, name=export.NAME)
app.add_typer(plugins.app, name="plugins")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"hybridflow {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Fit, use and check hybrid models: prediction, uncertainty, density and samples in one."""


def command() -> Callable[..., Any]:
    """Return the program as a callable of ``args`` and ``prog_name``."""
    return typer.main.get_command(app)
