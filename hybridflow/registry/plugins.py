"""The installed plugins of one registry: what they offer, and what went wrong."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hybridflow.errors import BrokenPluginWarning, PluginContractError, PluginLoadError
from hybridflow.registry.discovery import Plugin, Provider, discover
from hybridflow.registry.loading import Failure, Kind, kind_of, load
from hybridflow.specs import Spec


@dataclass(frozen=True)
class Offer:
    """A component and where it comes from."""

    spec: Spec
    provider: Provider

    @property
    def kind(self) -> Kind:
        """Flow, base or head."""
        return kind_of(self.spec)

    @property
    def key(self) -> tuple[Kind, str]:
        """What a user asks for."""
        return self.kind, self.spec.name

    @property
    def address(self) -> str:
        """``distribution:name``, the form that is never ambiguous."""
        return f"{self.provider.distribution}:{self.spec.name}"


@dataclass(frozen=True)
class Broken:
    """A plugin and one thing that is wrong with it."""

    plugin: Plugin
    failure: Failure

    @property
    def message(self) -> str:
        """Which plugin, what is wrong, and what to do."""
        return (
            f"the plugin {self.plugin.provider} (entry point {self.plugin.name!r}) is broken: "
            f"{self.failure.reason}; update it, uninstall it, or leave it out with "
            "HYBRIDFLOW_PLUGINS"
        )


class Plugins:
    """Discovers plugins once, loads them once, and keeps what came of it.

    Parameters
    ----------
    allow : sequence of str or None
        Distributions that may be imported; None allows all.
    strict : bool
        Whether a broken plugin is an error.
    path : sequence of str or None
        Folders to look in; None stands for ``sys.path``.

    Attributes
    ----------
    offers : list of Offer
        What the loaded plugins offer, and what was registered by hand.
    broken : list of Broken
        What went wrong.
    slow_after : float
        Seconds after which the import of one plugin is reported as slow.
    """

    def __init__(
        self, allow: Sequence[str] | None, strict: bool, path: Sequence[str] | None
    ) -> None:
        self.offers: list[Offer] = []
        self.broken: list[Broken] = []
        self.slow_after = 5.0
        self._allow = allow
        self._strict = strict
        self._path = path
        self._discovered: list[Plugin] | None = None
        self._loaded: set[Plugin] = set()
        self._reported = 0
        self._loading = False

    def discovered(self) -> list[Plugin]:
        """Return the installed plugins from their metadata."""
        if self._discovered is None:
            self._discovered = discover(self._allow, self._path)
        return self._discovered

    def is_loaded(self, plugin: Plugin) -> bool:
        """Return whether the import of a plugin was tried."""
        return plugin in self._loaded

    def load(self) -> None:
        """Import the allowed plugins that were not imported yet.

        Raises
        ------
        PluginLoadError
            If one is broken and the registry is strict.
        """
        if self._loading:  # a plugin asks the registry while it is being imported
            return
        self._loading = True
        try:
            for plugin in self.discovered():
                if not plugin.obstacle and plugin not in self._loaded:
                    self._load(plugin)
        finally:
            self._loading = False
        while self._reported < len(self.broken):
            self._reported += 1  # before the warning, which may be turned into an error
            message = self.broken[self._reported - 1].message
            warnings.warn(message, BrokenPluginWarning, stacklevel=2)
        if self._strict and self.broken:
            first = self.broken[0]
            raise PluginLoadError(first.message) from first.failure.cause

    def _load(self, plugin: Plugin) -> None:
        specs, failures = load(plugin.point, str(plugin.provider), self.slow_after)
        offers = [Offer(spec, plugin.provider) for spec in specs]
        # Within one distribution no address could tell two of one name apart.
        counts = Counter((o.kind, o.address) for o in (*self.offers, *offers))
        twice = {address: kind for (kind, address), count in counts.items() if count > 1}
        failures += [
            Failure(PluginContractError, f"offers the {kind} {address!r} a second time")
            for address, kind in twice.items()
        ]
        self.offers += [o for o in offers if twice.get(o.address) != o.kind]
        self.broken += [Broken(plugin, failure) for failure in failures]
        self._loaded.add(plugin)

    def troubles(self) -> str:
        """Return the plugins that could not be used, to end an error message with."""
        parts = [f"{b.plugin.provider} failed ({b.failure.reason})" for b in self.broken]
        parts += [
            f"{plugin.provider} is {plugin.obstacle} ({plugin.reason})"
            for plugin in self.discovered()
            if plugin.obstacle
        ]
        return "".join(f"; {part}" for part in parts)
