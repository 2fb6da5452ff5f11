"""What a command says on the standard error stream, and how it fails."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import typer

from hybridflow.errors import HybridFlowError, HybridFlowWarning

USER_ERROR = 1
VERIFICATION_FAILED = 3
INTERRUPTED = 130
PIPE_CLOSED = 141


def talk(text: str) -> None:
    """Say something to the user: never on the standard output, which is for data."""
    typer.echo(text, err=True)


@contextmanager
def failures() -> Iterator[None]:
    """Turn what the user can mend into one message and an exit code.

    With ``HYBRIDFLOW_DEBUG=1`` errors keep their traceback.
    """
    try:
        with short_warnings():
            yield
    except BrokenPipeError:
        discard_output()
        raise typer.Exit(PIPE_CLOSED) from None
    except SystemExit as exit:
        # So ends rich, which prints the help, where its reader is gone; typer raises Exit.
        if exit.code != 1:
            raise
        raise typer.Exit(PIPE_CLOSED) from None
    except KeyboardInterrupt:
        talk("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except (HybridFlowError, OSError) as error:
        if os.environ.get("HYBRIDFLOW_DEBUG") == "1":
            raise
        talk(f"error: {_text(error)}")
        raise typer.Exit(USER_ERROR) from None


@contextmanager
def short_warnings() -> Iterator[None]:
    """Show the warnings of hybridflow as one line each, without file and line of code."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", HybridFlowWarning)
        show = warnings.showwarning

        def short(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, HybridFlowWarning):
                talk(f"warning: {message}")
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = short
        yield


def discard_output() -> None:
    """Send what is still buffered nowhere, so that closing the stream does not fail again."""
    if sys.stdout is None:
        return
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _text(error: BaseException) -> str:
    """Return the message of an error; that of an OSError with its path in front."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        name = error.filename
        return f"{os.fsdecode(name) if isinstance(name, bytes) else name}: {error.strerror}"
    return str(error)
