"""Heads for severities and durations, and a base with learned tails, for hybridflow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from hybridflow import BaseSpec, Config, Event, HeadSpec, Target, hookimpl
from hybridflow.config import Choice, Float
from hybridflow.heads import BasisConfig
from hybridflow.heads.basis import generalized_linear

if TYPE_CHECKING:
    from hybridflow.densities import Base
    from hybridflow.likelihoods import GeneralizedLinear, Likelihood
    from hybridflow_actuarial.skew_t import SkewT


class GeneralizedParetoHead(BasisConfig):
    """Settings of the ``generalized-pareto`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `hybridflow.heads.BasisConfig`.
    """


class SplicedHead(BasisConfig):
    """Settings of the ``spliced`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `hybridflow.heads.BasisConfig`.
    level : float, default=0.9
        Share of the training rows below the threshold where the tail begins.
    """

    level: Annotated[float, Field(gt=0, lt=1), Float(0.8, 0.97)] = 0.9


class DiscreteHazardHead(BasisConfig):
    """Settings of the ``discrete-hazard`` head.

    Parameters
    ----------
    basis, hidden_units, hidden_layers, dropout
        As in `hybridflow.heads.BasisConfig`.
    periods : int, default=12
        How many periods have a hazard of their own; later ones have the last one's.
    link : {"logit", "cloglog"}, default="logit"
        Proportional odds, or proportional hazards observed in periods.
    effects : {"common", "period"}, default="common"
        Features act alike in all periods, or differently in each.
    """

    periods: Annotated[int, Field(ge=1, le=1000)] = 12
    link: Annotated[Literal["logit", "cloglog"], Choice(("logit", "cloglog"))] = "logit"
    effects: Annotated[Literal["common", "period"], Choice(("common", "period"))] = "common"


class SkewTBase(Config):
    """Settings of the ``skew-t`` base.

    Parameters
    ----------
    heaviest : float, default=1.0
        Fewest degrees of freedom that a tail may learn.
    """

    heaviest: Annotated[float, Field(gt=0, lt=8), Float(0.5, 4.0)] = 1.0


def generalized_pareto(target: Target, config: GeneralizedParetoHead) -> Likelihood:
    """Return the likelihood of one output."""
    from hybridflow_actuarial.severity import GeneralizedPareto

    return GeneralizedPareto(target)


def spliced(target: Target, config: SplicedHead) -> Likelihood:
    """Return the likelihood of one output."""
    from hybridflow_actuarial.severity import Spliced

    return Spliced(target, config.level)


def discrete_hazard(target: Target, config: DiscreteHazardHead) -> Likelihood:
    """Return the likelihood of one output."""
    from hybridflow.likelihoods.links import PROBABILITY_LINKS
    from hybridflow_actuarial.duration import DiscreteHazard

    link = PROBABILITY_LINKS[config.link]
    return DiscreteHazard(target, config.periods, link, config.effects == "period")


def build_skew_t(event: Event, target: Target | None, config: SkewTBase) -> SkewT:
    """Build the base for one event."""
    from hybridflow_actuarial.skew_t import SkewT

    return SkewT(event.features, config.heaviest)


def _head(
    name: str,
    summary: str,
    config: type[BasisConfig],
    likelihood: Callable[[Target, Any], Likelihood],
    reference: str,
) -> HeadSpec:
    def build(event: Event, target: Target, base: Base, config: BasisConfig) -> GeneralizedLinear:
        from hybridflow.likelihoods import each_output

        family = each_output(target, lambda output: likelihood(output, config))
        return generalized_linear(event, family, config)

    return HeadSpec(name, summary, config, ("regression",), build, reference=reference)


HEADS = (
    _head(
        "generalized-pareto",
        "Amounts above a high threshold, known or censored",
        GeneralizedParetoHead,
        generalized_pareto,
        "Statistical Inference Using Extreme Order Statistics, J. Pickands, 1975",
    ),
    _head(
        "spliced",
        "Amounts with a log-normal body and a generalised Pareto tail, known or censored",
        SplicedHead,
        spliced,
        "Loss Models, S. A. Klugman, H. H. Panjer and G. E. Willmot, 2012",
    ),
    _head(
        "discrete-hazard",
        "Durations in whole periods by the hazard of each, known or censored",
        DiscreteHazardHead,
        discrete_hazard,
        "It's About Time: Using Discrete-Time Survival Analysis to Study Duration and the "
        "Timing of Events, J. D. Singer and J. B. Willett, 1993",
    ),
)

SKEW_T = BaseSpec(
    "skew-t",
    "Independent skew t dimensions, the tail of each side learned",
    SkewTBase,
    build_skew_t,
    stable_to=1e8,
    onnx=False,
    reference="A Skew Extension of the t-Distribution, with Applications, "
    "M. C. Jones and M. J. Faddy, 2003",
)


@hookimpl
def hybridflow_heads() -> Iterable[HeadSpec]:
    """Offer the heads."""
    return HEADS


@hookimpl
def hybridflow_bases() -> Iterable[BaseSpec]:
    """Offer the base."""
    return [SKEW_T]
