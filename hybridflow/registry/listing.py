"""What is installed, one line each, sorted by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hybridflow.registry.discovery import Plugin
from hybridflow.registry.plugins import Offer, Plugins

Status = Literal[
    "built-in", "loaded", "not loaded", "failed", "incompatible", "blocked", "duplicate"
]


@dataclass(frozen=True)
class Entry:
    """A component, or a plugin that is not loaded, is empty, or has a fault.

    Parameters
    ----------
    kind : {"flow", "base", "head", "plugin"}
        ``"plugin"`` for an entry point.
    name : str
        Name of the component or of the entry point.
    summary : str
        One line.
    distribution, version : str
        Where it comes from.
    status : str
        "built-in", "loaded", "not loaded", "failed", "incompatible" (with this version of
        hybridflow), "blocked" (by the allow-list) or "duplicate" (needs ``distribution:name``).
    reason : str
        Why it cannot be used by its name, if so.

    Examples
    --------
    >>> from hybridflow import Registry
    >>> entries = Registry(entry_points=False).entries()
    >>> next(entry.summary for entry in entries if entry.name == "laplace")
    'Independent Laplace dimensions with learned scales'
    """

    kind: Literal["flow", "base", "head", "plugin"]
    name: str
    summary: str
    distribution: str
    version: str
    status: Status
    reason: str = ""


def list_entries(builtins: Sequence[Offer], plugins: Plugins) -> list[Entry]:
    """Return one entry per component, and one per plugin that has no component to show."""
    entries = [_component(offer, "built-in", "") for offer in builtins]
    for offer in plugins.offers:
        conflict = _conflict(offer, builtins, plugins.offers)
        entries.append(_component(offer, "duplicate" if conflict else "loaded", conflict))
    for broken in plugins.broken:
        entries.append(_plugin(broken.plugin, "failed", broken.failure.reason))
    shown = {(entry.distribution, entry.version) for entry in entries}
    for plugin in plugins.discovered():
        if plugin.obstacle:
            entries.append(_plugin(plugin, plugin.obstacle, plugin.reason))
        elif not plugins.is_loaded(plugin):
            entries.append(_plugin(plugin, "not loaded", ""))
        elif (plugin.provider.distribution, plugin.provider.version) not in shown:
            entries.append(_plugin(plugin, "loaded", "offers nothing"))
    return sorted(entries, key=lambda e: (e.name, e.kind, e.distribution, e.reason))


def _conflict(offer: Offer, builtins: Sequence[Offer], offers: Sequence[Offer]) -> str:
    if any(offer.key == builtin.key for builtin in builtins):
        return f"the name is built in; this one is {offer.address!r}"
    rivals = {rival.provider.distribution for rival in offers if rival.key == offer.key}
    others = ", ".join(sorted(rivals - {offer.provider.distribution}))
    return f"{others} offers the name too; this one is {offer.address!r}" if others else ""


def _component(offer: Offer, status: Status, reason: str) -> Entry:
    spec, provider = offer.spec, offer.provider
    return Entry(
        offer.kind,
        spec.name,
        spec.summary,
        provider.distribution,
        provider.version,
        status,
        reason,
    )


def _plugin(plugin: Plugin, status: Status, reason: str) -> Entry:
    return Entry(
        "plugin",
        plugin.name,
        plugin.summary,
        plugin.provider.distribution,
        plugin.provider.version,
        status,
        reason,
    )
