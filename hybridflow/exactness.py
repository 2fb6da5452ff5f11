"""The audit of a fitted model: is it the invertible map and the density that it says it is?

What the spec of its flow claims is measured on rows, in float64, with autograd
as the witness: the way there and back, the log-determinant, whether values are
finite, samples lie on the support, a row is mapped alike alone and among
others, and how stiff the map is. Only statistics are kept, never rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridflow.model import HybridModel
from hybridflow.specs import FlowSpec
from hybridflow.verdict import INFINITE, Audit, Finding

AUDITED = 256
"""Training rows that a fit audits its model on."""

_ROUND_TRIP = {"exact": 1e-8, "iterative": 1e-6, "none": None}
_WORST = 100.0  # what one row in a hundred may be off, over the limit of all others
_LOG_DET = 1e-6  # nats
_ALONE = 1e-8
_CONDITION = -math.log(torch.finfo(torch.float32).eps)  # beyond it float32 keeps no digit
_PART = 4096  # rows that go through the model at once
_COPIES = 2048  # rows times columns of all Jacobians
_JACOBIANS = 16
_WIDEST = 1024  # columns of a Jacobian
_SAMPLES = 256
_SINGLE = 8  # rows that are asked alone


def audit_models(models: Iterable[HybridModel], x: Tensor, spec: FlowSpec) -> Audit:
    """Audit fitted models on some rows and return the worst of each finding.

    Parameters
    ----------
    models : iterable of HybridModel
        The members of an estimator, in float64.
    x : Tensor of shape (n, D)
        Rows of the columns that carry a density, in float64.
    spec : FlowSpec
        Whose claims the models are held to.

    Returns
    -------
    Audit

    Examples
    --------
    >>> import torch
    >>> from hybridflow.densities import Normal
    >>> from hybridflow.exactness import audit_models
    >>> from hybridflow.flows.glow import SPEC
    >>> from hybridflow.model import HybridModel
    >>> from hybridflow.specs import Event
    >>> from hybridflow.transforms import Identity, Standardize
    >>> model = HybridModel(
    ...     Event.real(2), Standardize(2), Identity(), Normal(2), None,
    ...     step=torch.zeros(2), lattice=torch.zeros(2, dtype=torch.bool), origin=torch.zeros(2),
    ... )
    >>> model.network_to(torch.float64)
    >>> audit = audit_models([model], torch.zeros(5, 2, dtype=torch.float64), SPEC)
    >>> print(audit["log-determinant"])
    log-determinant: 0 nats, at most 1e-06 is good
    """
    worst: dict[str, Finding] = {}
    for model in models:
        for finding in _findings(model, x, spec):
            before = worst.setdefault(finding.name, finding)
            if _badness(finding) > _badness(before):
                worst[finding.name] = finding
    return Audit(rows=len(x), findings=tuple(worst.values()))


def _badness(finding: Finding) -> tuple[bool, float]:
    return not finding.ok, 0.0 if finding.value is None else abs(finding.value)


@dataclass(frozen=True)
class _Subject:
    """A model, rows to audit it on, and what its flow claims.

    Missing numbers are at the middle of their column; levels and flags are context.
    """

    model: HybridModel
    x: Tensor
    context: Tensor | None
    spec: FlowSpec

    def standard(self) -> Tensor:
        """Return the rows as the flow sees them."""
        return torch.cat([self.model.preprocess(part)[0] for part, _ in _parts(self.x, None)])

    def near(self) -> tuple[Tensor, Tensor | None]:
        """Return those rows as far out as the flow claims to come back from."""
        standard = self.standard()
        kept = standard.abs().amax(1) <= self.spec.stable_to
        return standard[kept], None if self.context is None else self.context[kept]


Measure = Callable[[_Subject], Iterator[Finding]]


def _parts(rows: Tensor, context: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    for start in range(0, len(rows), _PART):
        some = slice(start, start + _PART)
        yield rows[some], None if context is None else context[some]


def _findings(model: HybridModel, x: Tensor, spec: FlowSpec) -> Iterator[Finding]:
    if model.event.features == 0 or len(x) == 0:
        return
    with torch.no_grad():
        numbers, codes = model.layout.split(x)
        complete, _ = model.complete(numbers, numbers.isnan())
        subject = _Subject(model, complete, model.context(codes), spec)
    measures: dict[str, Measure] = {
        "not finite": _not_finite,
        "round trip": _round_trip,
        "log-determinant": _jacobian,
        "outside the support": _support,
        "row alone": _alone,
    }
    for name, measure in measures.items():
        devices = [] if x.device.type == "cpu" else [x.device]
        with torch.inference_mode(False), torch.random.fork_rng(devices=devices):
            torch.default_generator.manual_seed(0)
            try:
                found = list(measure(subject))
            except Exception as error:  # a plugin's part may fail in any way: that is a finding
                note = f"{type(error).__name__}: {error}"[:300]
                found = [Finding(name=name, value=None, unit="", limit=None, ok=False, note=note)]
        yield from found


def _finding(name: str, value: Tensor | float, unit: str, limit: float | None) -> Finding:
    number = float(value)
    # What is not a number is not good.
    number = INFINITE if math.isnan(number) else max(-INFINITE, min(number, INFINITE))
    return Finding(
        name=name, value=number, unit=unit, limit=limit, ok=limit is None or number <= limit
    )


def _unknown(name: str, note: str) -> Finding:
    return Finding(name=name, value=None, unit="", limit=None, ok=True, note=note)


@torch.no_grad()
def _not_finite(subject: _Subject) -> Iterator[Finding]:
    model, lost = subject.model, 0
    for part, context in _parts(subject.x, subject.context):
        z, ladj = model.latent(part, context)
        log_density = model.base.log_prob(z, context) + ladj
        # A row on the edge of a support may have no density: that is minus infinity.
        good = z.isfinite().all(1) & (log_density < math.inf)
        lost += int((~good).sum())
    yield _finding("not finite", lost / len(subject.x), "share", 0.0)


@torch.no_grad()
def _round_trip(subject: _Subject) -> Iterator[Finding]:
    limit = _ROUND_TRIP[subject.spec.inverse]
    near, given = subject.near()
    if limit is None or len(near) == 0:
        why = "no inverse is claimed" if limit is None else "no row is as near as the flow claims"
        yield _unknown("round trip, 99 % of rows", why)
        yield _unknown("round trip, worst row", why)
        return
    flow = subject.model.flow
    parts = [flow.inverse(flow(part, c)[0], c)[0] for part, c in _parts(near, given)]
    gap = (torch.cat(parts) - near).abs()
    for circle in subject.model.event.circles:  # angles: the shorter way around
        gap[:, circle] = torch.minimum(gap[:, circle], (2 * math.pi - gap[:, circle]).abs())
    error = gap.amax(1) / near.abs().amax(1).clamp(min=1)
    error = error.nan_to_num(nan=math.inf).sort().values
    most = error[math.ceil(0.99 * len(error)) - 1]
    yield _finding("round trip, 99 % of rows", most, "relative", limit)
    yield _finding("round trip, worst row", error[-1], "relative", _WORST * limit)


@torch.enable_grad()
def _jacobian(subject: _Subject) -> Iterator[Finding]:
    names = ("log-determinant", "largest stretch", "smallest stretch", "condition")
    model, columns = subject.model, subject.x.shape[1]
    standard, given = subject.near()
    if columns > _WIDEST or len(standard) == 0:
        why = f"more than {_WIDEST} columns" if len(standard) else "no row is near enough"
        yield from (_unknown(name, why) for name in names)
        return
    count = min(_JACOBIANS, len(standard), max(1, _COPIES // columns))
    some = torch.linspace(0, len(standard) - 1, count).round().long()
    rows, context = standard[some], None if given is None else given[some]
    # A row may lie on a knot of a fitted map, where there are two slopes.
    rows = rows + 1e-3 * torch.randn(rows.shape, dtype=rows.dtype).to(rows.device)
    x = model.preprocess.inverse(rows)[0].detach()
    outer, outer_ladj = _jacobians(model.preprocess, x, None)
    inner, inner_ladj = _jacobians(model.flow, model.preprocess(x)[0].detach(), context)
    error = torch.zeros_like(inner_ladj)
    for jacobian, ladj in ((outer, outer_ladj), (inner, inner_ladj)):
        error += (torch.linalg.slogdet(jacobian).logabsdet - ladj).abs().nan_to_num(nan=math.inf)
    limit = _LOG_DET if subject.spec.log_det == "exact" else None
    yield _finding(names[0], error.max(), "nats", limit)
    stretch = torch.linalg.svdvals(inner).log()
    yield _finding(names[1], stretch.max(), "nats", None)
    yield _finding(names[2], stretch.min(), "nats", None)
    yield _finding(names[3], (stretch[:, 0] - stretch[:, -1]).max(), "nats", _CONDITION)


def _jacobians(
    forward: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]],
    rows: Tensor,
    context: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return the Jacobians (n, D, D) and the log-determinants (n,) that a map has at rows."""
    count, columns = rows.shape
    # Copy k of a row yields row k of its Jacobian, all in one backward pass.
    copies = rows.repeat_interleave(columns, 0).requires_grad_()
    given = None if context is None else context.repeat_interleave(columns, 0)
    z, ladj = forward(copies, given)
    diagonals = z.view(count, columns, columns).diagonal(dim1=1, dim2=2)
    (jacobians,) = torch.autograd.grad(diagonals.sum(), copies)
    return jacobians.view(count, columns, columns), ladj.detach().view(count, columns)[:, 0]


