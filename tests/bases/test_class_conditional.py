"""The class-conditional base: a mixture per class, started from the labelled rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats

from hybridflow.bases import ClassConditionalBase, hybridflow_bases
from hybridflow.densities import ClassConditional
from hybridflow.errors import ConfigError
from hybridflow.specs import Event, Target

SPEC = next(spec for spec in hybridflow_bases() if spec.name == "class-conditional")
NAN = float("nan")


def clusters(n: int = 300) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of three classes, 1/2, 1/3 and 1/6 of them, at distances of many deviations."""
    generator = torch.Generator().manual_seed(0)
    y = torch.tensor([0, 0, 0, 1, 1, 2]).repeat(n // 6)
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 20.0]]).double()
    noise = torch.randn(len(y), 2, generator=generator, dtype=torch.float64)
    return centres[y] + noise * torch.tensor([1.0, 2.0]), y.double()


def test_it_starts_from_the_labelled_rows_of_each_class() -> None:
    z, y = clusters()
    base = ClassConditional(2, 3).double()
    base.initialize(z, y=y[:, None])
    assert_allclose(base.mixture.means.detach(), [[0, 0], [10, 0], [0, 20]], atol=0.8)
    with torch.no_grad():
        joint = base.class_log_prob(z)
    assert (joint.argmax(1) == y).all()
    assert_allclose(torch.logsumexp(joint, 1), base.log_prob(z).detach(), rtol=1e-12)
    assert_allclose(
        torch.softmax(base.mixture.logits, 0).detach(), [1 / 2, 1 / 3, 1 / 6], rtol=0.03
    )


def test_class_log_prob_is_the_log_of_prior_times_density() -> None:
    z, y = clusters()
    base = ClassConditional(2, 3).double()
    base.initialize(z, y=y)
    with torch.no_grad():
        weights = torch.softmax(base.mixture.logits, 0).numpy()
        _, stds = base.mixture._components()
        found = base.class_log_prob(z)
    for c in range(3):
        law = stats.norm(base.mixture.means[c].detach().numpy(), stds[c].numpy())
        assert_allclose(found[:, c], np.log(weights[c]) + law.logpdf(z.numpy()).sum(1), rtol=1e-10)


def test_rows_without_a_label_start_no_class_and_one_label_is_enough() -> None:
    z, y = clusters()
    few = torch.full_like(y, NAN)
    for c in range(3):
        few[(y == c).nonzero()[:2]] = c
    base = ClassConditional(2, 3, components=2).double()
    base.initialize(z, y=few)
    assert (base.class_log_prob(z).argmax(1) == y).double().mean() > 0.9
    few[y == 2] = NAN  # a class with no label at all starts from all rows
    base.initialize(z, y=few)
    assert base.log_prob(z).isfinite().all()


def test_no_labels_leave_the_classes_alike() -> None:
    z, _ = clusters()
    base = ClassConditional(2, 3).double()
    base.initialize(z)
    joint = base.class_log_prob(z).detach()
    assert_allclose(joint, joint[:, :1].expand(-1, 3), rtol=1e-12)


def test_start_of_weights_is_start_of_repetitions() -> None:
    z, y = clusters(12)
    y[3] = NAN
    times = torch.tensor([1, 2, 0, 3, 1, 1, 4, 0, 1, 1, 2, 1])
    weighted, repeated = (ClassConditional(2, 3, 2).double() for _ in range(2))
    weighted.initialize(z, y=y, weight=times)
    repeated.initialize(z.repeat_interleave(times, 0), y=y.repeat_interleave(times))
    for a, b in zip(weighted.parameters(), repeated.parameters(), strict=True):
        assert_allclose(a.detach(), b.detach(), rtol=1e-10, atol=1e-10)


def test_rsample_reaches_every_parameter() -> None:
    base = ClassConditional(2, 3).double()
    z, y = clusters()
    base.initialize(z, y=y)
    drawn = base.rsample(100, generator=torch.Generator().manual_seed(0))
    slopes = torch.autograd.grad(drawn.sum(1).mean(), list(base.parameters()))
    assert all((slope != 0).any() for slope in slopes)
    # Moving all means together moves every row as far.
    found = dict(zip(dict(base.named_parameters()), slopes, strict=True))
    assert_allclose(found["mixture.means"].sum(0), [1, 1], rtol=1e-9)
    assert not base.sample(3).requires_grad


def test_the_entry_takes_the_classes_of_the_target() -> None:
    target = Target(kind="classification", classes=("a", "b", "c"))
    base = SPEC.build(Event.real(2), target, ClassConditionalBase(components=4))
    assert (base.classes, base.components) == (3, 4)
    for none in (None, Target(kind="regression")):
        assert SPEC.build(Event.real(2), none, ClassConditionalBase()).classes == 1


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="classes must be at least 1, got 0"):
        ClassConditional(2, 0)
    with pytest.raises(ConfigError, match="components must be at least 1, got 0"):
        ClassConditional(2, 3, components=0)
