"""The kit itself: each way of breaking a base is caught by the check that names it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hybridflow.config import Config
from hybridflow.densities import Base
from hybridflow.errors import InputError
from hybridflow.specs import BaseSpec, Event, Target
from hybridflow.testing import CheckFailed, CheckSkipped, checks


class ToyConfig(Config):
    """Settings of the toy: there are none."""


class Toy(Base):
    """Independent normal dimensions, learned: right, and made to be broken."""

    def __init__(self, event: Event, target: Target | None, config: ToyConfig) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(event.features))
        self.log_std = nn.Parameter(torch.zeros(event.features))

    def log_prob(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        t = (z - self.mean) * torch.exp(-self.log_std)
        return (-0.5 * t**2 - self.log_std - 0.5 * math.log(2 * math.pi)).sum(1)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        return self.rsample(n, context, generator)

    def rsample(
        self,
        n: int,
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        shape = (n, len(self.mean))
        noise = torch.randn(shape, generator=generator, dtype=self.mean.dtype)
        return self.mean + self.log_std.exp() * noise

    def initialize(
        self,
        z: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        weight = torch.ones(len(z)).to(z) if weight is None else weight
        with torch.no_grad():
            self.mean.copy_((weight[:, None] * z).sum(0) / weight.sum())


class NoNormaliser(Toy):
    def log_prob(self, z, context=None):
        return super().log_prob(z) + self.log_std.sum()


class NoConstant(Toy):
    def log_prob(self, z, context=None):
        return super().log_prob(z) + 0.1


class OneNumber(Toy):
    def log_prob(self, z, context=None):
        return super().log_prob(z)[:, None]


class Leak(Toy):
    def log_prob(self, z, context=None):
        return super().log_prob(z - 1e-6 * z.detach().mean(0))


class GlobalNoise(Toy):
    def sample(self, n, context=None, generator=None):
        return super().sample(n, context)


class StuckGenerator(Toy):
    def sample(self, n, context=None, generator=None):
        return super().sample(n, context, torch.Generator().manual_seed(0))


class WiderSamples(Toy):
    def sample(self, n, context=None, generator=None):
        draws = super().sample(n, context, generator)
        return self.mean.detach() + 1.3 * (draws - self.mean.detach())


class MixedUpSamples(Toy):
    """Every marginal is right, the dimensions are equal where they should be independent."""

    def sample(self, n, context=None, generator=None):
        draws = super().sample(n, context, generator)
        t = (draws[:, :1] - self.mean[:1]) * torch.exp(-self.log_std[:1])
        return (self.mean + self.log_std.exp() * t).detach()


class FloatSamples(Toy):
    def sample(self, n, context=None, generator=None):
        return super().sample(n, context, generator).float()


class RecordedSamples(Toy):
    def sample(self, n, context=None, generator=None):
        return self.rsample(n, context, generator)


class HalfGradient(Toy):
    def rsample(self, n, context=None, generator=None):
        draws = super().rsample(n, context, generator)
        return 0.5 * (draws + draws.detach())


class WiderDraws(Toy):
    """Only the draws with gradients are wrong."""

    def sample(self, n, context=None, generator=None):
        return super().rsample(n, context, generator).detach()

    def rsample(self, n, context=None, generator=None):
        draws = super().rsample(n, context, generator)
        return self.mean + 1.3 * (draws - self.mean)


class IgnoresWeights(Toy):
    def initialize(self, z, context=None, y=None, weight=None):
        super().initialize(z)


class StartsFarAway(Toy):
    def initialize(self, z, context=None, y=None, weight=None):
        with torch.no_grad():
            self.mean.fill_(50.0)


class Explodes(Toy):
    def log_prob(self, z, context=None):
        return super().log_prob(z) - torch.exp(z.abs() / 1e6).sum(1) + z.shape[1]


class NeedsDimensions(Toy):
    def log_prob(self, z, context=None):
        z.reshape(-1)[0]
        return super().log_prob(z)


class NeedsClasses(Toy):
    def __init__(self, event, target, config):
        if target is None or not target.classes:
            raise InputError("needs classes")
        super().__init__(event, target, config)


class UnusedParameter(Toy):
    def __init__(self, event, target, config):
        super().__init__(event, target, config)
        self.forgotten = nn.Parameter(torch.ones(2))


def spec_of(base: type[Toy], **claims: Any) -> BaseSpec:
    return BaseSpec(
        **{
            "name": "toy",
            "summary": "A toy",
            "config": ToyConfig,
            "build": base,
            "stable_to": 1e8,
            "reference": "Toys, N. N., 2026",
            **claims,
        }
    )


def failures(spec: BaseSpec, only: str | None = None) -> dict[str, str]:
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


def test_a_right_base_passes_every_check() -> None:
    assert failures(spec_of(Toy)) == {}


CASES: list[tuple[type[Toy], str, str]] = [
    (NoNormaliser, "density_integrates_to_one_on_the_line", "mass from 1"),
    (NoConstant, "density_integrates_to_one_on_the_plane", "mass from 1"),
    (OneNumber, "log_prob_is_one_number_per_row", "shape"),
    (Leak, "a_row_alone_is_the_row_in_a_batch", "alone, in torch.float64"),
    (GlobalNoise, "sample_uses_the_generator_alone", "different draws"),
    (StuckGenerator, "sample_uses_the_generator_alone", "the same draws"),
    (WiderSamples, "samples_of_the_line_follow_the_density", "do not follow"),
    (MixedUpSamples, "samples_of_the_plane_follow_the_density", "two dimensions"),
    (FloatSamples, "sample_has_the_right_shape", "torch.float64 is torch.float32"),
    (RecordedSamples, "sample_carries_no_gradient", "requires a gradient"),
    (HalfGradient, "rsample_carries_the_gradient_of_the_mean", "over its bound"),
    (WiderDraws, "rsample_is_distributed_as_sample", "does not follow"),
    (IgnoresWeights, "initialize_counts_a_weight_as_repetition", "repeated rows"),
    (StartsFarAway, "initialize_raises_the_density", "mean log_prob from"),
    (Explodes, "far_rows_have_finite_values_and_gradients", "at 1e+08"),
    (NeedsDimensions, "no_dimensions_have_log_density_zero", "raised IndexError"),
    (NeedsClasses, "builds_for_every_target", "needs classes"),
    (UnusedParameter, "every_parameter_receives_a_gradient", "forgotten"),
    (NeedsClasses, "works_in_flow_density", "needs classes"),
]


@pytest.mark.parametrize(
    ("base", "check", "message"),
    CASES,
    ids=[f"{base.__name__}-{check}" for base, check, _ in CASES],
)
def test_a_broken_base_is_caught_by_name(base: type[Toy], check: str, message: str) -> None:
    found = failures(spec_of(base), check)
    assert message in found[check]
    assert found[check].startswith(f"base toy: {check}: ")


def test_a_base_without_rsample_is_not_asked_for_it() -> None:
    class Plain(Toy):
        def sample(self, n, context=None, generator=None):
            return super().rsample(n, context, generator).detach()

        rsample = Base.rsample

    names = {check.name for check in checks(spec_of(Plain))}
    assert not {name for name in names if name.startswith("rsample")}
    assert {name for name in (check.name for check in checks(spec_of(Toy))) if "rsample" in name}
