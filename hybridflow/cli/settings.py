"""Settings of a fit: defaults, then the config file, then ``--set``, then the other flags."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from hybridflow.cli.options import ChosenTask
from hybridflow.config import Config
from hybridflow.errors import ConfigError, closest
from hybridflow.schedule import Schedule

if TYPE_CHECKING:
    from hybridflow.registry import Kind

MAX_BYTES = 2**20
COMPONENTS: tuple[Kind, ...] = ("flow", "base", "head")
_Config = TypeVar("_Config", bound=Config)
_NAMED = (*COMPONENTS, "training", "likelihood_weight")


class Settings(Config):
    """All that a config file may hold.

    Parameters
    ----------
    target, weight : str, optional
        Names of columns.
    task : {"auto", "classification", "regression", "density", "outliers"}
    columns, drop : tuple of str, optional
        Features to use, or columns to leave out.
    column : dict of str to str
        Where the values of a column may lie: ``"circle:24"``, ``"positive"``.
    flow, base, head : dict
        ``name`` and the parameters of a component; a string stands for a name.
    training : dict
        Fields of `hybridflow.TrainingConfig`.
    likelihood_weight, validation, calibration,
    missing, unknown, quality, time_limit, members, n_jobs, checkpoint, class_weight,
    contamination, device, dtype, seed
        As the parameters of the estimators (``seed`` is ``random_state``); None
        for their defaults.
    buffer : int, optional
        As that of `hybridflow.ParquetTable`.
    """

    target: str | None = None
    weight: str | None = None
    task: ChosenTask = "auto"
    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] | None = None
    column: dict[str, str] = Field(default_factory=dict)
    flow: dict[str, Any] = Field(default_factory=dict)
    base: dict[str, Any] = Field(default_factory=dict)
    head: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    likelihood_weight: float | Schedule | None = None
    validation: float | None = None
    calibration: float | None = None
    missing: str | None = None
    unknown: str | None = None
    quality: str | None = None
    time_limit: float | None = None
    members: int | None = None
    n_jobs: int | None = None
    checkpoint: str | None = None
    buffer: int | None = None
    class_weight: Literal["balanced"] | None = None
    contamination: float | Literal["auto"] | None = None
    device: str | None = None
    dtype: Literal["auto", "float32", "float64"] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Source:
    """Where settings came from, so that a message can name the line.

    Parameters
    ----------
    name : str
        Path of the config file, empty if there is none.
    text : str
        What it holds.
    """

    name: str = ""
    text: str = ""

    def place(self, path: Sequence[str]) -> str:
        """Return ``"file, line 3: flow.layers"`` for a key of the file, else the bare key."""
        key = ".".join(path)
        line = line_of(self.text, path)
        return key if line is None else f"{self.name}, line {line}: {key}"


def read_file(path: Path) -> tuple[dict[str, Any], Source]:
    """Read a TOML or JSON config file.

    Raises
    ------
    ConfigError
        If it is larger than 1 MiB, of another format, or broken: a repeated
        key, a syntax error; the message holds the line.
    OSError
        If it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in (".toml", ".json"):
        extra = "YAML is not read: " if suffix in (".yaml", ".yml") else ""
        raise ConfigError(f"{path}: {extra}write the settings as TOML (.toml) or JSON (.json)")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than 1 MiB, which no config file needs to be")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8") from None
    source = Source(str(path), text)
    try:
        if suffix == ".toml":
            document: Any = tomllib.loads(text)
        else:
            document = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, source))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected an object with settings, got {document!r:.50}")
    return document, source


