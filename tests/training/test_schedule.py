"""The weight of the density over a run: constant, or moving in a straight line."""

from __future__ import annotations

import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

from hybridflow import HybridClassifier, HybridRegressor, Schedule, TrainingConfig, load
from hybridflow.errors import ConfigError


class Losses:
    """Notes the loss that each step was taken on, and what it is made of."""

    def __init__(self, monkeypatch):
        self.seen = []
        backward = torch.autograd.backward

        def spy(loss):
            self.seen.append(loss.item())
            backward(loss)

        monkeypatch.setattr(torch.autograd, "backward", spy)


def weights_of_steps(trainer, monkeypatch) -> list[float]:
    """Return λ of each step, solved from the loss of the step and its two terms."""
    noted, parts, losses = Losses(monkeypatch), [], trainer.losses

    def spy(*arguments, **whole):
        task, density = losses(*arguments, **whole)
        if torch.is_grad_enabled():
            parts.append((task.item(), density.item()))
        return task, density

    trainer.losses = spy
    trainer.run()
    return [
        3 * (loss - task) / density for loss, (task, density) in zip(noted.seen, parts, strict=True)
    ]


def test_the_weight_of_each_step_moves_in_a_straight_line_and_stays(make_trainer, monkeypatch):
    schedule = Schedule(start=2.0, end=0.5, share=0.5)
    trainer = make_trainer(likelihood_weight=schedule, steps=12)
    expected = [2.0, 1.75, 1.5, 1.25, 1.0, 0.75, *[0.5] * 6]
    assert weights_of_steps(trainer, monkeypatch) == pytest.approx(expected, abs=1e-9)


def test_a_constant_schedule_is_the_number_bit_for_bit(make_trainer, make_rows):
    def fitted(weight):
        trainer = make_trainer(make_rows(200), make_rows(50, seed=1), likelihood_weight=weight)
        trainer.run()
        return trainer.model.state_dict(), trainer.state.history

    weights, history = fitted(0.7)
    others, other = fitted(Schedule(start=0.7, end=0.7, share=0.3))
    assert history == other
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_rows_are_judged_by_the_last_weight(make_trainer, make_rows):
    trainer = make_trainer(
        make_rows(200),
        make_rows(50, seed=1),
        likelihood_weight=Schedule(start=5.0, end=0.5),
        steps=40,
    )
    state = trainer.run()
    for record in state.history:
        assert record.value == pytest.approx(record.task + 0.5 / 3 * record.density)
    assert state.best_value == min(record.value for record in state.history)


def test_nothing_stops_early_before_the_weight_is_there(make_trainer, make_rows):
    def stopped(weight) -> int:
        trainer = make_trainer(
            make_rows(200),
            make_rows(50, seed=1),
            likelihood_weight=weight,
            steps=100,
            evaluations=50,
            patience=1,
        )
        trainer.keep_best(-1e9)  # which nothing gets better than
        return trainer.run().step

    assert stopped(0.3) == 2
    assert stopped(Schedule(start=1.0, end=0.3, share=0.6)) == 62


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_both_ends_are_met_exactly(share):
    schedule = Schedule(start=0.1, end=0.7, share=share)
    assert schedule.at(0, 40) == pytest.approx(0.1)
    assert schedule.at(round(40 * share), 40) == 0.7


@pytest.mark.parametrize("wrong", [{"start": -1.0}, {"start": 1.0, "share": 0.0}, {}])
def test_what_is_no_schedule_is_refused(wrong):
    with pytest.raises(ConfigError, match="Schedule: "):
        Schedule(**wrong)


def test_its_parameters_are_those_of_an_estimator():
    model = HybridRegressor().set_params(likelihood_weight__start=2)
    assert model.likelihood_weight == Schedule(start=2.0, end=0.3)
    assert clone(model).likelihood_weight == model.likelihood_weight
    for setting in ParameterGrid({"likelihood_weight__end": [0.1, 0.2]}):
        model.set_params(**setting)
        assert model.get_params()["likelihood_weight__end"] == setting["likelihood_weight__end"]
    assert set(Schedule.space()) == {"start", "end", "share"}


def test_it_is_kept_in_a_model_file(tmp_path):
    X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)).numpy()
    schedule = Schedule(start=1.0, end=0.1)
    model = HybridClassifier(
        likelihood_weight=schedule, training=TrainingConfig(steps=5), members=1, random_state=0
    ).fit(X, X[:, 0] > 0)
    model.save(tmp_path / "model.hflow")
    assert load(tmp_path / "model.hflow").likelihood_weight == schedule
