"""Training with less memory: the same steps, and refused where a flow cannot do it."""

from __future__ import annotations

import pytest
import torch

from hybridflow.errors import ConfigError
from hybridflow.transforms import Compose, Identity, Inverse
from hybridflow.transforms.planar import Planar


def test_the_losses_are_those_of_plain(make_trainer) -> None:
    histories = {}
    for memory in ("plain", "checkpoint", "reversible"):
        trainer = make_trainer(memory=memory, steps=20, noised=True, away=0.1)
        state = trainer.run()
        histories[memory] = torch.tensor([record.value for record in state.history])
        assert len(histories[memory]) > 5
    for memory in ("checkpoint", "reversible"):
        torch.testing.assert_close(histories[memory], histories["plain"], rtol=1e-9, atol=1e-9)


class Watch:
    """Notes the setting of a flow at each step."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.flow: Compose

    def on_step_end(self, state) -> None:
        self.seen.add(self.flow.memory)

    def on_fit_start(self, state) -> None: ...

    on_validation = on_fit_end = on_fit_start


@pytest.mark.parametrize(
    ("built", "config", "used"),
    [
        ("plain", "reversible", "reversible"),
        ("checkpoint", "plain", "checkpoint"),
        ("reversible", "checkpoint", "checkpoint"),
    ],
    ids=["less", "as-built", "other"],
)
def test_the_setting_holds_while_training(make_trainer, built, config, used) -> None:
    watch = Watch()
    trainer = make_trainer(memory=config, steps=2, callbacks=(watch,))
    watch.flow = trainer.model.flow
    watch.flow.memory = built
    trainer.run()
    assert watch.seen == {used}
    assert watch.flow.memory == built


def test_a_flow_that_cannot_is_an_error(make_trainer) -> None:
    trainer = make_trainer(memory="reversible")
    flow = trainer.model.flow
    trainer.model.flow = Inverse(flow)
    with pytest.raises(ConfigError, match=r"training__memory='reversible' is for .* type Inverse"):
        trainer.run()
    trainer.model.flow = Compose([*flow, Planar(3)])
    with pytest.raises(ConfigError, match="Planar has no exact inverse"):
        trainer.run()


def test_a_flow_without_parameters_needs_no_memory(make_trainer) -> None:
    trainer = make_trainer(memory="reversible", steps=2)
    trainer.model.flow = Identity()
    assert trainer.run().step == 2
