"""Flows and bases together: twenty fixed pairs, trained on heavy-tailed rows."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from hybridflow import FlowDensity, TrainingConfig
from hybridflow.bases import hybridflow_bases
from hybridflow.flows import hybridflow_flows
from hybridflow.model import HybridModel

PAIRS = [
    ("spline-coupling", "student-t"),
    ("spline-coupling", "mixture"),
    ("spline-coupling", "logistic"),
    ("realnvp", "mixture"),
    ("realnvp", "laplace"),
    ("nice", "student-t"),
    ("glow", "class-conditional"),
    ("maf", "student-t"),
    ("maf", "logistic"),
    ("iaf", "laplace"),
    ("spline-autoregressive", "mixture"),
    ("linear-spline-coupling", "normal"),
    ("logistic-mixture-coupling", "student-t"),
    ("sigmoidal-autoregressive", "mixture"),
    ("planar", "student-t"),
    ("radial", "class-conditional"),
    ("sylvester", "mixture"),
    ("residual-flow", "laplace"),
    ("linear", "student-t"),
    ("iterative-gaussianization", "logistic"),
]
PAIRED = pytest.mark.parametrize(("flow", "base"), PAIRS, ids=[" on ".join(p) for p in PAIRS])
DIMENSIONS = pytest.mark.parametrize("features", [2, 7])
ITERATIVE = {spec.name for spec in hybridflow_flows() if spec.inverse == "iterative"}


def rows(features: int) -> np.ndarray:
    """Correlated rows of a t distribution with three degrees of freedom."""
    shape = 0.4 * np.ones((features, features)) + 0.6 * np.eye(features)
    return stats.multivariate_t(np.arange(features), shape, df=3, seed=0).rvs(400)


@functools.cache
def fitted(flow: str, base: str, features: int) -> HybridModel:
    training = TrainingConfig(steps=40, batch_size=128)
    model = FlowDensity(flow, base, training=training, random_state=0).fit(rows(features))
    assert model.audit_.ok, model.audit_.bad
    return model.models_[0]


def test_every_flow_and_base_but_those_of_other_supports_is_in_a_pair() -> None:
    alone = {
        "uniform",
        "circular-spline",
    }  # on columns with bounds: tests/estimators/test_columns.py
    alone |= {"actnorm", "realnvp-batchnorm", "i-resnet"}  # like linear, realnvp, residual-flow
    alone |= {"linear-spline-autoregressive", "additive-autoregressive"}  # the map is in a pair,
    alone |= {"logistic-mixture-autoregressive", "sigmoidal-coupling"}  # and so is the stack
    offered = {spec.name for spec in (*hybridflow_flows(), *hybridflow_bases())}
    assert {name for pair in PAIRS for name in pair} | alone == offered
    assert len(set(PAIRS)) == 20


@PAIRED
@DIMENSIONS
def test_rows_come_back_and_keep_a_density_as_far_as_1e8_deviations(flow, base, features) -> None:
    model = fitted(flow, base, features)
    generator = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, 8, 9, dtype=torch.float64).repeat_interleave(8)
    x = torch.randn(len(scale), features, generator=generator, dtype=torch.float64)
    x = (scale[:, None] * x).requires_grad_()
    log_density = model.log_density(x)
    assert log_density.isfinite().all()
    assert torch.autograd.grad(log_density.sum(), x)[0].isfinite().all()
    with torch.no_grad():
        back = model.data(model.latent(x)[0])
    error = (back - x).abs().amax(1) / x.abs().amax(1).clamp(min=1)
    assert error[scale <= 10].max() < (1e-6 if flow in ITERATIVE else 1e-9)
    assert error.max() < 1e-8 or flow in ITERATIVE
    assert error.max() < 1e-6


@PAIRED
@DIMENSIONS
def test_the_log_det_is_that_of_the_jacobian(flow, base, features) -> None:
    model = fitted(flow, base, features)
    x = torch.as_tensor(rows(features)[:4])
    _, ladj = model.latent(x)

    def latent(row: Tensor) -> Tensor:
        return model.latent(row[None])[0][0]

    jacobians = torch.stack([torch.autograd.functional.jacobian(latent, row) for row in x])
    expected = torch.linalg.slogdet(jacobians).logabsdet
    torch.testing.assert_close(ladj, expected, atol=1e-8, rtol=0)


@PAIRED
def test_samples_follow_a_density_of_mass_one(flow, base) -> None:
    """The mean over samples of r(x) / p(x) is the mass of a density r, which is 1."""
    model = fitted(flow, base, 2)
    with torch.no_grad():
        x = model.sample(4000, generator=torch.Generator().manual_seed(1))
        log_density = model.log_density(x)
    narrow = stats.multivariate_normal([0.0, 1.0], 0.5 * np.array([[1.0, 0.4], [0.4, 1.0]]))
    ratio = np.exp(narrow.logpdf(x.numpy()) - log_density.numpy())
    error = ratio.std() / np.sqrt(len(ratio))
    assert error < 0.05
    assert ratio.mean() == pytest.approx(1, abs=4 * error)