@torch.no_grad()
def _support(subject: _Subject) -> Iterator[Finding]:
    if subject.spec.inverse == "none":
        yield _unknown("outside the support", "no inverse is claimed, so nothing is drawn")
        return
    model = subject.model
    rows = model.sample(_SAMPLES, generator=torch.Generator().manual_seed(0))
    drawn, _ = model.layout.split(rows)
    inside = drawn.isfinite() & (drawn >= model.low) & (drawn <= model.high)
    # A flag says that a cell is missing, and then there is no number to look at.
    inside |= drawn.isnan() & torch.tensor(
        [j in model.layout.flagged for j in range(drawn.shape[1])]
    )
    yield _finding("outside the support", (~inside).any(1).double().mean(), "share", 0.0)


@torch.no_grad()
def _alone(subject: _Subject) -> Iterator[Finding]:
    flow, (near, given) = subject.model.flow, subject.near()
    rows, context = near[: 4 * _SINGLE], None if given is None else given[: 4 * _SINGLE]
    if len(rows) < 2:
        yield _unknown("row alone", "too few rows")
        return
    z, ladj = flow(rows, context)
    count = min(_SINGLE, len(rows))
    ones = [slice(i, i + 1) for i in range(count)]
    alone = [flow(rows[one], None if context is None else context[one]) for one in ones]
    pairs = [(z[:count], torch.cat([one for one, _ in alone]))]
    if subject.spec.log_det == "exact":
        pairs.append((ladj[:count, None], torch.cat([one for _, one in alone])[:, None]))
    worst = max(
        ((one - among).abs().amax(1) / among.abs().amax(1).clamp(min=1)).max().item()
        for among, one in pairs
    )
    yield _finding("row alone", worst, "relative", _ALONE)
