"""Where a study is kept: a journal file, SQLite, or a database server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from hybridflow.errors import ConfigError, MissingExtraError, TuningError
from hybridflow.tuning.backend import optuna, quiet
from hybridflow.tuning.lock import JournalLock

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.storages.journal import BaseJournalBackend, JournalFileOpenLock

JOURNAL = "hybridflow-tuning.journal"
"""The file of a study where none is named, in the working folder."""

# What brings the driver of a database, where the name of the module is not that of the package.
_PACKAGES = {"psycopg2": "psycopg2-binary", "psycopg": "psycopg[binary]", "MySQLdb": "mysqlclient"}
_WAIT = 60  # seconds to wait for the lock of an SQLite file


def open_storage(where: str | Path | BaseStorage) -> BaseStorage:
    """Open the storage of a study, and make it if it is not there.

    Parameters
    ----------
    where : str, Path or storage of Optuna
        The path of a journal file, or the URL of a database as SQLAlchemy writes
        it: ``sqlite:///study.db``, ``postgresql://user:password@host/name``,
        ``mysql+pymysql://...``.

    Returns
    -------
    optuna.storages.BaseStorage

    Raises
    ------
    ConfigError
        If the text is no URL of a database, or the file no journal.
    MissingExtraError
        If the driver of the database is not installed.
    TuningError
        If the database does not answer.
    OSError
        If the file cannot be read or written.
    """
    if isinstance(where, optuna.storages.BaseStorage):
        return where
    with quiet():
        if "://" in str(where):
            return _database(str(where))
        return _journal(Path(where))


def shown(where: str | Path | BaseStorage) -> str:
    """Return what a storage is called in messages, without a password.

    Examples
    --------
    >>> from hybridflow.tuning.storage import shown
    >>> shown("postgresql://me:secret@host/studies")
    'postgresql://me:***@host/studies'
    """
    if not isinstance(where, str | Path):
        return type(where).__name__
    text = str(where)
    if "://" not in text:
        return text
    scheme, _, rest = text.partition("://")
    login, at, host = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}{at}{host}"


def _journal(path: Path) -> BaseStorage:
    journal = optuna.storages.journal
    if path.is_dir():
        raise ConfigError(
            f"storage: {path} is a folder; name a file in it, such as {path / JOURNAL}"
        )
    if path.exists():
        with path.open("rb") as file:
            start = file.read(1)
        if start not in (b"", b"{"):
            raise ConfigError(
                f"storage: {path} is no journal of a study; for an SQLite file write "
                f"sqlite:///{path}"
            )
    path = path.absolute()
    lock = JournalLock(path)
    as_optuna = cast("JournalFileOpenLock", lock)  # of which it needs acquire and release
    backend: BaseJournalBackend = journal.JournalFileBackend(str(path), lock_obj=as_optuna)
    lock.acquire()
    try:
        _mend(path)
    finally:
        lock.release()
    return optuna.storages.JournalStorage(backend)


def _mend(path: Path) -> None:
    """Cut off a last line that was never written to its end, as after a loss of power.

    What is appended to such a line could not be read again.
    """
    with path.open("r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 4096)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def _database(url: str) -> BaseStorage:
    import sqlalchemy

    try:
        parsed = sqlalchemy.engine.make_url(url)
        driver = parsed.get_dialect().driver
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise ConfigError(
            f"storage: {shown(url)} is no URL of a database that is known; use a path, "
            "sqlite:///study.db, postgresql://user@host/name or mysql+pymysql://user@host/name"
        ) from None
    sqlite = parsed.get_backend_name() == "sqlite"
    options = {"connect_args": {"timeout": _WAIT}} if sqlite else {"pool_pre_ping": True}
    try:
        return optuna.storages.RDBStorage(url, engine_kwargs=options)
    except ImportError as error:
        module = getattr(error.__cause__ or error, "name", None) or driver
        package = _PACKAGES.get(module, module)
        raise MissingExtraError(
            f"storage: {shown(url)} needs the driver {driver}, which is not installed: "
            f'pip install "{package}"'
        ) from error
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ or error
        first = str(getattr(cause, "orig", None) or cause).strip().splitlines()[0]
        raise TuningError(f"storage: {shown(url)} cannot be used: {first}") from None
