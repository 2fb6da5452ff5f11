"""Which plugins are installed: metadata is read, nothing is imported."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import TYPE_CHECKING, Literal

import hybridflow
from hybridflow.errors import ConfigError
from hybridflow.registry.versions import canonical, excluding

if TYPE_CHECKING:
    from importlib.metadata import PackageMetadata

GROUP = "hybridflow"


@dataclass(frozen=True)
class Provider:
    """The distribution that a component comes from.

    Parameters
    ----------
    distribution : str
        Its name, in lower case with hyphens.
    version : str
        The installed version.

    Examples
    --------
    >>> from hybridflow import Registry
    >>> Registry(entry_points=False).provider("flow", "maf").distribution
    'hybridflow'
    """

    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Plugin:
    """One entry point of an installed distribution.

    Parameters
    ----------
    provider : Provider
        The distribution.
    name : str
        The name of the entry point.
    point : importlib.metadata.EntryPoint
        What it names.
    summary : str
        The distribution's own summary.
    obstacle : {"", "blocked", "incompatible"}
        Why it must not be imported, if so.
    reason : str
        The obstacle in words.
    """

    provider: Provider
    name: str
    point: importlib.metadata.EntryPoint
    summary: str = ""
    obstacle: Literal["", "blocked", "incompatible"] = ""
    reason: str = ""


def discover(allow: Sequence[str] | None, path: Sequence[str] | None) -> list[Plugin]:
    """Return the installed plugins, sorted by distribution and entry point.

    Parameters
    ----------
    allow : sequence of str or None
        Distributions that may be imported; None allows all.
    path : sequence of str or None
        Folders to look in; None stands for ``sys.path``.
    """
    allowed = None if allow is None else {canonical(name) for name in allow}
    plugins = [
        plugin
        for distribution in _distributions(path)
        for plugin in _plugins(distribution, allowed)
    ]
    return sorted(plugins, key=lambda plugin: (plugin.provider.distribution, plugin.name))


def allowed_by_environment() -> tuple[str, ...] | None:
    """Return the names in ``HYBRIDFLOW_PLUGINS``, or None if it is not set."""
    text = os.environ.get("HYBRIDFLOW_PLUGINS")
    if text is None:
        return None
    return tuple(name.strip() for name in text.split(",") if name.strip())


def strict_by_environment() -> bool:
    """Return whether ``HYBRIDFLOW_STRICT`` is 1.

    Raises
    ------
    ConfigError
        If it is set to anything but 0, 1 or nothing.
    """
    text = os.environ.get("HYBRIDFLOW_STRICT", "").strip()
    if text not in ("", "0", "1"):
        raise ConfigError(f"HYBRIDFLOW_STRICT must be 0 or 1, got {text!r}")
    return text == "1"


def _distributions(path: Sequence[str] | None) -> Iterator[importlib.metadata.Distribution]:
    """Yield each plugin distribution once: the first on the path, as an import takes it."""
    seen: set[str] = set()
    found = (
        importlib.metadata.distributions()
        if path is None
        else importlib.metadata.distributions(path=list(path))
    )
    for distribution in found:
        if not any(point.group == GROUP for point in distribution.entry_points):
            continue
        name = canonical(_field(distribution, "Name", "unnamed"))
        if name not in seen:
            seen.add(name)
            yield distribution


def _field(distribution: importlib.metadata.Distribution, name: str, default: str) -> str:
    # A missing field is None at run time, whatever the type says.
    return str(_metadata(distribution)[name] or default)


def _metadata(distribution: importlib.metadata.Distribution) -> PackageMetadata | Message:
    """Return what a distribution says of itself, nothing where that is lost."""
    try:
        return distribution.metadata
    except OSError:  # so says the finder that an import of importlib_metadata installs
        return Message()


def _plugins(
    distribution: importlib.metadata.Distribution, allowed: set[str] | None
) -> Iterator[Plugin]:
    provider = Provider(
        canonical(_field(distribution, "Name", "unnamed")),
        _field(distribution, "Version", "unknown"),
    )
    summary = _field(distribution, "Summary", "")
    obstacle, reason = _obstacle(distribution, provider, allowed)
    for point in distribution.entry_points:
        if point.group == GROUP:
            yield Plugin(provider, point.name, point, summary, obstacle, reason)


def _obstacle(
    distribution: importlib.metadata.Distribution, provider: Provider, allowed: set[str] | None
) -> tuple[Literal["", "blocked", "incompatible"], str]:
    if allowed is not None and provider.distribution not in allowed:
        listed = ", ".join(sorted(allowed)) or "no plugin"
        return "blocked", f"the allow-list (HYBRIDFLOW_PLUGINS) has {listed}"
    requires = _metadata(distribution).get_all("Requires-Dist") or ()
    try:
        excluded = excluding(requires, GROUP, hybridflow.__version__)
    except ValueError as error:
        return "incompatible", f"its requirement on hybridflow: {error}"
    if excluded is not None:
        return "incompatible", f"needs hybridflow{excluded}, this is {hybridflow.__version__}"
    return "", ""
