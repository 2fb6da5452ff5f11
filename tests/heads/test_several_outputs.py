"""Several outputs and several labels: each as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LogisticRegression

from hybridflow.densities import Normal
from hybridflow.errors import InputError
from hybridflow.heads import hybridflow_heads
from hybridflow.laws import ProductLaw
from hybridflow.likelihoods import (
    Gaussian,
    GeneralizedLinear,
    Independent,
    LinearBasis,
    MultiLabel,
    Poisson,
    TargetBatch,
    Weibull,
    each_output,
)
from hybridflow.specs import Event, Target

TARGET = Target(
    kind="regression",
    names=("price", "rooms"),
    location=(100.0, 3.0),
    scale=(20.0, 1.0),
    steps=(0.0, 1.0),
)
LABELS = Target(
    kind="multi-label", names=("a", "b", "c"), classes=(0, 1, 2), location=(0,) * 3, scale=(1,) * 3
)
REGRESSIONS = {
    spec.name: spec
    for spec in hybridflow_heads()
    if spec.name in ("gaussian", "student-t", "mixture", "quantile", "spline")
}
VALUES = torch.tensor([[110.0, 2.0], [95.0, 4.0], [130.0, 3.0]], dtype=torch.float64)
SEEN = torch.tensor([[True, True], [True, False], [False, False]])


@pytest.mark.parametrize("name", REGRESSIONS)
def test_each_output_is_scored_as_if_alone(name: str) -> None:
    spec, event = REGRESSIONS[name], Event.real(2)
    torch.manual_seed(0)
    both = spec.build(event, TARGET, Normal(2), spec.config()).double().likelihood
    alone = [
        spec.build(event, TARGET.output(i), Normal(2), spec.config()).double().likelihood
        for i in range(2)
    ]
    eta = torch.randn(3, both.outputs, dtype=torch.float64)
    etas = torch.split(eta, [one.outputs for one in alone], 1)
    targets = TargetBatch(VALUES, SEEN)
    expected = sum(one.nll(etas[i], targets.output(i)) for i, one in enumerate(alone))
    assert_allclose(both.nll(eta, targets).detach(), expected.detach(), rtol=1e-13)
    law = both.law(eta)
    assert isinstance(law, ProductLaw)
    assert law.marginal(0).lattice is None
    assert law.marginal(1).lattice == (0.0, 1.0)
    assert_allclose(both.nll(eta, targets).detach()[0], -law.log_prob(VALUES)[0], rtol=1e-9)
    start = both.start(targets, torch.ones(3))
    assert_allclose(start, torch.cat([o.start(targets.output(i), torch.ones(3))
                                      for i, o in enumerate(alone)]))  # fmt: skip


def test_rows_with_no_output_cost_nothing() -> None:
    likelihood = each_output(TARGET, Gaussian).double()
    eta = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    nll = likelihood.nll(eta, TargetBatch(torch.full_like(VALUES, torch.nan), SEEN & False))
    (slope,) = torch.autograd.grad(nll.sum(), eta)
    assert_array_equal(nll.detach(), 0)
    assert_array_equal(slope, 0)


def test_one_output_stays_itself() -> None:
    assert isinstance(each_output(TARGET.output(0), Gaussian), Gaussian)


def test_what_all_outputs_take() -> None:
    one = Target(kind="regression")
    counts = Independent([Poisson(one), Poisson(one)], ("a", "b"))
    mixed = Independent([Poisson(one), Gaussian(one)], ("a", "b"))
    assert counts.takes_offset
    assert counts.rates == (0, 1)
    assert not mixed.takes_offset
    assert Independent([Weibull(one)], ("a",)).takes_censored


def test_errors_name_the_output() -> None:
    likelihood = Independent([Gaussian(TARGET.output(0)), Poisson(TARGET.output(1))], TARGET.names)
    wrong = TargetBatch(-VALUES, torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(InputError, match="output 'rooms': Poisson needs y >= 0; 3 negative"):
        likelihood.check(wrong)


def test_labels_are_independent_logistic_regressions() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 2))
    y = (z @ rng.normal(size=(2, 3)) + rng.logistic(size=(400, 3)) > 0.4).astype(float)
    head = GeneralizedLinear(LinearBasis(Event.real(2)), MultiLabel(LABELS)).double()
    targets = TargetBatch(torch.tensor(y), torch.ones(400, 3, dtype=torch.bool))
    inputs = torch.tensor(z)
    head.initialize(inputs, None, targets)
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=200, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = head.nll(head(inputs), targets).mean()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)
    found = head.law(head(inputs).detach()).mean()
    for i in range(3):
        reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z, y[:, i])
        assert_allclose(found[:, i], reference.predict_proba(z)[:, 1], atol=1e-5)


def test_labels_start_from_their_frequencies() -> None:
    y = torch.tensor([[1.0, 0, 1], [1, 0, 0], [1, 1, 0]], dtype=torch.float64)
    seen = torch.tensor([[True, True, False], [True, True, False], [True, True, False]])
    likelihood = MultiLabel(LABELS)
    start = likelihood.start(TargetBatch(y, seen), torch.tensor([1.0, 1.0, 2.0]))
    assert_allclose(torch.sigmoid(start), [0.9995, 0.5, 0.5], atol=1e-12)


def test_labels_are_zero_or_one() -> None:
    y = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.5, 2.0]])
    with pytest.raises(InputError, match=r"2 values of y are not, first 0\.5 at row 1 of 'b'"):
        MultiLabel(LABELS).check(TargetBatch(y, torch.ones(2, 3, dtype=torch.bool)))
    MultiLabel(LABELS).check(TargetBatch(y, torch.tensor([[True] * 3, [True, False, False]])))
