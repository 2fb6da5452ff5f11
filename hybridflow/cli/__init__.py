"""The command line: fit, predict, score, sample, inspect, verify, plugins.

Data goes to the standard output, all that is said about it to the standard
error stream. Exit codes: 0 done; 1 the data, the settings or a file cannot be
used; 2 wrong usage; 3 verification failed; 130 interrupted; 141 the reader of
the output went away. Importing this imports none of the heavy libraries.

The maths runs in one thread unless ``OMP_NUM_THREADS`` says otherwise: tensors
are small, and more threads than free cores make it many times slower.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from hybridflow.cli.failures import PIPE_CLOSED, discard_output


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows the name of the program; by default what it was started with.

    Raises
    ------
    SystemExit
        Always, with the exit code.
    """
    from hybridflow.cli.app import command

    os.environ.setdefault("OMP_NUM_THREADS", "1")  # which torch reads when it is imported
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks is shown escaped.
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            command()(args=arguments, prog_name="hybridflow")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        sys.exit(PIPE_CLOSED)
