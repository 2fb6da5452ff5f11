"""The parts of a graph against the parts of the model that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from hybridflow import laws
from hybridflow.calibration import Fold
from hybridflow.column import Column
from hybridflow.export.columns import inputs_of
from hybridflow.export.laws import Minimum, Mixture, Normal, log_gamma
from hybridflow.export.normal import tail
from hybridflow.export.ranks import ConformalPvalue, LogTail, Ranks
from hybridflow.export.rewriting import REWRITES
from hybridflow.export.splines import GatheredSplineCoupling
from hybridflow.novelty import conformal_pvalue, log_tail
from hybridflow.schema import Schema
from hybridflow.transforms import (
    LU,
    Coupling,
    Gaussianize,
    Householder,
    Orthogonal,
    RationalQuadraticMap,
    Transform,
    Whiten,
)

LEVELS = (1e-6, 0.05, 0.5, 0.9, 1 - 1e-6)


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_normal_tail_keeps_its_digits() -> None:
    x = np.linspace(-37, 37, 20001)
    np.testing.assert_allclose(tail(torch.tensor(x)), special.ndtr(-np.abs(x)), rtol=1e-12)


def test_log_gamma_is_that_of_scipy() -> None:
    x = np.geomspace(1e-3, 1e3, 500)
    np.testing.assert_allclose(log_gamma(torch.tensor(x)), special.gammaln(x), atol=1e-11)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 99, 100, 101])
def test_ranks_are_those_of_a_search(count: int) -> None:
    scores = np.sort(np.random.default_rng(0).normal(size=count).round(1))
    values = np.concatenate([scores, np.linspace(-4, 4, 33), [-np.inf, np.inf]])
    found = Ranks(scores.tolist())(torch.tensor(values))
    np.testing.assert_array_equal(found, np.searchsorted(scores, values, side="right"))


@pytest.mark.parametrize("count", [0, 1, 2, 60])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_novelty_of_a_fold_is_that_of_numpy(count: int, weighted: bool) -> None:
    rng = np.random.default_rng(1)
    weights = rng.integers(1, 4, count) if weighted else np.ones(count)
    fold = Fold.of((0,), -rng.exponential(size=count), weights)
    values = np.concatenate([fold.scores, [-1e9, -50.0, -3.0, -0.5, -1e-9, 2.0, -np.inf]])
    with np.errstate(invalid="ignore"):
        expected = log_tail(fold, values)
    np.testing.assert_allclose(LogTail(fold)(torch.tensor(values)), expected, rtol=1e-10)
    found = ConformalPvalue(fold)(torch.tensor(values))
    np.testing.assert_allclose(found, conformal_pvalue(fold, values), rtol=1e-13)


def mixtures(step: float) -> tuple[Mixture, laws.Law]:
    """Return the same mixtures of normal laws as a graph and as numpy know them."""
    rng = np.random.default_rng(2)
    location, scale = rng.normal(size=(30, 3)) * 4, 0.3 + rng.exponential(size=(30, 3))
    weight = rng.dirichlet([1, 1, 1], 30)
    parts = [laws.GaussianLaw(location[:, k], scale[:, k]) for k in range(3)]
    own = laws.MixtureLaw(parts, weight)
    graph = Mixture(Normal(), *map(torch.tensor, (location, scale, weight)), step=step)
    return graph, laws.Discretized(own, step) if step else own


@pytest.mark.parametrize("step", [0.0, 1.0], ids=["continuous", "lattice"])
def test_a_mixture_is_that_of_numpy(step: float) -> None:
    graph, own = mixtures(step)
    np.testing.assert_allclose(graph.mean(), own.mean(), rtol=1e-10, atol=1e-12)
    expected = own.quantile(np.array([LEVELS]))
    np.testing.assert_allclose(graph.quantile(LEVELS), expected, rtol=1e-9, atol=1e-9)
    y = np.tile(np.linspace(-9, 9, 19), (30, 1))
    below, above = graph.tails(torch.tensor(y))
    np.testing.assert_allclose(below, own.cdf(y), rtol=1e-9)
    np.testing.assert_allclose(above, own.sf(y), rtol=1e-9)


@pytest.mark.parametrize("family", ["log-normal", "weibull"])
def test_times_are_those_of_numpy(family: str) -> None:
    rng = np.random.default_rng(3)
    location, scale = rng.normal(size=40), 0.2 + rng.random(40)
    if family == "weibull":
        own, standard = laws.WeibullLaw(np.exp(location), 1 / scale), Minimum()
    else:
        own, standard = laws.LogNormalLaw(location, scale), Normal()
    columns = (torch.tensor(part)[:, None] for part in (location, scale, np.ones(40)))
    graph = Mixture(standard, *columns, logarithmic=True)
    np.testing.assert_allclose(graph.mean(), own.mean(), rtol=1e-10)
    np.testing.assert_allclose(graph.quantile(LEVELS), own.quantile(np.array([LEVELS])), rtol=1e-9)
    y = np.tile(np.geomspace(1e-4, 20, 15), (40, 1))
    np.testing.assert_allclose(graph.tails(torch.tensor(y))[0], own.cdf(y), rtol=1e-9)


def trained_like(transform: Transform) -> Transform:
    """Return a transform with parameters as if it had been trained."""
    torch.manual_seed(0)
    transform = transform.double()
    transform.initialize(rows(200, 4) @ rows(4, 4, 1))
    for parameter in transform.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return transform


def spline_coupling(context: int, features: int = 4) -> Coupling:
    mask = [True, False, False, True][:features] if features > 1 else [False]
    return Coupling(RationalQuadraticMap(5, 4.0), mask, (16,), context)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gaussianize(4),
        lambda: Householder(4, 2),
        lambda: LU(4, order=[2, 0, 3, 1]),
        lambda: Orthogonal(4),
        lambda: Whiten(4),
        lambda: spline_coupling(0),
    ],
    ids=["gaussianize", "householder", "lu", "orthogonal", "whiten", "coupling"],
)
def test_what_stands_for_a_transform_is_the_same_map(make: object) -> None:
    own = trained_like(make())  # type: ignore[operator]
    stands_in = REWRITES[type(own)](own)
    assert isinstance(stands_in, Transform)
    x = rows(50, 4, 7) * 5
    with torch.no_grad():
        for one, other in zip(own(x), stands_in(x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
        z = own(x)[0]
        for one, other in zip(own.inverse(z), stands_in.inverse(z), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("context", "features"), [(3, 4), (0, 1), (2, 1)])
def test_a_gathered_coupling_takes_context_and_single_columns(context: int, features: int) -> None:
    own = spline_coupling(context, features)
    torch.manual_seed(0)
    own = own.double()
    for parameter in own.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    x, given = rows(30, features), rows(30, context, 4) if context else None
    with torch.no_grad():
        for one, other in zip(own(x, given), GatheredSplineCoupling(own)(x, given), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("levels", "missing", "expected"),
    [
        (("a", "b"), 0.1, {"a": 0, "b": 1, "": 2}),
        (("a", "b"), 0.0, {"a": 0, "b": 1, "": 2}),
        (("", "b"), 0.1, {"": 0, "b": 1, "<NA>": 2}),
    ],
    ids=["missing-in-training", "never-missing", "empty-text-is-a-level"],
)
def test_a_missing_text_has_a_word(
    levels: tuple[str, ...], missing: float, expected: dict[str, int]
) -> None:
    column = Column(name="c", dtype="String", kind="categorical", levels=levels, missing=missing)
    (found,) = inputs_of(Schema(columns=(column,)))
    assert found.codes == expected
    assert found.unseen == column.size
