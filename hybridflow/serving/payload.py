"""The body of a request: from JSON or CSV to columns of cells, and the parameters."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import Any, NoReturn

from hybridflow.answering import AnswerParams
from hybridflow.errors import ConfigError
from hybridflow.serving.refusal import RefusedError

JSON, CSV = "application/json", "text/csv"

_TABLES = ("dataframe_split", "dataframe_records", "instances", "inputs")
_FORMS = ", ".join(_TABLES)


@dataclass(frozen=True)
class Payload:
    """What a request asks.

    Parameters
    ----------
    names : list of str or None
        Of the columns; None for a bare matrix.
    columns : list of list
        The cells of each; `ABSENT` where a record does not have the column.
    rows : int
    params : AnswerParams
    text : bool
        Whether all cells are text, as in CSV.
    """

    names: list[str] | None
    columns: list[list[Any]]
    rows: int
    params: AnswerParams
    text: bool = False


ABSENT = object()
"""The cell of a record that does not have the column."""


def media_type(header: str | None) -> str:
    """Return the type of a body.

    Raises
    ------
    RefusedError
        415, unless it is JSON or CSV in UTF-8.
    """
    kind, *options = (part.strip().lower() for part in (header or "").split(";"))
    for option in options:
        name, _, value = option.partition("=")
        if name.strip() == "charset" and value.strip('" ') not in ("utf-8", "utf8", "us-ascii"):
            raise RefusedError(415, f"Content-Type: the charset is {value}; send UTF-8")
    if kind not in (JSON, CSV):
        seen = f"is {header!r:.100}" if header else "is missing"
        raise RefusedError(415, f"Content-Type {seen}; send {JSON} or {CSV}")
    return kind


def read_payload(body: bytes, kind: str, most_rows: int) -> Payload:
    """Read the body of a request.

    Parameters
    ----------
    body : bytes
    kind : str
        What `media_type` returned.
    most_rows : int

    Raises
    ------
    RefusedError
        400 if it cannot be read, 413 if it has too many rows.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"the body is not UTF-8: byte {error.start}") from None
    payload = _read_csv(text, most_rows) if kind == CSV else _read_json(text, most_rows)
    if payload.rows == 0:
        raise RefusedError(400, "the table has no rows")
    if payload.names is not None:
        repeated = {name for name in payload.names if payload.names.count(name) > 1}
        if repeated:
            raise RefusedError(400, f"column names must be unique, repeated: {_listed(repeated)}")
    return payload


