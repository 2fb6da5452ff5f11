"""Tables in and out of the command line: CSV and Parquet in; CSV, Parquet and JSON out."""

from __future__ import annotations

import csv
import errno
import io
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, get_args

from hybridflow.atomic import atomic_write
from hybridflow.cli.options import Format
from hybridflow.errors import ConfigError, InputError, closest
from hybridflow.filetype import looks_like

if TYPE_CHECKING:
    import polars as pl

STANDARD_STREAM = "-"
_BLOCK = 2**20
_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "ndjson",
    ".ndjson": "ndjson",
}


def read_table(source: str) -> pl.DataFrame:
    """Read a table; its first bytes tell CSV from Parquet.

    Parameters
    ----------
    source : str
        Path of a file, or ``"-"`` for the standard input.

    Returns
    -------
    polars.DataFrame
        Empty cells are nulls. Columns of a CSV are whole numbers, numbers,
        true/false or text.

    Raises
    ------
    InputError
        If it is neither, has no rows, or is not rectangular; the message holds
        the file and, where there is one, the line.
    OSError
        If the file cannot be read.
    """
    piped = source == STANDARD_STREAM
    data = sys.stdin.buffer.read() if piped else Path(source).read_bytes()
    with in_file(source):
        frame = _read_parquet(data) if data.startswith(b"PAR1") else _read_csv(data)
        if frame.height == 0:
            raise InputError("the table has a header but no rows")
    return frame


def is_parquet(source: str) -> bool:
    """Return whether a source is a Parquet file, and no stream, by its first bytes."""
    if source == STANDARD_STREAM or not Path(source).is_file():
        return False
    with open(source, "rb") as file:
        return file.read(4) == b"PAR1"


def write_table(
    frame: pl.DataFrame, destination: str, *, format: Format | None = None, force: bool = False
) -> None:
    """Write a table as `write_tables` writes several."""
    write_tables([frame], destination, format=format, force=force)


def write_tables(
    frames: Iterable[pl.DataFrame],
    destination: str,
    *,
    format: Format | None = None,
    force: bool = False,
) -> None:
    """Write tables one below the other to a file, atomically, or to the standard output.

    No two of them are in memory together.

    Raises
    ------
    ConfigError
        If neither the suffix nor `format` says the format.
    OSError
        If the file exists and `force` is False, or cannot be written.
    """
    kind = output_format(destination, format)
    if destination == STANDARD_STREAM:
        _write(frames, sys.stdout.buffer, kind)
        sys.stdout.buffer.flush()
    else:
        atomic_write(destination, lambda file: _write(frames, file, kind), overwrite=force)


def _write(frames: Iterable[pl.DataFrame], file: BinaryIO, kind: Format) -> None:
    if kind == "parquet":
        _write_parquet(iter(frames), file)
        return
    for i, frame in enumerate(frames):
        data = io.BytesIO()
        if kind == "csv":
            frame.write_csv(data, include_header=i == 0)
        elif kind == "ndjson":
            frame.write_ndjson(data)
        else:
            frame.write_json(data)
        rest = data.getbuffer()
        if kind == "json":  # a list of records: those of later tables go on with it
            rest = memoryview((b"[" if i == 0 else b",") + bytes(rest[1:-1]))
        while rest:  # with PYTHONUNBUFFERED a write may take only a part
            rest = rest[file.write(rest) :]
    if kind == "json":
        file.write(b"]\n")


def _write_parquet(frames: Iterator[pl.DataFrame], file: BinaryIO) -> None:
    """Write one Parquet file, the tables by way of a file each: it needs to know all of them."""
    import polars as pl

    with tempfile.TemporaryDirectory(prefix="hybridflow-") as folder:
        paths = []
        for i, frame in enumerate(frames):
            paths.append(Path(folder) / f"{i}.parquet")
            frame.write_parquet(paths[-1])
        whole = paths[0]
        if len(paths) > 1:
            whole = Path(folder) / "whole.parquet"
            pl.scan_parquet(paths).sink_parquet(whole)
        with whole.open("rb") as written:
            while rest := memoryview(written.read(_BLOCK)):
                while rest:
                    rest = rest[file.write(rest) :]


def output_format(destination: str, format: Format | None) -> Format:
    """Return the format of an output: as asked for, as the suffix says, or CSV for a stream.

    Raises
    ------
    ConfigError
        If the suffix is none that is known, or binary data would go to a terminal.
    """
    if destination == STANDARD_STREAM:
        if format == "parquet" and sys.stdout.isatty():
            raise ConfigError("Parquet is not for a terminal: use -o FILE, or pipe it on")
        return format or "csv"
    suffix = Path(destination).suffix.lower()
    if format is None and suffix not in _SUFFIXES:
        raise ConfigError(
            f"{destination}: the suffix {suffix!r} says no format; use one of "
            f"{', '.join(_SUFFIXES)} or --format {'|'.join(get_args(Format))}"
        )
    return format or _SUFFIXES[suffix]


