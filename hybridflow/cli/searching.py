"""From options of the command line to a search space, and from what was found to settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hybridflow.cli.settings import COMPONENTS, Settings
from hybridflow.config import Choice, Float, Int, Search
from hybridflow.errors import ConfigError

if TYPE_CHECKING:
    from hybridflow.estimators.base import FlowEstimator

_PARTS = (*COMPONENTS, "training")
_RANGE = re.compile(r"([^:]+):([^:]+?)(:log)?")


def search_of(text: str) -> tuple[str, Search]:
    """Return the parameter and the range that ``--search KEY=RANGE`` names.

    Parameters
    ----------
    text : str
        ``flow.layers=2:8`` (whole numbers), ``flow.bound=3.0:8.0``,
        ``training.learning_rate=1e-4:1e-2:log``, or ``flow=maf,realnvp`` (one of these).

    Raises
    ------
    ConfigError
        If it is none of these.

    Examples
    --------
    >>> from hybridflow.cli.searching import search_of
    >>> search_of("flow.layers=2:8")
    ('flow__layers', Int(low=2, high=8, log=False))
    >>> search_of("training.batch_size=64,128")
    ('training__batch_size', Choice(options=(64, 128)))
    """
    key, equals, written = text.partition("=")
    parts = [part.strip().replace("-", "_") for part in key.split(".")]
    if len(parts) == 3:  # the name of a component keeps its hyphens
        parts[1] = key.split(".")[1].strip()
    if not equals or not all(parts) or not written.strip():
        raise ConfigError(
            f"--search {text}: expected KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A,B, for instance "
            "flow.layers=2:8"
        )
    name = "__".join(parts)
    found = _RANGE.fullmatch(written.strip())
    if found is None:
        return name, Choice(tuple(_value(option) for option in written.split(",")))
    low, high = (_value(end) for end in found.group(1, 2))
    log = found[3] is not None
    if isinstance(low, int) and isinstance(high, int):
        return name, Int(low, high, log)
    if isinstance(low, str | bool) or isinstance(high, str | bool):
        raise ConfigError(f"--search {text}: {found[1]} and {found[2]} are no numbers")
    return name, Float(low, high, log)


def space_from(
    settings: Settings, estimator: FlowEstimator, searches: Sequence[str]
) -> dict[str, Any]:
    """Return what to change about the space: what is set is not searched, unless told to.

    Parameters
    ----------
    settings : Settings
    estimator : FlowEstimator
        Built from them.
    searches : sequence of str
        The ``--search`` options.
    """
    space: dict[str, Any] = {}
    for part in _PARTS:
        section: Mapping[str, Any] = getattr(settings, part)
        for field in section:
            if field != "name":
                space[f"{part}__{field}"] = getattr(estimator._config(part), field)
    if settings.likelihood_weight is not None:
        space["likelihood_weight"] = settings.likelihood_weight
    return space | dict(map(search_of, searches))


def found_settings(settings: Settings, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with what a search found, for ``hybridflow fit --config``.

    Parameters
    ----------
    settings : Settings
        Of the search.
    found : dict
        As `TuningResult.settings` returns them.
    """
    document = settings.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    for key, value in found.items():
        part, _, field = key.partition("__")
        if field:
            document.setdefault(part, {})[field] = value
        elif part in COMPONENTS:
            document[part] = {"name": value, **document.get(part, {})} | {"name": value}
        else:
            document[part] = value
    return document


def toml(document: Mapping[str, Any]) -> str:
    """Write settings, of at most one level of tables, as TOML.

    Examples
    --------
    >>> from hybridflow.cli.searching import toml
    >>> print(toml({"seed": 1, "flow": {"name": "maf", "layers": 6}}), end="")
    seed = 1
    <BLANKLINE>
    [flow]
    name = "maf"
    layers = 6
    """
    lines = [f"{_key(k)} = {_toml(v)}" for k, v in document.items() if not isinstance(v, Mapping)]
    for name, section in document.items():
        if isinstance(section, Mapping):
            lines += [
                "",
                f"[{_key(name)}]",
                *(f"{_key(k)} = {_toml(v)}" for k, v in section.items()),
            ]
    return "\n".join(lines).lstrip("\n") + "\n"


def _value(text: str) -> bool | int | float | str:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text.strip()
    return value if isinstance(value, bool | int | float | str) else text.strip()


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _toml(value: Any) -> str:
    # A JSON text of strings, numbers, booleans and lists of these is one of TOML.
    return json.dumps(value).replace("\x7f", "\\u007f")
