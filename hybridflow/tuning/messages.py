"""What a command and its worker processes say to each other: a plan, then lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

_LENGTH = 8  # bytes of the length in front of the plan


def write_plan(stream: IO[bytes], plan: bytes) -> None:
    """Send a plan, as bytes of a pickle, to a worker."""
    stream.write(len(plan).to_bytes(_LENGTH, "big"))
    stream.write(plan)
    stream.flush()


def write_line(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Send one message."""
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def read_plan(stream: IO[bytes]) -> bytes:
    """Receive a plan."""
    return stream.read(int.from_bytes(stream.read(_LENGTH), "big"))


def read_lines(stream: IO[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the messages until the other side is gone."""
    for line in stream:
        yield json.loads(line)
