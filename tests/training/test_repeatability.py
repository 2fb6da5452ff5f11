"""The same seed gives the same model, bit for bit, and the caller's process stays as it was."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from hybridflow import FlowDensity, HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.guards import building


def table(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return rows with a tied column, and labels of which some are missing."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(n, 2)), rng.integers(0, 5, n)])
    y = (X[:, 0] > 0).astype(float)
    y[::7] = np.nan
    return X, y


def fit(kind, seed, n: int = 300):
    X, y = table(n)
    training = TrainingConfig(steps=12, batch_size=64)
    return kind("realnvp", training=training, random_state=seed, members=2).fit(
        X, None if kind is FlowDensity else y
    )


def weights(estimator) -> torch.Tensor:
    return torch.cat(
        [v.double().flatten() for m in estimator.models_ for v in m.state_dict().values()]
    )


@pytest.mark.parametrize(
    ("kind", "n"), [(HybridClassifier, 300), (HybridRegressor, 60), (FlowDensity, 300)]
)
def test_a_seed_repeats_a_fit_bit_for_bit(kind, n):
    first = fit(kind, 3, n)
    torch.manual_seed(99)  # what the caller draws in between has no part in it
    np.random.seed(99)  # noqa: NPY002 - the global state is what is tested
    second, third = fit(kind, 3, n), fit(kind, 4, n)
    assert torch.equal(weights(first), weights(second))
    assert first.histories_ == second.histories_
    assert not torch.equal(weights(first), weights(third))


def test_a_random_state_object_repeats_as_its_seed_does():
    one, two = (fit(FlowDensity, np.random.RandomState(3)) for _ in range(2))
    assert torch.equal(weights(one), weights(two))
    assert torch.equal(weights(one), weights(fit(FlowDensity, 3)))


def test_members_differ():
    model = fit(HybridClassifier, 3)
    one, two = (m.state_dict() for m in model.models_)
    assert not all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("kind", [HybridClassifier, FlowDensity])
def test_the_state_of_the_process_is_left_alone(kind, dtype):
    threads = torch.get_num_threads()
    torch.set_default_dtype(dtype)
    try:
        before = (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002 - the global state is what is tested
            random.getstate(),
        )
        model = fit(kind, 3)
        model.score_samples(table()[0])
        model.sample(3, random_state=0)
        after = (
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),  # noqa: NPY002
            random.getstate(),
        )
        assert before == after
        assert torch.get_default_dtype() == dtype
        assert torch.get_num_threads() == threads
        assert torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_default_dtype_of_the_caller_has_no_part_in_the_model():
    plain = weights(fit(FlowDensity, 3))
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(weights(fit(FlowDensity, 3)), plain)
    finally:
        torch.set_default_dtype(torch.float32)


def _fails_in_float32() -> None:
    assert torch.rand(3).dtype == torch.float32
    raise ZeroDivisionError


def test_building_restores_everything_after_an_error():
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ZeroDivisionError), building(3):
            _fails_in_float32()
        assert torch.get_default_dtype() == torch.float64
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_default_dtype(dtype)


def test_building_seeds_no_other_device(monkeypatch):
    """The random state of an accelerator is the caller's too, and is not put back."""

    def refuse(seed) -> None:
        raise AssertionError("seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    with building(3):
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(3)))


def test_building_draws_the_same_for_the_same_seed():
    drawn = []
    for seed in (3, 3, 4):
        with building(seed):
            drawn.append(torch.rand(5))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