def refuse_existing(path: Path) -> None:
    """Raise FileExistsError, saying what replaces the file."""
    if path.exists():
        raise FileExistsError(errno.EEXIST, "the file exists; --force replaces it", str(path))


def column(frame: pl.DataFrame, name: str, *, option: str) -> pl.Series:
    """Return a column that an option names.

    Raises
    ------
    InputError
        If there is none; the message holds the names, and the closest.
    """
    if name not in frame.columns:
        raise InputError(
            f"{option}: there is no column {name!r}; the table has {listed(frame.columns)}"
            f"{closest(name, frame.columns)}"
        )
    return frame[name]


def shown(source: str) -> str:
    """Return what a source is called in messages."""
    return "standard input" if source == STANDARD_STREAM else source


def listed(names: Sequence[str], most: int = 12) -> str:
    """Return names for a message, at most `most` of them."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


@contextmanager
def in_file(source: str, start: int = 0) -> Iterator[None]:
    """Put the name of a file in front of what is wrong with its data.

    Of data that begin behind the first row it says where they do.
    """
    try:
        yield
    except InputError as error:
        counted = f" (rows count from row {start} of the file)" if start else ""
        raise type(error)(f"{shown(source)}: {error}{counted}") from None


def _read_parquet(data: bytes) -> pl.DataFrame:
    import polars as pl

    try:
        return pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(f"this Parquet file cannot be read: {_first_line(error)}") from None


def _read_csv(data: bytes) -> pl.DataFrame:
    import polars as pl

    _check_kind(data)
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    data = data.rstrip(b"\r\n")
    names = _check_lines(data)
    try:
        frame = pl.read_csv(io.BytesIO(data), infer_schema_length=None, new_columns=names)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise InputError(f"this CSV file cannot be read: {_first_line(error)}") from None
    return frame.with_columns(
        _numbers(frame[name]) for name, dtype in frame.schema.items() if dtype == pl.String
    )


def _check_kind(data: bytes) -> None:
    """Refuse what is no CSV at all, saying what it looks like."""
    if not data.strip():
        raise InputError("the file is empty")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError("the text is UTF-16: save it as CSV UTF-8")
    kind = looks_like(data[:4096], data[-16:])
    if data[8:25] == b'{"__metadata__":{':
        kind = "a saved model"
    if kind is not None and not kind.startswith("text"):
        raise InputError(f"expected a CSV or Parquet table, this looks like {kind}")


def _check_lines(data: bytes) -> list[str]:
    """Return the column names, after checking that every line has as many cells.

    polars fills short lines up with nulls and renames repeated columns.
    """
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", newline="")
    lines = csv.reader(text, strict=True)
    try:
        names = [name.strip() for name in next(lines)]
        _check_names(names)
        for cells in lines:
            # An empty line is an empty cell where there is one column.
            if len(cells) != len(names) and (cells or len(names) > 1):
                raise InputError(
                    f"line {lines.line_num} has {len(cells)} cells, the header has {len(names)}"
                    if cells
                    else f"line {lines.line_num} is empty: remove it"
                )
    except csv.Error as error:
        raise InputError(f"line {lines.line_num}: {error}") from None
    except UnicodeDecodeError:
        raise InputError(_about_encoding(data)) from None
    return names


def _check_names(names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1 and name})
    if repeated:
        raise InputError(f"line 1: column names must be unique, repeated: {', '.join(repeated)}")
    if "" in names:
        raise InputError(
            f"line 1: column {names.index('') + 1} of {len(names)} has no name: give it one"
        )
    other = [mark for mark in (";", "\t", "|") if mark in names[0]]
    if len(names) == 1 and other:
        raise InputError(
            f"line 1: one column named {names[0]!r}; cells seem to be separated by {other[0]!r}, "
            "expected commas (and decimal points)"
        )


def _about_encoding(data: bytes) -> str:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return f"line {line}: byte 0x{data[error.start]:02x} is not UTF-8: save it as CSV UTF-8"
    return "the text is not UTF-8: save it as CSV UTF-8"


def _numbers(texts: pl.Series) -> pl.Series:
    """Read a column of text as numbers if every cell is one, once quotes and spaces are off."""
    import polars as pl

    stripped = texts.str.strip_chars()
    empty = stripped == ""
    cells = stripped.set(empty, None)
    known = cells.len() - cells.null_count()
    for dtype in (pl.Int64, pl.Float64):
        numbers = cells.cast(dtype, strict=False)
        if known and numbers.len() - numbers.null_count() == known:
            return numbers
    return texts.set(empty, None)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
