"""Importing one plugin and calling its hooks, each inside its own try."""

from __future__ import annotations

import importlib
import inspect
import threading
import warnings
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import TracebackType
from typing import Literal, Self

import pluggy

from hybridflow import hookspecs
from hybridflow.errors import (
    PluginContractError,
    PluginLoadError,
    SlowPluginWarning,
    closest,
)
from hybridflow.specs import BaseSpec, FlowSpec, HeadSpec, Spec

Kind = Literal["flow", "base", "head"]

_HOOKS: dict[str, tuple[Kind, type[Spec]]] = {
    "hybridflow_flows": ("flow", FlowSpec),
    "hybridflow_bases": ("base", BaseSpec),
    "hybridflow_heads": ("head", HeadSpec),
}


@dataclass(frozen=True)
class Failure:
    """What went wrong with a plugin, and why.

    Parameters
    ----------
    error : type of PluginError
        The error to raise on use.
    reason : str
        What went wrong, in one line.
    cause : BaseException or None
        What the plugin raised, if it raised anything.
    """

    error: type[PluginLoadError] | type[PluginContractError]
    reason: str
    cause: BaseException | None = None


class SlowWatch:
    """Warns while the body is still running after `seconds`.

    The body cannot be stopped from here, so the warning comes from another
    thread. Where warnings are errors, it is raised when the body ends.
    """

    def __init__(self, label: str, seconds: float) -> None:
        self._label = label
        self._seconds = seconds
        self._timer = threading.Timer(seconds, self._warn)
        self._timer.daemon = True
        self._raised: SlowPluginWarning | None = None

    def _warn(self) -> None:
        try:
            warnings.warn(
                f"importing the plugin {self._label} takes more than {self._seconds:g} s; "
                "leave it out with HYBRIDFLOW_PLUGINS",
                SlowPluginWarning,
                stacklevel=1,
            )
        except SlowPluginWarning as warning:
            self._raised = warning

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._raised is not None and error is None:
            raise self._raised


def load(point: EntryPoint, label: str, slow_after: float) -> tuple[list[Spec], list[Failure]]:
    """Import what an entry point names and collect its specs.

    Parameters
    ----------
    point : importlib.metadata.EntryPoint
        Names a module, or an object in one, that implements hooks.
    label : str
        The plugin's name in messages.
    slow_after : float
        Seconds after which `SlowPluginWarning` is issued.

    Returns
    -------
    specs : list of Spec
        What it offers.
    failures : list of Failure
        What went wrong; other hooks of the same plugin still count.
    """
    try:
        with SlowWatch(label, slow_after):
            return collect(_import(point))
    except (Exception, SystemExit) as error:  # KeyboardInterrupt passes: the user's own wish
        return [], [_failure(error)]


def collect(plugin: object) -> tuple[list[Spec], list[Failure]]:
    """Call each hook of a plugin by itself and check what it returns.

    A pluggy call over all plugins would lose every result when one raises, so
    each plugin gets a manager of its own and each implementation its own try.

    Parameters
    ----------
    plugin : object
        A module or an instance with functions marked by ``hookimpl``.

    Returns
    -------
    specs : list of Spec
        What it offers.
    failures : list of Failure
        What went wrong.
    """
    try:
        manager = _register(plugin)
    except (Exception, SystemExit) as error:
        return [], [_failure(error)]
    specs: list[Spec] = []
    failures = _unknown_hooks(manager, plugin)
    for hook in _HOOKS:
        for implementation in getattr(manager.hook, hook).get_hookimpls():
            try:
                specs += _call(hook, implementation)
            except (Exception, SystemExit) as error:
                failures.append(_failure(error, f"{hook}: "))
    return specs, failures


def kind_of(spec: Spec) -> Kind:
    """Return whether a spec offers a flow, a base or a head."""
    return next(kind for kind, expected in _HOOKS.values() if isinstance(spec, expected))


def _import(point: EntryPoint) -> object:
    """Import what the entry point names; unlike `EntryPoint.load`, tell the two failures apart."""
    match = point.pattern.fullmatch(point.value)
    if match is None:
        raise PluginContractError(
            f"the entry point {point.value!r} is not of the form module:object"
        )
    target: object = importlib.import_module(match["module"])
    for attribute in filter(None, (match["attr"] or "").split(".")):
        if not hasattr(target, attribute):
            raise PluginContractError(
                f"the entry point {point.value!r} names {attribute!r}, which does not exist"
            )
        target = getattr(target, attribute)
    return target


def _register(plugin: object) -> pluggy.PluginManager:
    if inspect.isclass(plugin):
        raise PluginContractError(
            f"a plugin is a module or an instance, got the class {plugin.__name__}"
        )
    manager = pluggy.PluginManager("hybridflow")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin)
    except pluggy.PluginValidationError as error:
        raise PluginContractError(f"a hook takes no arguments: {_describe(error)}") from error
    if not manager.get_hookcallers(plugin):
        raise PluginContractError(
            f"implements no hook: decorate one of {', '.join(_HOOKS)} with hybridflow.hookimpl"
        )
    return manager


def _unknown_hooks(manager: pluggy.PluginManager, plugin: object) -> list[Failure]:
    """Report hooks that do not exist: pluggy accepts a misspelt one silently."""
    try:
        manager.check_pending()
    except pluggy.PluginValidationError:
        callers = manager.get_hookcallers(plugin) or ()
        names = [caller.name for caller in callers if not caller.has_spec()]
        return [
            Failure(PluginContractError, f"unknown hook {name!r}{closest(name, _HOOKS)}")
            for name in names
        ]
    return []


def _call(hook: str, implementation: pluggy.HookImpl) -> list[Spec]:
    kind, expected = _HOOKS[hook]
    result: object = implementation.function()
    try:
        items = iter(result)  # type: ignore[call-overload]
    except TypeError:
        raise PluginContractError(
            f"must return an iterable of {expected.__name__}, got {type(result).__name__}"
        ) from None
    specs: list[Spec] = []
    for position, item in enumerate(items):
        if not isinstance(item, expected):
            raise PluginContractError(
                f"must return {expected.__name__} objects, got {type(item).__name__} "
                f"at position {position}"
            )
        specs.append(item)
    twice = [name for name, count in Counter(spec.name for spec in specs).items() if count > 1]
    if twice:
        raise PluginContractError(f"offers the {kind} {twice[0]!r} twice")
    return specs


def _failure(error: BaseException, where: str = "") -> Failure:
    if isinstance(error, PluginContractError):
        return Failure(PluginContractError, f"{where}{error}", error)
    return Failure(PluginLoadError, f"{where}{_describe(error)}", error)


def _describe(error: BaseException) -> str:
    """Return an error as one line; its own ``__str__`` is a stranger's code too."""
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = "its message cannot be shown"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
