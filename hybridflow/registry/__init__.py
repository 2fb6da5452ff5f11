"""The registry: names to components, and which distribution each comes from.

Built-ins and plugins come through the same hooks. Discovery reads metadata
only; a built-in name never imports a plugin, any other name imports all
allowed plugins once. What fails is quarantined with its reason. Results are
sorted by name and no order decides anything.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import Any, Literal, NoReturn, Self, get_args, overload

import hybridflow
from hybridflow.config import Config
from hybridflow.errors import ConfigError, DuplicatePluginError, closest
from hybridflow.registry.discovery import Provider, allowed_by_environment, strict_by_environment
from hybridflow.registry.listing import Entry, list_entries
from hybridflow.registry.loading import Kind, collect
from hybridflow.registry.plugins import Offer, Plugins
from hybridflow.registry.versions import canonical
from hybridflow.specs import BaseSpec, FlowSpec, HeadSpec, Spec

__all__ = ["Entry", "Kind", "Provider", "Registry", "default_registry"]

_BUILTINS = ("hybridflow.flows", "hybridflow.bases", "hybridflow.heads")


class Registry:
    """Finds components by name or by config, among built-ins and plugins.

    Parameters
    ----------
    builtins : bool, default=True
        Whether the components of hybridflow itself are in.
    entry_points : bool, default=True
        Whether installed plugins are in.
    allow : sequence of str or None, default=None
        Distributions that may be imported. None takes the comma-separated
        names in the environment variable ``HYBRIDFLOW_PLUGINS``, and allows
        all where that is not set.
    strict : bool or None, default=None
        Whether a broken plugin is an error and not a warning. None takes
        ``HYBRIDFLOW_STRICT``, 0 or 1.
    path : sequence of str or None, default=None
        Folders to look for installed distributions; None stands for
        ``sys.path``.

    Examples
    --------
    >>> from hybridflow import Config, FlowSpec, Registry, hookimpl
    >>> class Nothing(Config):
    ...     pass
    >>> class Plugin:
    ...     @hookimpl
    ...     def hybridflow_flows(self):
    ...         return [FlowSpec("nothing", "The identity", Nothing, lambda event, config: None)]
    >>> registry = Registry(builtins=False, entry_points=False)
    >>> registry.register(Plugin())
    >>> spec, config = registry.resolve("flow", "nothing")
    >>> spec.summary, config, registry.provider("flow", "nothing").distribution
    ('The identity', Nothing(), 'local')
    """

    def __init__(
        self,
        *,
        builtins: bool = True,
        entry_points: bool = True,
        allow: Sequence[str] | None = None,
        strict: bool | None = None,
        path: Sequence[str] | None = None,
    ) -> None:
        if isinstance(allow, str) or isinstance(path, str):
            raise ConfigError("allow and path take a list of strings, got a string")
        self._lock = threading.RLock()
        self._modules = _BUILTINS if builtins else ()
        self._builtins: list[Offer] | None = None
        self._plugins = Plugins(
            allowed_by_environment() if allow is None else allow,
            strict_by_environment() if strict is None else strict,
            path if entry_points else (),
        )

    @property
    def slow_after(self) -> float:
        """Seconds after which the import of one plugin is reported as slow, 5 at first."""
        return self._plugins.slow_after

    @slow_after.setter
    def slow_after(self, seconds: float) -> None:
        self._plugins.slow_after = seconds

    @overload
    def resolve(
        self, kind: Literal["flow"], component: str | Config
    ) -> tuple[FlowSpec, Config]: ...

    @overload
    def resolve(
        self, kind: Literal["base"], component: str | Config
    ) -> tuple[BaseSpec, Config]: ...

    @overload
    def resolve(
        self, kind: Literal["head"], component: str | Config
    ) -> tuple[HeadSpec, Config]: ...

    @overload
    def resolve(self, kind: Kind, component: str | Config) -> tuple[Spec, Config]: ...

    def resolve(self, kind: Kind, component: str | Config) -> tuple[Spec, Config]:
        """Return the spec of a component and its config.

        Parameters
        ----------
        kind : {"flow", "base", "head"}
            What it is used as.
        component : str or Config
            A name, which stands for its default config, or a config. Where
            two distributions offer one name, ``"distribution:name"``.

        Returns
        -------
        spec : FlowSpec, BaseSpec or HeadSpec
        config : Config

        Raises
        ------
        ConfigError
            If nothing installed has that name or config.
        DuplicatePluginError
            If two distributions offer the name.
        PluginLoadError, PluginContractError
            If the plugin that is asked for is broken.
        """
        spec = self._find(kind, component).spec
        return spec, spec.config() if isinstance(component, str) else component

    def provider(self, kind: Kind, component: str | Config) -> Provider:
        """Return the distribution that a component comes from; takes and raises as `resolve`."""
        return self._find(kind, component).provider

    def register(self, plugin: object, *, distribution: str = "local", version: str = "0") -> None:
        """Add the components of a module or object, for tests and interactive use.

        Parameters
        ----------
        plugin : object
            A module, or an instance of a class, that implements hooks.
        distribution, version : str
            Where its components are said to come from.

        Raises
        ------
        PluginLoadError, PluginContractError
            If a hook raises or returns what it must not.
        DuplicatePluginError
            If a built-in or the same distribution has one of the names.
        """
        provider = Provider(canonical(distribution), version)
        specs, failures = collect(plugin)
        for failure in failures:
            raise failure.error(f"{provider.distribution}: {failure.reason}") from failure.cause
        with self._lock:
            offers = [Offer(spec, provider) for spec in specs]
            builtin = {offer.key for offer in self._builtin_offers()}
            taken = {(offer.kind, offer.address) for offer in self._plugins.offers}
            for offer in offers:
                if offer.key in builtin or (offer.kind, offer.address) in taken:
                    owner = "hybridflow" if offer.key in builtin else provider.distribution
                    raise DuplicatePluginError(
                        f"{owner} already offers the {offer.kind} {offer.spec.name!r}; "
                        "choose another name"
                    )
            self._plugins.offers += offers

    def entries(self, load: bool = False) -> list[Entry]:
        """Return what is installed, sorted by name.

        Parameters
        ----------
        load : bool, default=False
            Whether to import the allowed plugins, to list what they offer.

        Returns
        -------
        list of Entry
        """
        with self._lock:
            if load:
                self._plugins.load()
            return list_entries(self._builtin_offers(), self._plugins)

    def _find(self, kind: Kind, component: str | Config) -> Offer:
        if kind not in get_args(Kind):
            raise ConfigError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
        if not isinstance(component, str | Config):
            hint = f"; write {component.__name__}()" if isinstance(component, type) else ""
            raise ConfigError(f"a {kind} is a name or a config object, got {component!r}{hint}")
        with self._lock:
            if isinstance(component, str):
                return self._by_name(kind, component)
            return self._by_config(kind, component)

    def _by_name(self, kind: Kind, text: str) -> Offer:
        distribution, _, name = text.rpartition(":")
        distribution = canonical(distribution)
        found = [offer for offer in self._builtin_offers() if offer.key == (kind, name)]
        if distribution not in ("", "hybridflow") or not found:
            self._plugins.load()
            offers = (*found, *self._plugins.offers)
            found = [offer for offer in offers if offer.key == (kind, name)]
            if distribution:
                found = [o for o in found if o.provider.distribution == distribution]
        if not found:
            self._raise_unknown(kind, distribution, name)
        return _single(found, f"the {kind} {name!r}")

    def _by_config(self, kind: Kind, config: Config) -> Offer:
        name = type(config).__name__
        found = [o for o in self._builtin_offers() if o.spec.config is type(config)]
        if not found:
            self._plugins.load()
            found = [o for o in self._plugins.offers if o.spec.config is type(config)]
        if not found:
            raise ConfigError(
                f"{name} is not the config of an installed {kind}{self._plugins.troubles()}; "
                "install or register the plugin that it belongs to"
            )
        fitting = [offer for offer in found if offer.kind == kind]
        if not fitting:
            raise ConfigError(
                f"{name} is the config of the {found[0].kind} {found[0].spec.name!r}, "
                f"not of a {kind}"
            )
        return _single(fitting, f"the config {name} of a {kind}")

    def _raise_unknown(self, kind: Kind, distribution: str, name: str) -> NoReturn:
        for broken in self._plugins.broken:
            asked = broken.plugin.name if not distribution else broken.plugin.provider.distribution
            if asked == (distribution or name):
                raise broken.failure.error(broken.message) from broken.failure.cause
        offers = [*self._builtin_offers(), *self._plugins.offers]
        names = sorted({offer.spec.name for offer in offers if offer.kind == kind})
        others = [offer.kind for offer in offers if offer.spec.name == name]
        where = f" from {distribution}" if distribution else ""
        also = f" (it names a {others[0]})" if others and others[0] != kind else ""
        raise ConfigError(
            f"unknown {kind} {name!r}{where}{also}; installed are {', '.join(names) or 'none'}"
            f"{closest(name, names)}{self._plugins.troubles()}"
        )

    def _builtin_offers(self) -> list[Offer]:
        if self._builtins is None:
            offers: list[Offer] = []
            provider = Provider("hybridflow", hybridflow.__version__)
            for module in self._modules:
                specs, failures = collect(importlib.import_module(module))
                for failure in failures:
                    raise failure.error(f"{module}: {failure.reason}") from failure.cause
                offers += [Offer(spec, provider) for spec in specs]
            self._builtins = offers
        return self._builtins

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __sklearn_clone__(self) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self is not _default:
            raise ConfigError(
                "only the default registry can be pickled: install the plugin as a "
                "distribution and leave registry=None"
            )
        return default_registry, ()


def _single(found: list[Offer], what: str) -> Offer:
    if len(found) > 1:
        found = sorted(found, key=lambda offer: offer.address)
        providers = " and ".join(str(offer.provider) for offer in found)
        remedies = " or ".join(repr(offer.address) for offer in found)
        raise DuplicatePluginError(f"{what} is offered by {providers}; write {remedies}")
    return found[0]


_default: Registry | None = None
_default_lock = threading.Lock()


def default_registry() -> Registry:
    """Return the registry of this process, made on first use.

    The environment variables ``HYBRIDFLOW_PLUGINS`` and ``HYBRIDFLOW_STRICT``
    are read at that moment.

    Examples
    --------
    >>> from hybridflow.registry import default_registry
    >>> default_registry() is default_registry()
    True
    """
    global _default
    with _default_lock:
        if _default is None:
            _default = Registry()
        return _default
