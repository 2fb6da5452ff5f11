"""Which distributions a bundle's components come from, and whether they are installed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from hybridflow import __version__
from hybridflow.errors import (
    ConfigError,
    CorruptModelError,
    IncompatibleModelError,
    MissingPluginError,
)
from hybridflow.registry import Kind, Registry

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,60}")
_HOST = "hybridflow"
_BY_HAND = "local"


@dataclass(frozen=True)
class Component:
    """A flow, base or head of a bundle, and the distribution that provided it.

    Parameters
    ----------
    kind : {"flow", "base", "head"}
    name : str
        Its name in the registry.
    distribution, version : str
        Where it came from when the bundle was written.
    """

    kind: Kind
    name: str
    distribution: str
    version: str

    @property
    def address(self) -> str:
        """``distribution:name``, which no other distribution can answer to."""
        return f"{self.distribution}:{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.distribution} {self.version}"


def components_of(document: Mapping[str, Any]) -> tuple[Component, ...]:
    """Return the components that a description names.

    Raises
    ------
    CorruptModelError
        If a name is not one that a component, distribution or version can
        have, such as a path or a dotted name.
    """
    described = document.get("components")
    if not isinstance(described, dict) or not set(described) <= set(get_args(Kind)):
        raise CorruptModelError("its description does not say what the model is made of")
    components = []
    for kind, fields in described.items():
        if not isinstance(fields, dict):
            raise CorruptModelError(f"its {kind} is not described")
        checks = {"name": _NAME, "distribution": _NAME, "version": _VERSION}
        for field, pattern in checks.items():
            value = fields.get(field)
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise CorruptModelError(f"the {field} of its {kind} cannot be {value!r:.80}")
        components.append(
            Component(kind, fields["name"], fields["distribution"], fields["version"])
        )
    return tuple(components)


def other_versions(components: Iterable[Component], registry: Registry) -> tuple[str, ...]:
    """Resolve all components, and say which plugins have another version than then.

    Raises
    ------
    MissingPluginError
        If a component's distribution is not installed or does not offer it.
    IncompatibleModelError
        If this hybridflow does not have a built-in that the bundle uses.
    PluginError
        If the plugin is installed but broken.
    """
    found = []
    for component in components:
        try:
            provider = registry.provider(component.kind, component.address)
        except ConfigError as error:
            raise _missing(component, error) from error
        if component.distribution != _HOST and provider.version != component.version:
            found.append(f"it was written with {component}, installed is {provider.version}")
    return tuple(found)


def install_command(components: Iterable[Component]) -> str:
    """Return the command that installs the versions that a bundle was written with."""
    wanted = {
        f"{component.distribution}=={component.version}"
        for component in components
        if component.distribution not in (_HOST, _BY_HAND)
    }
    return f"pip install {' '.join(sorted(wanted))}"


def _missing(component: Component, error: ConfigError) -> Exception:
    if component.distribution == _HOST:
        return IncompatibleModelError(
            f"needs the {component}, this is {__version__}: "
            f"pip install hybridflow=={component.version}"
        )
    if component.distribution == _BY_HAND:
        remedy = "it was registered by hand: pass registry= with that plugin registered"
    else:
        remedy = install_command([component])
    return MissingPluginError(f"needs the {component}, which is not there: {remedy} ({error})")
