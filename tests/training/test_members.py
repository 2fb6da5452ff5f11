"""Members: far cells, the rows each of them sees, the start from the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import hybridflow.estimators.members
from hybridflow import FlowDensity, HybridClassifier, HybridRegressor, TrainingConfig
from hybridflow.batches import Rows
from hybridflow.errors import TrainingDivergedError
from hybridflow.estimators.members import tame
from hybridflow.training import Trainer

BRIEF = TrainingConfig(steps=4)


def marked(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return rows that their first cell tells apart, and labels."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.permutation(n) / n, rng.normal(size=n)])
    return X, (X[:, 0] > 0.5).astype(float)


@pytest.fixture
def seen(monkeypatch) -> list[tuple[Trainer, set[float], set[float]]]:
    """Return what each trainer got to train on, and the first cells of all rows in its steps."""
    trainers = []

    class Spied(Trainer):
        def __init__(self, model, rows, held_out, *rest, **settings) -> None:
            super().__init__(model, rows, held_out, *rest, **settings)
            self.trained: set[float] = set()
            self.checked: set[float] = set()
            trainers.append(self)

        def losses(self, rows, noise, smoothing, **whole):
            kind = self.trained if torch.is_grad_enabled() else self.checked
            kind.update(rows.x[:, 0].tolist())
            return super().losses(rows, noise, smoothing, **whole)

    monkeypatch.setattr(hybridflow.estimators.members, "Trainer", Spied)
    return trainers


@pytest.mark.parametrize("kind", [HybridClassifier, HybridRegressor, FlowDensity])
def test_rows_that_are_held_out_never_train(seen, kind):
    X, y = marked()
    training = TrainingConfig(steps=12, batch_size=64)
    kind("realnvp", training=training, members=2, random_state=0).fit(X, y)
    everything = set(X[:, 0].tolist())
    for trainer in seen:
        assert len(trainer.trained) == 255
        assert len(trainer.checked) == 45
        assert trainer.trained | trainer.checked == everything
        assert not trainer.trained & trainer.checked
    assert not seen[0].checked & seen[1].checked


def test_given_positions_are_the_rows_held_out(seen):
    X, _ = marked()
    FlowDensity("realnvp", training=BRIEF, validation=np.arange(100, 140), random_state=0).fit(X)
    assert seen[0].checked == set(X[100:140, 0].tolist())


def test_the_start_from_the_data_takes_training_rows_alone():
    """Other values in the held-out rows leave every buffer of the preprocessing as it was."""
    X, _ = marked()
    held, other = np.arange(40), X.copy()
    other[held, 1] = np.linspace(-3, 3, 40)
    states = []
    for table in (X, other):
        model = FlowDensity("realnvp", training=BRIEF, validation=held, random_state=0).fit(table)
        states.append(model.models_[0].preprocess.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_rows_of_no_weight_are_in_no_role(seen):
    X, y = marked()
    weight = np.ones(300)
    weight[::10] = 0
    HybridClassifier("realnvp", training=BRIEF, random_state=0).fit(X, y, sample_weight=weight)
    assert not (seen[0].trained | seen[0].checked) & set(X[::10, 0].tolist())
    assert len(seen[0].trained | seen[0].checked) == 270


def one(x: torch.Tensor) -> Rows:
    weight = torch.ones(len(x), dtype=torch.float64)
    return Rows(x, None, weight, weight)


def test_far_cells_are_pulled_back_to_ten_deviations(make_rows, make_model):
    rows = make_rows(200)
    model = make_model(rows)
    x = rows.x.clone()
    x[3, 0], x[4, 1], x[5, 0] = 1e9, -1e200, float(rows.x[:, 0].mean() + 3 * rows.x[:, 0].std())
    tamed = tame(model, one(x))
    standard = model.preprocess(tamed.x)[0]
    assert float(standard[3, 0]) == pytest.approx(10)
    assert float(standard[4, 1]) == pytest.approx(-10)
    others = torch.ones_like(x, dtype=torch.bool)
    others[3, 0] = others[4, 1] = False
    assert torch.equal(tamed.x[others], x[others])  # to the last bit
    assert float(x[3, 0]) == 1e9  # what came in is as it was


def test_rows_that_are_near_are_not_copied(make_rows, make_model):
    rows = make_rows(200)
    assert tame(make_model(rows), rows) is rows


@pytest.mark.parametrize("far", [1e3, 1e50])
def test_one_far_cell_does_not_spoil_the_density_of_the_others(far):
    X, _ = marked()
    training = TrainingConfig(steps=30)
    spoilt = X.copy()
    spoilt[17, 1] = far
    scores = []
    for table in (X, spoilt):
        model = FlowDensity("realnvp", training=training, random_state=0).fit(table)
        scores.append(np.delete(model.score_samples(X), 17).mean())
        assert np.isfinite(model.score_samples(table)).all()
    assert scores[1] == pytest.approx(scores[0], abs=0.1)


def test_a_diverged_fit_names_its_flow(monkeypatch):
    X, _ = marked()
    clean = Trainer.losses

    def spoilt(self, rows, noise, smoothing, **whole):
        task, density = clean(self, rows, noise, smoothing, **whole)
        return task, density * float("nan")

    monkeypatch.setattr(Trainer, "losses", spoilt)
    with pytest.raises(TrainingDivergedError, match=r"^flow 'realnvp': the loss was not finite"):
        FlowDensity("realnvp", training=TrainingConfig(steps=60)).fit(X)


def test_answers_are_in_float64_and_take_no_gradient():
    X, y = marked()
    model = HybridClassifier("realnvp", training=BRIEF, random_state=0).fit(X, y).models_[0]
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
