r"""The file behind a bundle: one safetensors file that carries its own digest.

The header's ``__metadata__`` has one key, ``hybridflow``, whose value is one
JSON document in canonical form (sorted keys, no spaces, ASCII). To what the
caller stores there, three fields are added: ``format_version``, the
``hybridflow_version`` that wrote the file, and ``sha256``, over

.. math:: \mathrm{JSON}([\text{document without sha256},
          [\text{name}, \text{dtype}, \text{shape}]\ldots]) \,\Vert\,
          \text{bytes of every tensor},

the tensors sorted by name. On reading the header must be in canonical form,
byte for byte, and the tensors must tile the rest of the file, so every bit of
it is either fixed by this form or covered by the digest. The digest guards
against damage, not against an author with bad intentions: nothing in a file is
ever executed or imported. Digest and form stay the same in every format
version, so that damage is not mistaken for a newer version.

This module knows nothing of models.
"""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from hybridflow import __version__
from hybridflow.atomic import atomic_write
from hybridflow.errors import (
    CorruptModelError,
    IncompatibleModelError,
    ModelFileError,
    ResourceLimitError,
    UnsafePathError,
    UnsupportedFormatError,
)
from hybridflow.filetype import looks_like
from hybridflow.header import KEY, Entry, canonical, check_digest, digest, parse_header

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
"""Version of the container that this hybridflow writes, and the newest it reads."""

MAX_HEADER_BYTES = 16 * 2**20
MAX_FILE_BYTES = 16 * 2**30

_START = b'{"__metadata__":'
_ADDED = ("format_version", "hybridflow_version", "sha256")
_DTYPE_NAMES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.int16": "I16",
    "torch.int8": "I8",
    "torch.uint8": "U8",
    "torch.bool": "BOOL",
}
_BLOCK = 2**20


def write_container(
    path: str | os.PathLike[str],
    document: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    overwrite: bool = True,
) -> None:
    """Write a document and tensors as one guarded safetensors file, atomically.

    Parameters
    ----------
    path : str or os.PathLike
        Where the file shall be.
    document : mapping
        Plain JSON: str keys, finite numbers. ``format_version``,
        ``hybridflow_version`` and ``sha256`` are added.
    tensors : mapping of str to Tensor
        Stored in their dtype, from whatever device and layout they have.
    overwrite : bool, default=True
        Whether an existing file may be replaced.

    Raises
    ------
    ModelFileError
        If the document is not plain JSON, or a tensor holds NaN or infinity or
        has a dtype that is not stored; nothing is written.
    ResourceLimitError
        If the file would be larger than `read_container` accepts.
    FileExistsError, UnsafePathError, OSError
        As `atomic_write`.

    Examples
    --------
    >>> import tempfile, torch
    >>> from hybridflow.container import read_container, write_container
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_container(f"{folder}/a.hflow", {"colour": "red"}, {"w": torch.ones(2)})
    ...     document, tensors = read_container(f"{folder}/a.hflow")
    >>> document["colour"], tensors["w"]
    ('red', tensor([1., 1.]))
    """
    import torch
    from safetensors.torch import save

    taken = [name for name in _ADDED if name in document]
    if taken:
        raise ModelFileError(f"the document may not hold {', '.join(taken)}: the container does")
    # Copies, since safetensors refuses tensors that share memory or have gaps.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    try:
        entries = [_entry_of(name, tensor) for name, tensor in plain.items()]
        full = {**document, "format_version": FORMAT_VERSION, "hybridflow_version": __version__}
        guard = digest(full, entries, lambda entry: [_bytes_of(plain[entry.name])])
        data = save(plain, metadata={KEY: canonical({**full, "sha256": guard})})
        # What could not be read back is not written.
        parse_header(_read_header(io.BytesIO(data), len(data)), len(data))
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(f"the model's description is not plain JSON: {error}") from error
    except CorruptModelError as error:
        raise ModelFileError(f"this model cannot be saved: {error}") from None
    atomic_write(path, lambda file: file.write(data), overwrite=overwrite)


