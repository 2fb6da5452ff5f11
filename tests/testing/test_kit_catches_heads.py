"""The kit itself: each way of breaking a head is caught by the check that names it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridflow.config import Config
from hybridflow.densities import Base
from hybridflow.errors import ConfigError, InputError
from hybridflow.laws import GaussianLaw
from hybridflow.likelihoods import Head, TargetBatch
from hybridflow.specs import Event, HeadSpec, Target
from hybridflow.testing import CheckFailed, CheckSkipped, checks


class ToyConfig(Config):
    """Settings of the toy: there are none."""


class Toy(Head):
    """Least squares with a learned spread: right, and made to be broken."""

    def __init__(self, event: Event, target: Target, base: Base, config: ToyConfig) -> None:
        super().__init__()
        self.location, self.scale = target.location[0], target.scale[0]
        width = event.features + event.context_features
        self.weight = nn.Parameter(torch.zeros(width, 1))
        self.bias = nn.Parameter(torch.zeros(1))
        self.log_std = nn.Parameter(torch.zeros(()))

    def forward(
        self, z: Tensor, context: Tensor | None = None, offset: Tensor | None = None
    ) -> Tensor:
        if offset is not None:
            raise InputError("no exposure here")
        return (z if context is None else torch.cat([z, context], 1)) @ self.weight + self.bias

    def nll(self, eta: Tensor, targets: TargetBatch) -> Tensor:
        seen = targets.observed[:, 0]
        y = torch.where(seen, targets.values[:, 0], self.location)
        v = (y - self.location) / self.scale
        std = self.log_std.double().exp()
        t = (v - torch.where(seen, eta[:, 0].double(), 0.0)) / std
        loss = 0.5 * t**2 + 0.5 * math.log(2 * math.pi) + torch.log(std * self.scale)
        return torch.where(seen, loss, 0.0)

    def law(self, eta: Tensor) -> GaussianLaw:
        mean = self.location + self.scale * eta[:, 0].detach().double().numpy()
        return GaussianLaw(mean, 0 * mean + self.scale * float(self.log_std.detach().exp()))

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: TargetBatch | None = None,
        weight: Tensor | None = None,
    ) -> None:
        if y is None:
            return
        weight = torch.ones(len(z)).double() if weight is None else weight.double()
        share = torch.where(y.observed[:, 0], weight, 0.0)
        values = torch.where(y.observed[:, 0], y.values[:, 0], 0.0)
        mean = (share * values).sum() / share.sum()
        with torch.no_grad():
            self.bias.fill_(float(mean - self.location) / self.scale)


class ForgetsTheUnit(Toy):
    def nll(self, eta, targets):
        return super().nll(eta, targets) - torch.where(
            targets.observed[:, 0], math.log(self.scale), 0.0
        )


class CostsUnlabelled(Toy):
    def nll(self, eta, targets):
        return super().nll(eta, targets) + 0.1 * (~targets.observed[:, 0])


class ReadsUnobserved(Toy):
    def initialize(self, z, context=None, y=None, weight=None):
        if y is not None:
            with torch.no_grad():
                self.bias.fill_(float(y.values.mean()))


class FloatLoss(Toy):
    def nll(self, eta, targets):
        return super().nll(eta, targets).float()


class OverflowingLoss(Toy):
    def nll(self, eta, targets):
        return super().nll(eta, targets) + 0 * torch.exp(eta[:, 0].double().abs())


class WrongLaw(Toy):
    def law(self, eta):
        right = super().law(eta)
        return GaussianLaw(right.mean(), 1.2 * right.std())


class HalfADensity(GaussianLaw):
    def log_prob(self, y):
        return super().log_prob(y) - math.log(2)

    def __getitem__(self, rows):
        return HalfADensity(self.mean()[rows], self.std()[rows])


class HalfALaw(Toy):
    def nll(self, eta, targets):
        return super().nll(eta, targets) + math.log(2)

    def law(self, eta):
        right = super().law(eta)
        return HalfADensity(right.mean(), right.std())


class ShiftedQuantiles(GaussianLaw):
    def quantile(self, p):
        return super().quantile(p) - 1.0


class WrongQuantiles(Toy):
    def law(self, eta):
        right = super().law(eta)
        return ShiftedQuantiles(right.mean(), right.std())


class FirstRowsAlways(GaussianLaw):
    def __getitem__(self, rows):
        return GaussianLaw(self.mean()[: len(rows)], self.std()[: len(rows)])


class WrongRows(Toy):
    def law(self, eta):
        right = super().law(eta)
        return FirstRowsAlways(right.mean(), right.std())


class IgnoresOffset(Toy):
    def forward(self, z, context=None, offset=None):
        return super().forward(z, context)


class AddsOffsetTwice(Toy):
    def forward(self, z, context=None, offset=None):
        return super().forward(z, context) + (0 if offset is None else 2 * offset[:, None])


class IgnoresContext(Toy):
    def forward(self, z, context=None, offset=None):
        return super().forward(z, None if context is None else 0 * context, offset)


class Leak(Toy):
    def forward(self, z, context=None, offset=None):
        return super().forward(z, context, offset) + 1e-6 * z.detach().mean()


class IgnoresWeights(Toy):
    def initialize(self, z, context=None, y=None, weight=None):
        super().initialize(z, context, y)


class StartsFarAway(Toy):
    def initialize(self, z, context=None, y=None, weight=None):
        with torch.no_grad():
            self.bias.fill_(50.0)


class UnusedParameter(Toy):
    def __init__(self, event, target, base, config):
        super().__init__(event, target, base, config)
        self.forgotten = nn.Parameter(torch.ones(2))


class Climbs(Toy):
    def nll(self, eta, targets):
        loss = super().nll(eta, targets)
        return 2 * loss.detach() - loss


class ForeignError(Toy):
    def check(self, targets):
        if bool((targets.values < -1e3).any()):
            raise KeyError("y")


class NeedsFeatures(Toy):
    def forward(self, z, context=None, offset=None):
        if not z.shape[1]:
            raise RuntimeError("needs features")
        return super().forward(z, context, offset)


class NeedsAContext(Toy):
    def __init__(self, event, target, base, config):
        if event.features and not event.context_features:
            raise RuntimeError("needs a context")
        super().__init__(event, target, base, config)


class OverflowsFarOut(Toy):
    def forward(self, z, context=None, offset=None):
        return super().forward(z, context, offset) + 0 * (z**5).sum(1, keepdim=True)


def spec_of(head: type[Toy], **claims: Any) -> HeadSpec:
    return HeadSpec(
        **{
            "name": "toy",
            "summary": "A toy",
            "config": ToyConfig,
            "tasks": ("regression",),
            "build": head,
            "reference": "Toys, N. N., 2026",
            **claims,
        }
    )


def failures(spec: HeadSpec, only: str | None = None) -> dict[str, str]:
    """Run the checks of a spec, or one of them, and return what failed."""
    found = list(checks(spec))
    assert only is None or only in {check.name for check in found}
    failed = {}
    for check in found:
        if only in (None, check.name):
            try:
                check.run()
            except CheckSkipped:
                continue
            except CheckFailed as failure:
                failed[check.name] = str(failure)
    return failed


def test_a_right_head_passes_every_check() -> None:
    assert failures(spec_of(Toy)) == {}


CASES: list[tuple[type[Toy], str, str]] = [
    (ForgetsTheUnit, "loss_is_minus_the_log_probability_of_the_law", "for numbers"),
    (WrongLaw, "loss_is_minus_the_log_probability_of_the_law", "for numbers"),
    (HalfALaw, "law_has_mass_one", "mass from 1"),
    (WrongQuantiles, "law_agrees_with_itself", "quantile(p)"),
    (WrongRows, "law_of_some_rows_is_the_law_of_those_rows", "chosen rows"),
    (CostsUnlabelled, "unlabelled_rows_cost_nothing", "nats"),
    (ReadsUnobserved, "unobserved_values_are_never_read", "unread"),
    (FloatLoss, "eta_and_loss_have_one_row_per_row", "torch.float32"),
    (OverflowingLoss, "extreme_predictors_keep_loss_and_gradient_finite", "not finite"),
    (OverflowsFarOut, "far_rows_have_finite_predictors", "1e8 out"),
    (IgnoresOffset, "offset_is_added_or_refused", "offset of 0.7"),
    (AddsOffsetTwice, "offset_is_added_or_refused", "what an offset of 0.7 adds"),
    (IgnoresContext, "context_changes_the_result", "it is not read"),
    (Leak, "a_row_alone_is_the_row_in_a_batch", "alone, in torch.float64"),
    (IgnoresWeights, "initialize_counts_a_weight_as_repetition", "repeated rows"),
    (StartsFarAway, "initialize_lowers_the_loss", "mean loss"),
    (UnusedParameter, "every_parameter_receives_a_gradient", "forgotten"),
    (Climbs, "training_lowers_the_loss", "the loss went from"),
    (ForeignError, "impossible_targets_are_refused", "raised KeyError"),
    (NeedsFeatures, "no_features_leave_the_intercept", "needs features"),
    (NeedsAContext, "works_in_estimators", "needs a context"),
]


@pytest.mark.parametrize(
    ("head", "check", "message"),
    CASES,
    ids=[f"{head.__name__}-{check}" for head, check, _ in CASES],
)
def test_a_broken_head_is_caught_by_name(head: type[Toy], check: str, message: str) -> None:
    found = failures(spec_of(head), check)
    assert message in found[check]
    assert found[check].startswith(f"head toy: {check}: ")


def test_a_task_that_does_not_build_is_caught() -> None:
    class Regressions(Toy):
        def __init__(self, event, target, base, config):
            if target.classes:
                raise RuntimeError("numbers only")
            super().__init__(event, target, base, config)

    spec = spec_of(Regressions, tasks=("regression", "classification"))
    assert "numbers only" in str(failures(spec, "every_task_of_the_spec_builds"))


def test_a_limit_on_classes_that_is_not_kept_is_caught() -> None:
    check = "more_classes_than_claimed_are_refused"
    spec = spec_of(Toy, tasks=("classification",), max_classes=2)
    assert "3 classes are accepted, max_classes is 2" in failures(spec, check)[check]

    class TwoOnly(Toy):
        def __init__(self, event, target, base, config):
            if len(target.classes) > 2:
                raise ConfigError("two classes only")
            super().__init__(event, target, base, config)

    spec = spec_of(TwoOnly, tasks=("classification",), max_classes=2)
    assert failures(spec, check) == {}
    spec = spec_of(TwoOnly, tasks=("classification",), max_classes=3)
    assert "3 classes are refused, max_classes is 3" in failures(spec, check)[check]


def test_a_required_base_that_does_not_exist_is_caught() -> None:
    spec = spec_of(Toy, requires_base="nowhere")
    assert "unknown base 'nowhere'" in str(failures(spec, "required_base_is_there"))
