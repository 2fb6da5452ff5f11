"""Atomic writing: a path holds the old file or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from hybridflow.errors import UnsafePathError

_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def atomic_write(
    path: str | os.PathLike[str],
    writer: Callable[[BinaryIO], object],
    *,
    overwrite: bool = True,
) -> None:
    """Write a file so that every reader sees the old one or the whole new one.

    The bytes go to a temporary file in the same folder, reach the disk, and
    then take the name in one step. Whatever fails, an existing file is kept as
    it was and the temporary file is removed. A new file gets the mode that the
    umask leaves, a replaced one keeps its own; a symbolic link stays a link.

    Parameters
    ----------
    path : str or os.PathLike
        Where the file shall be.
    writer : callable
        Called once with a binary file open for writing.
    overwrite : bool, default=True
        Whether an existing file may be replaced.

    Raises
    ------
    FileExistsError
        If `overwrite` is False and the path exists, also when another process
        created it while this one wrote.
    UnsafePathError
        If the path is a device, a pipe or a socket.
    OSError
        If the file cannot be written (no such folder, no permission, disk
        full); the message holds the path.

    Examples
    --------
    >>> import tempfile
    >>> from hybridflow.atomic import atomic_write
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "numbers.csv"
    ...     atomic_write(path, lambda file: file.write(b"1,2,3"))
    ...     path.read_text()
    '1,2,3'
    """
    shown = os.fsdecode(path)
    try:
        mode = _mode_of_existing(shown, overwrite)
        # The target of a link is replaced, not the link.
        target = Path(os.path.realpath(shown))
        # A short name of its own: the longest legal name leaves no room for a suffix.
        temporary = target.with_name(f".hybridflow-{secrets.token_hex(8)}")
        try:
            _write_new(temporary, writer, mode)
            _move(temporary, target, overwrite)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
    except OSError as error:
        if error.errno is None:
            raise
        # Errors name the temporary file, or none at all: name what was asked for.
        raise OSError(error.errno, error.strerror, shown) from error


def _mode_of_existing(path: str, overwrite: bool) -> int | None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(mode):
        raise UnsafePathError(f"{path}: not a regular file, so it cannot be replaced by one")
    if not overwrite:
        raise _exists(path)
    return stat.S_IMODE(mode)


def _exists(path: str) -> FileExistsError:
    text = "the file exists and may not be overwritten (overwrite=True replaces it)"
    return FileExistsError(errno.EEXIST, text, path)


def _write_new(path: Path, writer: Callable[[BinaryIO], object], mode: int | None) -> None:
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags, 0o666)

    with open(path, "xb", opener=opener) as file:
        if mode is not None:
            path.chmod(mode)
        writer(file)
        file.flush()
        os.fsync(file.fileno())


def _move(temporary: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(temporary, target)
        return
    try:
        os.link(temporary, target)  # fails where the name is taken, unlike a rename
    except FileExistsError:
        raise _exists(str(target)) from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _move_where_links_are_unknown(temporary, target)


def _move_where_links_are_unknown(temporary: Path, target: Path) -> None:
    """Take the name with an empty file first (exFAT and some network folders)."""
    try:
        open(target, "xb").close()
    except FileExistsError:
        raise _exists(str(target)) from None
    try:
        os.replace(temporary, target)
    except BaseException:
        target.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    # The file is whole and in place: a folder that cannot be synced is no failure.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