def read_container(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read and check a whole file: the document and all tensors.

    Everything is validated before memory is taken for it, and the digest is
    always compared. Memory stays under twice the size of the file, plus what
    the libraries themselves take.

    Parameters
    ----------
    path : str or os.PathLike
        A regular file.

    Returns
    -------
    document : dict
        What was stored, with ``format_version``, ``hybridflow_version``, ``sha256``.
    tensors : dict of str to Tensor
        On the CPU, in their stored dtype.

    Raises
    ------
    CorruptModelError
        If the file is empty, truncated, changed, or inconsistent with itself.
    UnsupportedFormatError
        If it is another kind of file; the message says which it looks like.
    IncompatibleModelError
        If a newer hybridflow wrote it in a newer format.
    UnsafePathError
        If the path is a device, a pipe, a socket or a loop of links.
    OSError
        If it is missing, a folder, or not readable.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    shown = os.fsdecode(path)
    with _open_regular(shown) as file, _named(shown):
        size = os.fstat(file.fileno()).st_size
        header = _read_header(file, size)
        document, entries = parse_header(header, size)
        file.seek(0)
        data = _read_exactly(file, size)
        if data[8 : 8 + len(header)] != header:
            raise CorruptModelError("the file changed while it was read")
        check_digest(document, entries, lambda entry: [memoryview(data)[entry.begin : entry.end]])
        _check_version(document)
        try:
            tensors = load(data)
        except SafetensorError as error:
            raise CorruptModelError(f"safetensors cannot read it: {error}") from None
        for name, tensor in tensors.items():
            _check_values(name, tensor)
    return document, tensors


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the document alone, in constant memory, without importing torch.

    The file is checked as in `read_container`, digest included; only the
    values of the tensors are not looked at.

    Parameters
    ----------
    path : str or os.PathLike
        A regular file.

    Returns
    -------
    dict
        As from `read_container`.

    Raises
    ------
    ModelFileError, OSError
        As `read_container`.
    """
    shown = os.fsdecode(path)
    with _open_regular(shown) as file, _named(shown):
        size = os.fstat(file.fileno()).st_size
        document, entries = parse_header(_read_header(file, size), size)

        def blocks(entry: Entry) -> Iterator[bytes]:
            file.seek(entry.begin)
            for begin in range(entry.begin, entry.end, _BLOCK):
                yield _read_exactly(file, min(_BLOCK, entry.end - begin))

        check_digest(document, entries, blocks)
        _check_version(document)
    return document


def _open_regular(path: str) -> BinaryIO:
    try:
        # Looked at before it is opened, since opening a device can act on it, and again
        # after, since the path may have been exchanged; a pipe must not block the open.
        _check_regular(os.stat(path).st_mode, path)
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        file = os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnsafePathError(f"{path}: a loop of symbolic links") from None
        raise
    try:
        _check_regular(os.fstat(file.fileno()).st_mode, path)
    except BaseException:
        file.close()
        raise
    return file


def _check_regular(mode: int, path: str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise UnsafePathError(f"{path}: not a regular file (a device, a pipe or a socket)")


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Put the path in front of what is wrong with the file."""
    try:
        yield
    except ModelFileError as error:
        raise type(error)(f"{path}: {error}") from None
    except MemoryError:
        raise ResourceLimitError(f"{path}: larger than the memory that is left") from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise CorruptModelError("the file became shorter while it was read")
    return data


def _read_header(file: BinaryIO, size: int) -> bytes:
    """Return the header's bytes, or say what kind of file this is instead."""
    if size <= 8:
        raise CorruptModelError(
            f"the file is empty or truncated ({size} bytes)" if size else "the file is empty"
        )
    head = _read_exactly(file, min(size, 4096))
    length = int.from_bytes(head[:8], "little")
    if length <= min(size - 8, MAX_HEADER_BYTES):
        if size > MAX_FILE_BYTES:
            raise ResourceLimitError(f"{size} bytes; a bundle may have {MAX_FILE_BYTES}")
        file.seek(8)
        return _read_exactly(file, length)
    # No other kind of file gets here with five or more zero bytes before a brace, so a
    # bundle with a damaged length is not taken for something else.
    if _START.startswith(head[8 : 8 + len(_START)]):
        raise CorruptModelError(
            f"truncated or changed: its header should have {length} bytes, "
            f"and {size - 8} follow (at most {MAX_HEADER_BYTES} are allowed)"
        )
    file.seek(max(0, size - 16))
    kind = looks_like(head, file.read(16))
    if kind is None:
        raise CorruptModelError("this is not a hybridflow bundle, or its start is damaged")
    raise UnsupportedFormatError(
        f"this is not a hybridflow bundle: it looks like {kind}. "
        "hybridflow reads only what the save method of its estimators wrote"
    )


def _check_version(document: Mapping[str, Any]) -> None:
    version, writer = (document.get(name) for name in ("format_version", "hybridflow_version"))
    known = isinstance(writer, str) and re.fullmatch(r"[0-9][0-9A-Za-z.+!]{0,60}", writer)
    if type(version) is not int or version < 1 or not known:
        raise CorruptModelError("it does not say which version of hybridflow wrote it")
    if version > FORMAT_VERSION:
        raise IncompatibleModelError(
            f"format version {version} needs hybridflow >= {writer}, this is {__version__}: "
            f'pip install "hybridflow>={writer}"'
        )


def _entry_of(name: str, tensor: Tensor) -> Entry:
    _check_values(name, tensor)
    dtype = _DTYPE_NAMES.get(str(tensor.dtype))
    if dtype is None:
        raise CorruptModelError(f"tensor {name!r}: {tensor.dtype} is not stored in a bundle")
    return Entry(name, dtype, tuple(tensor.shape), 0, tensor.nbytes)


def _bytes_of(tensor: Tensor) -> memoryview:
    import torch

    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _check_values(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity, with no temporary of the tensor's size."""
    if tensor.is_floating_point() and tensor.numel():
        low, high = tensor.aminmax()
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CorruptModelError(f"tensor {name!r} holds NaN or infinity")
