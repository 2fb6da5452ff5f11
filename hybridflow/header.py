"""The header of a container: strict JSON, tensors that tile the file, the digest.

Nothing here imports torch or allocates what a header declares.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hybridflow.errors import CorruptModelError, ResourceLimitError, UnsupportedFormatError

KEY = "hybridflow"
"""The one key of the header's metadata."""

MAX_TENSORS = 65_536
MAX_DIMENSIONS = 16
MAX_JSON_ITEMS = 1_000_000

_ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}


@dataclass(frozen=True)
class Entry:
    """One tensor as the header declares it; `begin` and `end` count from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def parse_header(header: bytes, size: int) -> tuple[dict[str, Any], list[Entry]]:
    """Return the document and the tensors that a header describes, both checked.

    Parameters
    ----------
    header : bytes
        What follows the eight bytes of the length, padding included.
    size : int
        Bytes of the whole file.

    Returns
    -------
    document : dict
        The description, its digest not yet compared.
    entries : list of Entry
        In the order of the file, without hole or overlap, up to its end.

    Raises
    ------
    CorruptModelError
        If anything is not in the one form that `write_container` writes.
    ResourceLimitError
        If there are more tensors or items than a bundle may have.
    UnsupportedFormatError
        If the header is that of a safetensors file of somebody else.
    """
    fields = _strict_json(header, "header")
    metadata = fields.pop("__metadata__", None)
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str) or len(metadata) != 1:
        # A bundle has the word in three places, so one damaged place does not hide it.
        if KEY.encode() in header:
            raise CorruptModelError("its description is damaged")
        raise UnsupportedFormatError(
            "this is a safetensors file without hybridflow's description: "
            "weights alone, not a bundle"
        )
    document = _strict_json(text.encode(), "description")
    again = {"__metadata__": {KEY: canonical(document)}, **fields}
    written = json.dumps(again, separators=(",", ":"), ensure_ascii=False)
    # Spaces at the end align the tensors; how many is settled by where those begin.
    if header.rstrip(b" ") != written.encode():
        raise CorruptModelError("its header is not in the form that hybridflow writes")
    if len(fields) > MAX_TENSORS:
        raise ResourceLimitError(f"{len(fields)} tensors; the limit is {MAX_TENSORS}")
    entries = []
    position = 8 + len(header)
    for name, field in fields.items():
        entries.append(_entry(name, field, 8 + len(header), position))
        position = entries[-1].end
    if position != size:
        raise CorruptModelError(
            f"truncated or changed: it has {size} bytes, its header describes {position}"
        )
    return document, entries


def _strict_json(data: bytes, what: str) -> dict[str, Any]:
    """Parse one JSON object; NaN, repeated keys and excesses are refused."""
    # Each item costs far more memory as an object than as text.
    if sum(data.count(mark) for mark in b",[{") > MAX_JSON_ITEMS:
        raise ResourceLimitError(f"its {what} has more than {MAX_JSON_ITEMS} items")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_not_json
        )
        canonical(value)  # refuses numbers that overflow, and too deep a nesting
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise CorruptModelError(f"its {what} is not valid JSON: {reason}") from None
    if not isinstance(value, dict):
        raise CorruptModelError(f"its {what} is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is repeated")
    return value


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not a number in JSON")


def canonical(value: Any) -> str:
    """Return the one text of a JSON value: keys sorted, no spaces, ASCII, finite numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _entry(name: str, field: Any, start: int, position: int) -> Entry:
    """Return one tensor's entry if it begins where the one before it ended."""
    place = f"tensor {name[:100]!r}"
    if not isinstance(field, dict) or list(field) != ["dtype", "shape", "data_offsets"]:
        raise CorruptModelError(f"{place}: its description is not dtype, shape and place")
    dtype, shape, offsets = field.values()
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise CorruptModelError(f"{place}: its dtype is not one that a bundle has")
    if (
        not _counts(shape)
        or len(shape) > MAX_DIMENSIONS
        or not _counts(offsets)
        or len(offsets) != 2
    ):
        raise CorruptModelError(f"{place}: its shape or place is not made of counts")
    begin, end = offsets
    if start + begin != position or end - begin != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise CorruptModelError(
            f"{place}: its bytes do not follow the tensor before it, or do not fill its shape"
        )
    return Entry(name, dtype, tuple(shape), start + begin, start + end)


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**63 for value in values
    )


def digest(
    document: Mapping[str, Any],
    entries: Iterable[Entry],
    blocks: Callable[[Entry], Iterable[bytes | memoryview]],
) -> str:
    """Return the SHA-256 of a document and of each tensor's name, dtype, shape and bytes.

    Parameters
    ----------
    document : mapping
        Plain JSON without ``sha256``.
    entries : iterable of Entry
        In any order; the tensors are taken by name.
    blocks : callable
        ``blocks(entry)`` iterates over the bytes of one tensor.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    ordered = sorted(entries, key=lambda entry: entry.name)
    described = [[entry.name, entry.dtype, entry.shape] for entry in ordered]
    hasher = hashlib.sha256(canonical([document, *described]).encode())
    for entry in ordered:
        for block in blocks(entry):
            hasher.update(block)
    return hasher.hexdigest()


def check_digest(
    document: Mapping[str, Any],
    entries: Iterable[Entry],
    blocks: Callable[[Entry], Iterable[bytes | memoryview]],
) -> None:
    """Compare the digest of the content with the one in the document.

    Raises
    ------
    CorruptModelError
        If they differ.
    """
    stored = document.get("sha256")
    rest = {name: value for name, value in document.items() if name != "sha256"}
    if stored != digest(rest, entries, blocks):
        raise CorruptModelError("its content does not have the SHA-256 stored with it: changed")
