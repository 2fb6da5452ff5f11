"""The three hooks of a plugin. Each returns an iterable of specs."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from hybridflow.specs import BaseSpec, FlowSpec, HeadSpec

hookspec = pluggy.HookspecMarker("hybridflow")
hookimpl = pluggy.HookimplMarker("hybridflow")


@hookspec
def hybridflow_flows() -> Iterable[FlowSpec]:
    """Offer flows.

    Returns
    -------
    iterable of FlowSpec

    Examples
    --------
    >>> from hybridflow import Config, FlowSpec, hookimpl
    >>> class Nothing(Config):
    ...     pass
    >>> def build(event, config):
    ...     from hybridflow.transforms import Identity
    ...     return Identity()
    >>> @hookimpl
    ... def hybridflow_flows():
    ...     return [FlowSpec("nothing", "The identity", Nothing, build)]
    """
    raise NotImplementedError  # pluggy calls the implementations, never this


@hookspec
def hybridflow_bases() -> Iterable[BaseSpec]:
    """Offer base distributions.

    Returns
    -------
    iterable of BaseSpec

    Examples
    --------
    >>> from hybridflow import BaseSpec, Config, hookimpl
    >>> class Unit(Config):
    ...     pass
    >>> def build(event, target, config):
    ...     from hybridflow.densities import Normal
    ...     return Normal(event.features)
    >>> @hookimpl
    ... def hybridflow_bases():
    ...     return [BaseSpec("unit", "The standard normal", Unit, build)]
    """
    raise NotImplementedError  # pluggy calls the implementations, never this


@hookspec
def hybridflow_heads() -> Iterable[HeadSpec]:
    """Offer heads.

    Returns
    -------
    iterable of HeadSpec

    Examples
    --------
    >>> from hybridflow import Config, HeadSpec, hookimpl
    >>> class Rate(Config):
    ...     pass
    >>> def build(event, target, base, config):
    ...     from hybridflow.likelihoods import GeneralizedLinear, LinearBasis, Poisson
    ...     return GeneralizedLinear(LinearBasis(event), Poisson(target))
    >>> @hookimpl
    ... def hybridflow_heads():
    ...     return [HeadSpec("rate", "Counts", Rate, ("regression",), build)]
    """
    raise NotImplementedError  # pluggy calls the implementations, never this
