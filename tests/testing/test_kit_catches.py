"""The kit itself: each way of breaking a flow is caught by the check that names it."""

from __future__ import annotations

import itertools
import os
import random
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hybridflow.config import Config, Float
from hybridflow.specs import Event, FlowSpec
from hybridflow.testing import CheckFailed, CheckSkipped, checks
from hybridflow.transforms import Transform


class ToyConfig(Config):
    """Settings of the toy: the scale that it starts from."""

    scale: Annotated[float, Float(0.5, 2.0)] = 1.0


class Toy(Transform):
    """A scale and a shift that depend on the context: right, and made to be broken."""

    def __init__(self, event: Event, config: ToyConfig) -> None:
        super().__init__()
        features, self.width = event.features, event.context_features
        self.log_scale = nn.Parameter(torch.full((features,), config.scale).log())
        self.shift = nn.Parameter(torch.zeros(features))
        self.mix = nn.Parameter(torch.zeros(self.width, 2 * features)) if self.width else None
        self.register_buffer("centre", torch.zeros(features))

    def parameters_of(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        found = (0,) if context is None else context.shape[1:]
        if tuple(found) != (self.width,):
            raise ValueError(f"context: expected {self.width} columns, got {found[0]}")
        log_scale, shift = self.log_scale.expand(x.shape), self.shift.expand(x.shape)
        if context is not None and self.mix is not None:
            more = (context @ self.mix).chunk(2, 1)
            log_scale, shift = log_scale + torch.tanh(more[0]), shift + more[1]
        return log_scale, shift

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.parameters_of(x, context)
        return (x - self.centre) * log_scale.exp() + shift, log_scale.sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.parameters_of(z, context)
        return (z - shift) * torch.exp(-log_scale) + self.centre, -log_scale.sum(1)

    def initialize(
        self,
        x: Tensor,
        context: Tensor | None = None,
        y: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> None:
        weight = torch.ones(len(x)).to(x) if weight is None else weight
        self.centre.copy_((weight[:, None] * x).sum(0) / weight.sum())


class WrongSign(Toy):
    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        return z, -ladj


class DroppedTerm(Toy):
    def forward(self, x, context=None):
        return super().forward(x, context)[0], self.log_scale.sum().expand(len(x))


class WrongSignOfInverse(Toy):
    def inverse(self, z, context=None):
        x, ladj = super().inverse(z, context)
        return x, -ladj


class Leak(Toy):
    def forward(self, x, context=None):
        return super().forward(x + 1e-6 * x.detach().mean(0), context)


class LeakOfGradient(Toy):
    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        hidden = x.mean(0) - x.mean(0).detach()  # zero, with a gradient in every row
        return z + hidden, ladj


class UnusedParameter(Toy):
    def __init__(self, event, config):
        super().__init__(event, config)
        self.forgotten = nn.Parameter(torch.ones(2))


class NotContiguous(Toy):
    def __init__(self, event, config):
        super().__init__(event, config)
        self.register_buffer("table", torch.arange(6.0).view(2, 3).t())


class SharedMemory(Toy):
    def __init__(self, event, config):
        super().__init__(event, config)
        self.register_buffer("again", self.centre)


class LooseTensor(Toy):
    def __init__(self, event, config):
        super().__init__(event, config)
        self.constants = [torch.ones(2)]


class ForgottenState(Toy):
    def initialize(self, x, context=None, y=None, weight=None):
        self.mean = float(x.mean())  # no buffer: lost on the way to a file

    def forward(self, x, context=None):
        return super().forward(x - getattr(self, "mean", 0.0), context)


class SharedBetweenCopies(Toy):
    def __deepcopy__(self, memo):
        return self


class ChangesItsInput(Toy):
    def forward(self, x, context=None):
        with torch.no_grad():
            x.mul_(0.5)
        return super().forward(x, context)


class Random(Toy):
    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        return z + 1e-3 * torch.randn_like(z), ladj


class Double(Toy):
    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        return z.double(), ladj.double()


class NeedsRows(Toy):
    def forward(self, x, context=None):
        x.max()
        return super().forward(x, context)


class NeedsOneLayout(Toy):
    def forward(self, x, context=None):
        return super().forward(x.view(-1).view(x.shape), context)


class NoContext(Toy):
    def parameters_of(self, x, context):
        return self.log_scale.expand(x.shape), self.shift.expand(x.shape)


class AnyContext(Toy):
    def parameters_of(self, x, context):
        if context is not None:
            context = context[:, : self.width]
        elif self.width:
            context = x.new_zeros(len(x), self.width)
        return super().parameters_of(x, context)


class Missing(Toy):
    def inverse(self, z, context=None):
        raise NotImplementedError("not yet")


class Approximate(Toy):
    def inverse(self, z, context=None):
        x, ladj = super().inverse(z, context)
        return x * (1 + 1e-8), ladj


class Detached(Toy):
    def inverse(self, z, context=None):
        x, ladj = super().inverse(z, context)
        return x.detach() + 0 * ladj[:, None], ladj


class WrongGradient(Toy):
    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        return z, ladj.detach() + 0.5 * (ladj - ladj.detach())


class CutGradient(Toy):
    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        bad = torch.where(x == 0, x, torch.sqrt(x.abs()))  # its gradient at 0 is infinite
        return z + 0 * bad, ladj


class Climbs(Toy):
    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        return 2 * z.detach() - z, 2 * ladj.detach() - ladj  # gradients of the wrong sign


class IgnoresWeights(Toy):
    def initialize(self, x, context=None, y=None, weight=None):
        super().initialize(x, context)


class FirstRow(Toy):
    def initialize(self, x, context=None, y=None, weight=None):
        self.centre.copy_(x[0])


class DividesByTheSpread(Toy):
    def initialize(self, x, context=None, y=None, weight=None):
        weight = torch.ones(len(x)).to(x) if weight is None else weight
        mean = (weight[:, None] * x).sum(0) / weight.sum()
        variance = (weight[:, None] * (x - mean) ** 2).sum(0) / weight.sum()
        self.log_scale.data.copy_(-0.5 * variance.log())


class NeedsDouble(Toy):
    def initialize(self, x, context=None, y=None, weight=None):
        self.centre.copy_(x.mean(0) @ torch.eye(x.shape[1], dtype=torch.float64))


class Overflows(Toy):
    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        return torch.sinh(z), ladj + torch.log(torch.cosh(z)).sum(1)

    def inverse(self, z, context=None):
        x, ladj = super().inverse(torch.asinh(z), context)
        return x, ladj - 0.5 * torch.log1p(z**2).sum(1)


class FlatTails(Toy):
    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        return z / (1 + z.abs()), ladj - 2 * torch.log1p(z.abs()).sum(1)

    def inverse(self, z, context=None):
        x, ladj = super().inverse(z / (1 - z.abs()), context)
        return x, ladj - 2 * torch.log1p(-z.abs()).sum(1)


class Bounded(Toy):
    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        return torch.tanh(z), ladj + torch.log1p(-(torch.tanh(z) ** 2)).sum(1)

    def inverse(self, z, context=None):
        x, ladj = super().inverse(torch.atanh(z), context)
        return x, ladj - torch.log1p(-(z**2)).sum(1)


class ReversedSamples(Toy):
    """An inverse of its own: samples are shifted, and `forward` knows nothing of it."""

    def inverse(self, z, context=None):
        x, ladj = super().inverse(z, context)
        return x + 1.0, ladj


class Rough(Toy):
    """Rounding of its input is blown up a million times."""

    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        return z + 1e-3 * torch.sin(1e9 * x), ladj


class BrokenByFinish(Toy):
    def finish(self, batches, weight=None):
        self.log_scale.data.fill_(float("nan"))


class NeedsTwo(Toy):
    def forward(self, x, context=None):
        if x.shape[1] < 2:
            raise RuntimeError("needs two features")
        return super().forward(x, context)


class NeedsContext(Toy):
    def __init__(self, event, config):
        if event.context_features == 0:
            raise RuntimeError("needs a context")
        super().__init__(event, config)


class Biased(Toy):
    bias = 0.05

    def forward(self, x, context=None):
        z, ladj = super().forward(x, context)
        noise = torch.randn(len(x), generator=torch.Generator().manual_seed(0)).to(x)
        return z, ladj + (self.bias + 0.3 * noise if self.training else 0.0)


def spec_of(flow: type[Toy], **claims: Any) -> FlowSpec:
    return FlowSpec(
        **{
            "name": "toy",
            "summary": "A toy",
            "config": ToyConfig,
            "build": flow,
            "stable_to": 1e8,
            "onnx": False,
            "reference": "Toys, N. N., 2026",
            **claims,
        }
    )


def failures(spec: FlowSpec, only: str | None = None) -> dict[str, str]:
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


def test_a_right_flow_passes_every_check() -> None:
    assert failures(spec_of(Toy)) == {}


CASES: list[tuple[type[Toy], str, str]] = [
    (WrongSign, "ladj_is_the_log_determinant", "from the Jacobian's"),
    (DroppedTerm, "ladj_is_the_log_determinant", "from the Jacobian's"),
    (WrongSignOfInverse, "ladj_of_the_inverse_is_the_negative", "from -ladj"),
    (WrongSignOfInverse, "ladj_of_the_inverse_is_its_log_determinant", "Jacobian's"),
    (Leak, "a_row_alone_is_the_row_in_a_batch", "alone, in torch.float64"),
    (LeakOfGradient, "no_gradient_crosses_rows", "z of row 0 has gradient"),
    (UnusedParameter, "every_parameter_receives_a_gradient", "forgotten"),
    (NotContiguous, "tensors_are_contiguous", "table"),
    (SharedMemory, "tensors_share_no_memory", "centre and again"),
    (LooseTensor, "tensors_are_parameters_or_buffers", "constants"),
    (ForgottenState, "state_loads_into_a_fresh_build", "no parameter or buffer"),
    (SharedBetweenCopies, "a_copy_is_independent", "changing a copy"),
    (ChangesItsInput, "input_is_not_changed", "input 0 was changed in place"),
    (Random, "evaluation_repeats", "z changes from call to call"),
    (Double, "shapes_and_dtypes_are_kept", "of torch.float32 rows is torch.float64"),
    (NeedsRows, "no_rows_give_no_rows", "raised"),
    (NeedsOneLayout, "layout_of_the_input_does_not_matter", "raised RuntimeError"),
    (NoContext, "context_changes_the_result", "it is not read"),
    (AnyContext, "wrong_context_is_refused", "no context was accepted"),
    (Missing, "inverse_is_there_as_claimed", "claims inverse='exact'"),
    (Approximate, "inverse_undoes_forward", "round trip of"),
    (Detached, "inverse_carries_gradients", "gradient of the inverse"),
    (WrongGradient, "gradients_match_finite_differences", "error of a slope"),
    (CutGradient, "float32_gradients_are_finite", "whole numbers"),
    (Climbs, "training_lowers_the_loss", "the loss went from"),
    (IgnoresWeights, "initialize_counts_a_weight_as_repetition", "repeated rows"),
    (FirstRow, "initialize_ignores_the_order_of_rows", "shuffled rows"),
    (DividesByTheSpread, "initialize_survives_a_constant_column", "not finite"),
    (NeedsDouble, "initialize_works_in_float32", "raised RuntimeError"),
    (Overflows, "values_are_finite_as_far_as_claimed", "not finite"),
    (FlatTails, "round_trip_holds_as_far_as_claimed", "relative round trip at"),
    (Overflows, "round_trip_survives_training_on_heavy_tails", "z and ladj"),
    (Bounded, "density_integrates_to_one_on_the_line", "mass from 1"),
    (WrongSign, "density_integrates_to_one_on_the_plane", "mass from 1"),
    (Bounded, "forward_undoes_inverse", "from the latent"),
    (Bounded, "samples_stay_on_the_support", "not finite"),
    (ReversedSamples, "samples_of_the_line_follow_the_density", "do not follow"),
    (ReversedSamples, "samples_of_the_plane_follow_the_density", "telling samples apart"),
    (Rough, "another_unit_changes_the_score_by_a_constant", "in another unit"),
    (BrokenByFinish, "finish_leaves_a_working_flow", "after finish"),
    (NeedsTwo, "fewest_features_are_enough", "needs two features"),
    (NeedsContext, "works_in_flow_density", "needs a context"),
]


@pytest.mark.parametrize(
    ("flow", "check", "message"),
    CASES,
    ids=[f"{flow.__name__}-{check}" for flow, check, _ in CASES],
)
def test_a_broken_flow_is_caught_by_name(flow: type[Toy], check: str, message: str) -> None:
    found = failures(spec_of(flow), check)
    assert message in found[check]
    assert found[check].startswith(f"flow toy: {check}: ")


GLOBAL_CHANGES: dict[str, tuple[Callable[[], object], str]] = {
    "torch-random": (lambda: torch.randn(1), "torch's random state"),
    "torch-dtype": (lambda: torch.set_default_dtype(torch.float64), "default dtype"),
    "grad-mode": (lambda: torch.set_grad_enabled(False), "grad mode"),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "threads"),
    "deterministic": (lambda: torch.use_deterministic_algorithms(True), "deterministic flags"),
    "anomaly": (lambda: torch.autograd.set_detect_anomaly(True), "anomaly detection"),
    "numpy-random": (lambda: np.random.seed(0), "numpy's random state"),  # noqa: NPY002
    "numpy-errors": (lambda: np.seterr(over="raise"), "floating-point errors"),
    "python-random": (lambda: random.seed(0), "Python's random state"),
    "warnings": (lambda: warnings.simplefilter("ignore"), "warning filters"),
    "environment": (lambda: os.environ.update(TOY="1"), "environment variables"),
}


@pytest.mark.parametrize("change", GLOBAL_CHANGES)
@pytest.mark.parametrize("where", ["initialize", "a step of training", "evaluating"])
def test_a_change_of_global_state_is_caught_and_undone(change: str, where: str) -> None:
    touch, message = GLOBAL_CHANGES[change]

    class Touches(Toy):
        def forward(self, x, context=None):
            if (where == "evaluating") != self.training and where != "initialize":
                touch()
            return super().forward(x, context)

        def initialize(self, x, context=None, y=None, weight=None):
            if where == "initialize":
                touch()

    before = torch.get_default_dtype(), torch.get_num_threads(), random.getstate()
    found = failures(spec_of(Touches), "global_state_is_left_alone")
    assert f"{where} changed" in found["global_state_is_left_alone"]
    assert message in found["global_state_is_left_alone"]
    assert before == (torch.get_default_dtype(), torch.get_num_threads(), random.getstate())
    assert "TOY" not in os.environ


def test_a_build_that_seeds_is_caught() -> None:
    def build(event: Event, config: ToyConfig) -> Toy:
        torch.manual_seed(4321)
        return Toy(event, config)

    assert "building seeds torch" in str(failures(spec_of(build), "global_state_is_left_alone"))


def test_builds_that_differ_are_caught() -> None:
    count = itertools.count()

    def build(event: Event, config: ToyConfig) -> Toy:
        flow = Toy(event, config)
        nn.init.constant_(flow.shift, float(next(count)))
        return flow

    found = failures(spec_of(build), "building_twice_gives_the_same")
    assert "shift differs under the same seed" in str(found)


def test_a_false_claim_of_no_inverse_is_caught() -> None:
    names = {check.name for check in checks(spec_of(Toy, inverse="none"))}
    assert not {name for name in names if "round_trip" in name or "undoes" in name}
    assert "returned something" in str(
        failures(spec_of(Toy, inverse="none"), "inverse_is_refused_as_claimed")
    )
    assert not failures(spec_of(Missing, inverse="none"), "inverse_is_refused_as_claimed")


def test_a_false_claim_of_an_exact_inverse_is_caught() -> None:
    """What would do for an iterative inverse does not for an exact one."""
    assert not failures(spec_of(Approximate, inverse="iterative"), "inverse_undoes_forward")
    assert failures(spec_of(Approximate, inverse="exact"), "inverse_undoes_forward")


def test_claims_of_estimates_are_checked() -> None:
    class Unbiased(Biased):
        bias = 0.0

    name = "estimated_ladj_is_unbiased"
    assert "bias of ladj" in failures(spec_of(Biased, log_det="estimated"), name)[name]
    assert not failures(spec_of(Unbiased, log_det="estimated"), name)


def test_a_false_claim_of_a_support_is_caught() -> None:
    name = "every_claimed_support_works"
    assert not failures(spec_of(Toy, supports=("real", "positive", "interval", "circle")), name)

    class OnlyReal(Toy):
        def __init__(self, event, config):
            if event.kinds != {"real"}:
                raise RuntimeError("real rows only")
            super().__init__(event, config)

    assert (
        "real rows only" in failures(spec_of(OnlyReal, supports=("real", "positive")), name)[name]
    )


@pytest.mark.parametrize(
    ("claims", "check"),
    [
        ({"summary": ""}, "spec_has_a_summary_and_a_reference"),
        ({"reference": "A paper of ours"}, "spec_has_a_summary_and_a_reference"),
    ],
)
def test_an_empty_description_is_caught(claims: dict[str, str], check: str) -> None:
    assert failures(spec_of(Toy, **claims), check)


def test_a_setting_without_effect_is_caught() -> None:
    class Idle(ToyConfig):
        layers: Annotated[float, Float(1.0, 2.0)] = 1.0

    found = failures(spec_of(Toy, config=Idle), "every_setting_is_read")
    assert "no value of layers changes" in str(found)


def test_a_search_range_beyond_the_bounds_is_caught() -> None:
    def build(event: Event, config: ToyConfig) -> Toy:
        if config.scale > 1.5:
            raise RuntimeError("too wide")
        return Toy(event, config)

    assert "too wide" in str(failures(spec_of(build), "search_space_builds"))
