"""The round trip, near and far."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hybridflow.testing.case import CONTEXT, normal
from hybridflow.testing.check import expect_below, expect_close, expect_finite, fail
from hybridflow.testing.flows.case import FlowCase
from hybridflow.testing.supports import distance, rows_on
from hybridflow.transforms.base import Transform

_TEN = 10.0
_NEAR = {
    ("exact", torch.float64): 1e-9,
    ("iterative", torch.float64): 1e-6,
    ("exact", torch.float32): 1e-4,
    ("iterative", torch.float32): 1e-4,
}
_FAR = {torch.float64: 1e-8, torch.float32: 1e-3}
_DTYPES = (torch.float64, torch.float32)


def inverse_is_there_as_claimed(case: FlowCase) -> None:
    """A flow whose spec claims an inverse has one."""
    try:
        with torch.no_grad():
            case.ready().inverse(*case.inputs(2))
    except NotImplementedError as error:
        fail(
            f"the spec claims inverse={case.spec.inverse!r}; it raised NotImplementedError: {error}"
        )


def inverse_is_refused_as_claimed(case: FlowCase) -> None:
    """A flow whose spec says that it has no inverse raises NotImplementedError."""
    try:
        with torch.no_grad():
            case.ready().inverse(*case.inputs(2))
    except NotImplementedError:
        return
    fail("the spec says inverse='none', and inverse returned something")


def inverse_undoes_forward(case: FlowCase) -> None:
    """Rows to 10 standard deviations come back, from the start and away from it."""
    for features, flow, context in _flows(case):
        x = rows_on(case.kind, 60, features, 2)
        if case.reads_real_rows:
            far = x * _TEN / x.abs().amax(1, keepdim=True)
            x = torch.cat([x, far])
        for dtype in _DTYPES:
            flow, given = flow.to(dtype), _given(context, len(x), dtype)
            with torch.no_grad():
                z, _ = flow(x.to(dtype), given)
                back, _ = flow.inverse(z, given)
            error = distance(case.kind, back, x.to(dtype)).max()
            limit = _NEAR[case.spec.inverse, dtype]
            expect_below(error, limit, f"the round trip of {features} features in {dtype}")


def forward_undoes_inverse(case: FlowCase) -> None:
    """Latent rows come back from data space."""
    for features, flow, context in _flows(case):
        # Around the circle, the latent is a circle too.
        z = rows_on("circle" if case.kind == "circle" else "real", 60, features, 3)
        given = _given(context, 60, torch.float64)
        with torch.no_grad():
            x, _ = flow.inverse(z, given)
            again, _ = flow(x, given)
        error = distance("circle" if case.kind == "circle" else "real", again, z).max()
        expect_below(
            error,
            10 * _NEAR[case.spec.inverse, torch.float64],
            f"the round trip from the latent of {features} features",
        )


def ladj_of_the_inverse_is_the_negative(case: FlowCase) -> None:
    """The log-determinants of both directions add up to zero."""
    if case.spec.log_det == "estimated":
        return  # its mean is checked instead
    for features, flow, context in _flows(case):
        x, given = rows_on(case.kind, 60, features, 2), _given(context, 60, torch.float64)
        with torch.no_grad():
            z, ladj = flow(x, given)
            _, back = flow.inverse(z, given)
        limit = 100 * _NEAR[case.spec.inverse, torch.float64]
        expect_close(back, -ladj, limit, f"ladj of the inverse of {features} features from -ladj")


def round_trip_holds_as_far_as_claimed(case: FlowCase) -> None:
    """Rows come back from as many standard deviations out as `stable_to` claims."""
    for flow, x, context, scale in _far(case):
        with torch.no_grad():
            back, _ = flow.inverse(flow(x, context)[0], context)
        error = (back - x).abs().amax(1) / x.abs().amax(1).clamp(min=1)
        what = f"the relative round trip at {scale:g} deviations in {x.dtype}"
        expect_below(error.max(), _FAR[x.dtype], what)


def values_are_finite_as_far_as_claimed(case: FlowCase) -> None:
    """Values and gradients are finite as many standard deviations out as `stable_to` claims."""
    for flow, x, context, scale in _far(case):
        x = x.clone().requires_grad_()
        z, ladj = flow(x, context)
        where = f"at {scale:g} deviations in {x.dtype}"
        expect_finite(z, f"z {where}")
        expect_finite(ladj, f"ladj {where}")
        free = [parameter for parameter in flow.parameters() if parameter.requires_grad]
        objective = (z / scale).square().sum() + ladj.sum()
        for gradient in torch.autograd.grad(objective, [x, *free], materialize_grads=True):
            expect_finite(gradient, f"a gradient {where}")


def inverse_carries_gradients(case: FlowCase) -> None:
    """Gradients through the inverse are those of the implicit function theorem."""
    flow, features = case.ready(), case.features
    x, context = case.inputs(4)
    z = flow(x, context)[0].detach().requires_grad_()
    free = [parameter for parameter in flow.parameters() if parameter.requires_grad]
    along = normal(4, features, 31)
    found = torch.autograd.grad(
        flow.inverse(z, context)[0], [z, *free], along, materialize_grads=True
    )
    leaf = x.detach().requires_grad_()
    image, _ = flow(leaf, context)
    rows = [
        torch.autograd.grad(image[:, j].sum(), leaf, retain_graph=True)[0] for j in range(features)
    ]
    jacobian = torch.stack(rows, 1)
    solved = torch.linalg.solve(jacobian.mT, along[..., None])[..., 0]
    expected = [solved]
    if free:
        expected += torch.autograd.grad(image, free, -solved, materialize_grads=True)
    for name, one, other in zip(
        ["z", *("a parameter" for _ in free)], found, expected, strict=True
    ):
        expect_close(one, other, 1e-4, f"the gradient of the inverse with respect to {name}")


def _flows(case: FlowCase) -> Iterator[tuple[int, Transform, Tensor | None]]:
    """Yield flows of each size, as built and moved, with a row of context for the latter."""
    for features in case.sizes:
        yield features, case.sized(features, moved=False), None
        yield features, case.sized(features, CONTEXT), normal(1, CONTEXT, 4)


def _given(context: Tensor | None, n: int, dtype: torch.dtype) -> Tensor | None:
    return None if context is None else context.to(dtype).expand(n, -1)


def _far(case: FlowCase) -> Iterator[tuple[Transform, Tensor, Tensor | None, float]]:
    """Yield flows with rows that have one entry, or all, as far out as the spec claims."""
    sizes = case.sizes[:2] if len(case.sizes) > 1 else case.sizes
    scales = [10.0**k for k in (1, 2, 4, 6, 8) if 10.0**k < case.spec.stable_to]
    scales.append(case.spec.stable_to)
    for features in {sizes[-1], case.features}:
        flow = case.sized(features, CONTEXT)
        for dtype in _DTYPES:
            flow = flow.to(dtype)
            for scale in scales:
                one, context = normal(20, features, 5), normal(40, CONTEXT, 6)
                every = scale * one / one.abs()
                one[torch.arange(20), torch.arange(20) % features] *= scale
                yield flow, torch.cat([one, every]).to(dtype), context.to(dtype), scale


WITH_INVERSE = (
    inverse_is_there_as_claimed,
    inverse_undoes_forward,
    forward_undoes_inverse,
    ladj_of_the_inverse_is_the_negative,
    inverse_carries_gradients,
)
WITHOUT_INVERSE = (inverse_is_refused_as_claimed,)
FAR_WITH_INVERSE = (round_trip_holds_as_far_as_claimed,)
FAR = (values_are_finite_as_far_as_claimed,)
