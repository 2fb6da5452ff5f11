"""Few labelled rows: how much of what they say reaches the hidden layers and the flow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hybridflow import HybridClassifier, TrainingConfig, load
from hybridflow.likelihoods import HiddenBasis
from hybridflow.specs import Event


def gain(model: HybridClassifier) -> float:
    """Return what the hidden layers of the first member are scaled by."""
    bases = [m for m in model.models_[0].modules() if isinstance(m, HiddenBasis)]
    assert len(bases) == 1
    return float(bases[0].gain)


def test_the_gain_scales_the_hidden_layers_alone() -> None:
    basis = HiddenBasis(Event.real(2), units=4).double()
    z = torch.randn(6, 2, dtype=torch.float64)
    whole = basis(z)
    basis.gain.fill_(0.25)
    torch.testing.assert_close(basis(z), whole * torch.tensor([1.0, 1, 0.25, 0.25, 0.25, 0.25]))


@pytest.mark.parametrize(
    ("labelled", "expected"),
    [(12, (12 / 2 / 30 / 2) ** 2), (60, 0.25), (150, 1.0)],
    ids=["few", "some", "enough"],
)
def test_the_gain_counts_labelled_rows_per_column(labelled: int, expected: float, tmp_path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 2))
    y = np.full(160, -1)
    y[:labelled] = X[:labelled, 0] > 0
    y = np.where(y < 0, None, np.where(y == 1, "yes", "no"))
    model = HybridClassifier(random_state=0, training=TrainingConfig(steps=4)).fit(X, y)
    assert gain(model) == pytest.approx(expected, rel=1e-5)
    model.save(tmp_path / "model.hflow")
    again = load(tmp_path / "model.hflow")
    assert gain(again) == gain(model)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
