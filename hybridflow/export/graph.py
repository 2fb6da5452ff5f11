"""The answers of an estimator as one module that can be exported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hybridflow.calibration import Calibration
from hybridflow.errors import ConfigError, ExportError, closest
from hybridflow.estimators import HybridClassifier, HybridRegressor
from hybridflow.estimators.base import FlowEstimator
from hybridflow.estimators.novelty import NoveltyEstimator
from hybridflow.estimators.outlier import FlowOutlierDetector
from hybridflow.export.columns import Reading
from hybridflow.export.heads import family_of, laws, log_probabilities, mixed
from hybridflow.export.intervals import Intervals
from hybridflow.export.laws import Law, Mixture
from hybridflow.export.member import Member, Read, log_sum_exp
from hybridflow.export.ranks import NoveltyGraph, Sets

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COVERAGE = 0.9


@dataclass(frozen=True)
class Answers:
    """What a graph shall answer, and what it cannot.

    Parameters
    ----------
    outputs : tuple of str
        In the order of the graph.
    left_out : dict of str to str
        Outputs that the model has and the graph does not, and why.
    quantiles : tuple of float
    coverage : float
    """

    outputs: tuple[str, ...]
    left_out: dict[str, str]
    quantiles: tuple[float, ...]
    coverage: float


def answers_of(
    estimator: FlowEstimator,
    outputs: Sequence[str] | None,
    quantiles: Sequence[float],
    coverage: float,
) -> Answers:
    """Return which outputs the graph of an estimator has.

    Raises
    ------
    ConfigError
        If an output is asked for that the estimator does not have.
    ExportError
        If one is asked for that a graph cannot have.
    """
    left_out: dict[str, str] = {}
    at_hand = ["log_density", "latent"]
    if isinstance(estimator, NoveltyEstimator):
        at_hand.insert(1, "novelty_pvalue")
        if estimator.novelty_ is None:
            left_out["novelty_pvalue"] = "the model was saved by a version that had no p-values"
    if isinstance(estimator, HybridClassifier):
        several = estimator._has_several
        at_hand = ["label", "probabilities", *([] if several else ["set"]), *at_hand]
        if not several and not estimator.calibration_.output(0).is_enough(coverage):
            left_out["set"] = f"too few rows were held out for a coverage of {coverage:g}"
    elif isinstance(estimator, HybridRegressor):
        at_hand = ["mean", "quantiles", "interval", *at_hand]
        left_out |= _unknown_laws(estimator, coverage)
    elif isinstance(estimator, FlowOutlierDetector):
        at_hand = ["label", "score", *at_hand]
        if estimator.novelty_ is None:
            left_out |= dict.fromkeys(("label", "score"), left_out["novelty_pvalue"])
    if not estimator.schema_.numbers:
        left_out["latent"] = "no column carries a density"
    for name in outputs or ():
        if name not in at_hand:
            raise ConfigError(
                f"outputs: a {type(estimator).__name__} has {', '.join(at_hand)}, got {name!r}"
                f"{closest(name, at_hand)}"
            )
        if name in left_out:
            raise ExportError(f"{name} cannot be exported: {left_out[name]}")
    chosen = [name for name in at_hand if name not in left_out]
    if outputs is not None:
        chosen = [name for name in chosen if name in outputs]
        left_out = {}
    if not chosen:
        raise ConfigError("outputs: name at least one")
    return Answers(tuple(chosen), left_out, tuple(quantiles), coverage)


def _unknown_laws(estimator: HybridRegressor, coverage: float) -> dict[str, str]:
    """Return why quantiles or intervals are left out."""
    model = estimator.models_[0]
    assert model.head is not None
    with torch.no_grad():
        # Any predictor tells of which kind the laws are.
        eta = model.head(torch.zeros(1, model.mixing.shape[0]).double(), _no_context(model))
        found = laws(family_of(model.head), eta.double())
    reasons = {}
    if not all(isinstance(law, Mixture) for law in found):
        family = type(family_of(model.head)).__name__
        why = f"the cumulative distribution of {family} has no graph"
        reasons = {"quantiles": why, "interval": why}
    calibration: Calibration = estimator.calibration_
    if not all(each.is_enough(coverage) for each in calibration.outputs or [calibration.output(0)]):
        reasons["interval"] = f"too few rows were held out for a coverage of {coverage:g}"
    return reasons


def _no_context(model: Any) -> Tensor | None:
    categories = model.categories
    return None if categories is None else torch.zeros(1, categories.width).double()


class Graph(nn.Module):
    """An estimator from columns to answers.

    Parameters
    ----------
    estimator : FlowEstimator
    answers : Answers
    dtype : torch.dtype
        Of the networks.
    """

    classes: Tensor

    def __init__(self, estimator: FlowEstimator, answers: Answers, dtype: torch.dtype) -> None:
        super().__init__()
        self.answers, self.schema = answers, estimator.schema_
        wanted = set(answers.outputs)
        detects = isinstance(estimator, FlowOutlierDetector)
        self.ranked = "novelty_pvalue" in wanted or (detects and bool(wanted & {"label", "score"}))
        self.scored = self.ranked or "log_density" in wanted
        self.reading = Reading(estimator.schema_)
        self.members = nn.ModuleList(
            Member(model, dtype, scored=self.scored) for model in estimator.models_
        )
        first = estimator.models_[0]
        self.asks_rows = self.scored and first.event.features > 0 and not first.noised
        self.novelty = None
        if self.ranked and isinstance(estimator, NoveltyEstimator):
            assert estimator.novelty_ is not None
            self.novelty = NoveltyGraph(estimator.novelty_)
        self.offset = estimator.offset_ if isinstance(estimator, FlowOutlierDetector) else 0.0
        self.kind = "density"
        self.temperature = 1.0
        if isinstance(estimator, HybridClassifier):
            self.kind = "labels" if estimator._has_several else "classes"
            self.temperature = estimator.temperature_
            if "set" in wanted:
                self.set = Sets(estimator.calibration_.output(0), answers.coverage)
        elif isinstance(estimator, HybridRegressor):
            self.kind = "numbers"
            if "interval" in wanted:
                self.intervals = nn.ModuleList(
                    Intervals(output, answers.coverage) for output in estimator.calibration_.outputs
                )
        elif detects:
            self.kind = "outliers"

    def forward(self, columns: list[Tensor], rows: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the outputs in their order; the label of a class is its code.

        Parameters
        ----------
        columns : list of Tensor of shape (n,)
            The inputs, with codes in place of text.
        rows : Tensor of shape (r,), optional
            Rows with a missing number, if `asks_rows`.
        """
        numbers, codes, offset = self.reading(columns)
        reads = [member(numbers, codes, rows) for member in self.members]
        found: dict[str, Tensor] = {"latent": reads[0].latent.double()}
        if self.scored:
            logs = torch.stack([read.log_density for read in reads])
            found["log_density"] = log_sum_exp(logs) - math.log(len(reads))
        if self.novelty is not None:
            each = [read.log_density for read in reads], [read.latent for read in reads]
            found["score"], found["novelty_pvalue"] = self.novelty(*each)
        if self.kind == "outliers" and "score" in found:
            found["label"] = torch.where(found["score"] - self.offset < 0, -1, 1)
        if self.kind in ("classes", "labels"):
            found |= self._classified(reads, offset)
        if self.kind == "numbers":
            found |= self._predicted(reads, offset)
        return tuple(found[name] for name in self.answers.outputs)

    def _etas(self, reads: list[Read], offset: Tensor | None) -> list[tuple[nn.Module, Tensor]]:
        """Return, for each member, what its head draws y from, and its linear predictor."""
        found = []
        for member, read in zip(self.members, reads, strict=True):
            assert isinstance(member, Member)
            assert member.model.head is not None
            found.append((family_of(member.model.head), member.eta(read, offset)))
        return found

    def _classified(self, reads: list[Read], offset: Tensor | None) -> dict[str, Tensor]:
        if not set(self.answers.outputs) & {"label", "probabilities", "set"}:
            return {}
        logs = [log_probabilities(family, eta) for family, eta in self._etas(reads, offset)]
        mean = log_sum_exp(torch.stack(logs)) - math.log(len(logs))
        if self.kind == "labels":
            chances = torch.exp(mean[..., 1])
            return {"probabilities": chances, "label": (chances > 0.5).to(torch.int64)}
        if self.temperature != 1:
            mean = torch.log_softmax(mean / self.temperature, 1)
        found = {"probabilities": torch.exp(mean), "label": mean.argmax(1)}
        if "set" in self.answers.outputs:
            found["set"] = self.set(logs)
        return found

    def _predicted(self, reads: list[Read], offset: Tensor | None) -> dict[str, Tensor]:
        if not set(self.answers.outputs) & {"mean", "quantiles", "interval"}:
            return {}
        # By output, then by member.
        each: list[list[Law]] = [
            list(law)
            for law in zip(*(laws(f, eta) for f, eta in self._etas(reads, offset)), strict=True)
        ]
        joint = [mixed(law) for law in each]
        found = {"mean": _beside([law.mean() for law in joint])}
        if "quantiles" in self.answers.outputs:
            levels = self.answers.quantiles
            found["quantiles"] = _beside(
                [law.quantile(levels) for law in joint if isinstance(law, Mixture)], 2
            )
        if "interval" in self.answers.outputs:
            found["interval"] = _beside(
                [
                    interval([law for law in mine if isinstance(law, Mixture)])
                    for interval, mine in zip(self.intervals, each, strict=True)
                ]
            )
        return found


def _beside(outputs: list[Tensor], axis: int = 1) -> Tensor:
    """Return one output alone, several along an axis of their own."""
    return outputs[0] if len(outputs) == 1 else torch.stack(outputs, axis)