def _read_json(text: str, most_rows: int) -> Payload:
    try:
        body = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        raise RefusedError(400, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise RefusedError(400, f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise RefusedError(400, f"expected an object with one of {_FORMS}, got {_kind(body)}")
    given = [name for name in _TABLES if name in body]
    unknown = sorted(set(body) - {*_TABLES, "params"})
    if len(given) != 1 or unknown:
        more = f", and beside them {_listed(unknown)}" if unknown else ""
        raise RefusedError(
            400,
            f"expected exactly one of {_FORMS}, and params if wanted; got "
            f"{_listed(given) or 'none of them'}{more}",
        )
    params = _params(body.get("params"))
    (form,) = given
    names, columns, rows = _table(form, body[form], most_rows)
    return Payload(names, columns, rows, params)


def _params(given: Any) -> AnswerParams:
    if given is None:
        return AnswerParams()
    if not isinstance(given, dict):
        raise RefusedError(400, f"params: expected an object, got {_kind(given)}")
    try:
        return AnswerParams(**given)
    except ConfigError as error:
        raise RefusedError(400, f"params: {error}") from None


def _table(form: str, given: Any, most: int) -> tuple[list[str] | None, list[list[Any]], int]:
    """Return names, columns and the number of rows of a table in any form."""
    if form == "dataframe_split":
        return _split(given, most)
    if form == "inputs" and isinstance(given, dict):
        return _by_column(given, most)
    if not isinstance(given, list):
        raise RefusedError(400, f"{form}: expected a list of rows, got {_kind(given)}")
    if given and all(isinstance(row, list) for row in given) and form != "dataframe_records":
        columns = _transposed(form, given, len(given[0]), most)
        return None, columns, len(given)
    return _records(form, given, most)


def _split(given: Any, most: int) -> tuple[list[str] | None, list[list[Any]], int]:
    if not isinstance(given, dict) or not isinstance(given.get("data"), list):
        raise RefusedError(
            400, 'dataframe_split: expected {"columns": [...], "data": [[...], ...]}'
        )
    names, data = given.get("columns"), given["data"]
    if names is not None and not (
        isinstance(names, list) and all(isinstance(name, str) for name in names)
    ):
        raise RefusedError(400, "dataframe_split: columns must be a list of names")
    for i, row in enumerate(data):
        if not isinstance(row, list):
            raise RefusedError(400, f"dataframe_split: row {i} is {_kind(row)}, expected a list")
    width = len(names) if names is not None else len(data[0]) if data else 0
    return names, _transposed("dataframe_split", data, width, most), len(data)


def _transposed(form: str, data: list[list[Any]], width: int, most: int) -> list[list[Any]]:
    _check_rows(len(data), most)
    for i, row in enumerate(data):
        if len(row) != width:
            raise RefusedError(400, f"{form}: row {i} has {len(row)} cells, expected {width}")
    return [list(column) for column in zip(*data, strict=True)] or [[] for _ in range(width)]


def _by_column(given: dict[str, Any], most: int) -> tuple[list[str], list[list[Any]], int]:
    rows = 0
    for position, (name, cells) in enumerate(given.items()):
        if not isinstance(cells, list):
            raise RefusedError(400, f"inputs: column {name!r} is {_kind(cells)}, expected a list")
        if position and len(cells) != rows:
            raise RefusedError(
                400, f"inputs: column {name!r} has {len(cells)} cells, those before have {rows}"
            )
        rows = len(cells)
    _check_rows(rows, most)
    return list(given), list(given.values()), rows


def _records(form: str, given: list[Any], most: int) -> tuple[list[str], list[list[Any]], int]:
    _check_rows(len(given), most)
    names: dict[str, None] = {}
    for i, row in enumerate(given):
        if not isinstance(row, dict):
            raise RefusedError(400, f"{form}: row {i} is {_kind(row)}, expected an object")
        names.update(dict.fromkeys(row))
    columns = [[row.get(name, ABSENT) for row in given] for name in names]
    return list(names), columns, len(given)


def _read_csv(text: str, most_rows: int) -> Payload:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next(lines, [])
        data = []
        for cells in lines:
            if not cells and len(names) != 1:
                continue  # an empty line, such as the last
            data.append([cell if cell != "" else None for cell in cells or [""]])
            _check_rows(len(data), most_rows)
    except csv.Error as error:
        raise RefusedError(400, f"line {lines.line_num} of the CSV: {error}") from None
    if not names:
        raise RefusedError(400, "the CSV is empty; its first line names the columns")
    columns = _transposed("CSV", data, len(names), most_rows)
    return Payload(names, columns, len(data), AnswerParams(), text=True)


def _check_rows(count: int, most: int) -> None:
    if count > most:
        raise RefusedError(
            413, f"{count:,} rows are more than the {most:,} that one request may have"
        )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = {name for name in names if names.count(name) > 1}
        raise RefusedError(400, f"names in an object must be unique, repeated: {_listed(repeated)}")
    return found


def _refuse_constant(word: str) -> NoReturn:
    raise RefusedError(400, f"{word} is no JSON; send null where a number is missing")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "a truth value"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _listed(names: Any) -> str:
    shown = [f"{name!r:.80}" for name in sorted(names)]
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return f"{', '.join(shown[:5])}{more}"