def merge(
    document: Mapping[str, Any],
    source: Source,
    assignments: Sequence[str],
    flags: Mapping[str, Any],
) -> tuple[Settings, list[str]]:
    """Return the settings, and what to say of conflicts: flags win over the file.

    Parameters
    ----------
    document : mapping
        Of the config file.
    source : Source
    assignments : sequence of str
        ``"flow.layers=6"``.
    flags : mapping
        The flags that were given, by the name of the setting.

    Raises
    ------
    ConfigError
        If a setting is unknown or of the wrong type.
    """
    merged = {key: _as_component(key, value) for key, value in document.items()}
    notes = []
    for assignment in assignments:
        path, value = _assignment(assignment)
        old = _get(merged, path)
        if old is not None and old != value:
            notes.append(f"--set {assignment} wins over {source.place(path)} = {_shown(old)}")
        _put(merged, path, value)
    for path, value in _paths(flags):
        key = path[0]
        old = _get(merged, path)
        if old is not None and old != value and _get(document, (key,)) is not None:
            at = path if key == "column" else (key,)
            notes.append(f"--{key.replace('_', '-')} wins over {source.place(at)} = {_shown(old)}")
            if key in COMPONENTS:  # the parameters in the file belong to the other component
                given = [_assignment(a) for a in assignments]
                merged[key] = {p[1]: v for p, v in given if p[0] == key}
        _put(merged, path, value)
    return validated(Settings, merged, (), source), notes


def validated(
    config: type[_Config], document: Mapping[str, Any], prefix: tuple[str, ...], source: Source
) -> _Config:
    """Build a config from plain JSON, or say which key, and which line, is wrong.

    Raises
    ------
    ConfigError
    """
    try:
        return config.model_validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            # The options of a union are no keys.
            own = [str(part) for part in item["loc"][:1]]
            path = (*prefix, *own)
            text = item["msg"].removeprefix("Value error, ")
            text = f"{text[0].lower()}{text[1:]}, got {_shown(item['input'])}"
            if item["type"] == "extra_forbidden":
                known = list(config.model_fields)
                text = (
                    f"unknown key; known are {', '.join(known) or 'none'}{closest(own[0], known)}"
                )
            lines.append(f"{source.place(path)}: {text}")
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def line_of(text: str, path: Sequence[str]) -> int | None:
    """Return the number of the line of a TOML or JSON text that sets a key, None if none does.

    Examples
    --------
    >>> from hybridflow.cli.settings import line_of
    >>> line_of('seed = 1\\n[flow]\\nlayers = 6\\n', ["flow", "layers"])
    3
    """
    lines = text.splitlines()
    at = 0
    for key in path:
        pattern = re.compile(rf"""(?<![\w-]){re.escape(key)}["']?\s*[=:.\]]""")
        found = [i for i in range(at, len(lines)) if pattern.search(lines[i].partition("#")[0])]
        if not found:
            return None
        at = found[0]
    return at + 1 if path else None


def _paths(flags: Mapping[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    """Return where each flag belongs; ``--column`` is one of its own for each column."""
    paths: list[tuple[tuple[str, ...], Any]] = []
    for key, value in flags.items():
        if key == "column":
            paths += [((key, name), kind) for name, kind in value.items()]
        else:
            paths.append(((key, "name") if key in COMPONENTS else (key,), value))
    return paths


def _unique(pairs: list[tuple[str, Any]], source: Source) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"{source.place((key,))}: the key is repeated")
    return dict(pairs)


def _as_component(key: str, value: Any) -> Any:
    return {"name": value} if key in COMPONENTS and isinstance(value, str) else value


def _assignment(text: str) -> tuple[tuple[str, ...], Any]:
    key, equals, written = text.partition("=")
    path = tuple(part.strip().replace("-", "_") for part in key.split("."))
    if not equals or not all(path) or len(path) > 2:
        raise ConfigError(f"--set {text}: expected KEY=VALUE, for instance flow.layers=6")
    try:
        value = json.loads(written)
    except (json.JSONDecodeError, RecursionError):
        value = written
    if len(path) == 1:
        value = _as_component(path[0], value)
    elif path[0] not in _NAMED:
        raise ConfigError(
            f"--set {text}: {path[0]!r} has no parameters; {', '.join(_NAMED)} do"
            f"{closest(path[0], _NAMED)}"
        )
    return path, value


def _get(document: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _put(document: dict[str, Any], path: Sequence[str], value: Any) -> None:
    if len(path) == 1:
        document[path[0]] = value
    else:
        inner = document.get(path[0], {})
        document[path[0]] = {**(inner if isinstance(inner, dict) else {}), path[1]: value}


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
