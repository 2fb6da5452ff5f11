"""Events and targets survive JSON; specs refuse what they cannot mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hybridflow.config import Config
from hybridflow.errors import ConfigError, PluginContractError
from hybridflow.specs import (
    BaseSpec,
    Circle,
    Event,
    FlowSpec,
    HeadSpec,
    Interval,
    Positive,
    Real,
    Target,
    Token,
)

FACTS = {
    "row": Event.real(3),
    "row-with-context": Event.real(3, context_features=5),
    "no-density": Event.real(0, context_features=2),
    "image": Event(shape=(3, 8, 8), support=(Interval(low=0.0, high=1.0),)),
    "mixed-supports": Event(
        shape=(5,),
        support=(
            Real(),
            Positive(),
            Interval(low=-1.0, high=2.5),
            Circle(period=24.0),
            Token(size=7),
        ),
    ),
    "binary": Target(kind="classification", classes=(False, True)),
    "whole-number-labels": Target(kind="classification", classes=(-1, 1, 7)),
    "float-labels": Target(kind="classification", classes=(0.0, 1.0)),
    "text-labels": Target(kind="classification", classes=("no", "yes")),
    "number": Target(kind="regression", location=(3.5,), scale=(0.25,)),
    "count": Target(kind="regression", step=1.0),
    "two-numbers": Target(
        kind="regression", names=("a", "b"), location=(0.0, 1.0), scale=(1.0, 2.0)
    ),
}


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS.keys())
def test_facts_survive_json(fact: Event | Target) -> None:
    text = json.dumps(fact.model_dump(mode="json"), allow_nan=False)
    back = type(fact).from_json(json.loads(text))
    assert back == fact
    assert hash(back) == hash(fact)
    if isinstance(fact, Target) and isinstance(back, Target):
        assert [type(label) for label in back.classes] == [type(label) for label in fact.classes]


def test_an_event_counts_its_dimensions() -> None:
    assert FACTS["image"].features == 192
    assert FACTS["no-density"].features == 0
    assert FACTS["mixed-supports"].kinds == {"real", "positive", "interval", "circle", "token"}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Event.real(-1), "shape.0: input should be greater than or equal to 0"),
        (lambda: Event.real(2, context_features=-1), "context_features"),
        (lambda: Event(shape=(3,), support=(Real(), Real())), "2 entries for the shape (3,)"),
        (lambda: Event(shape=(3,), support=()), "0 entries for the shape (3,)"),
        (lambda: Event(shape=(1, 2, 2), support=(Real(),) * 4), "4 entries for the shape"),
        (lambda: Interval(low=1.0, high=1.0), "low must be below high, got 1.0 and 1.0"),
        (lambda: Circle(period=0.0), "period: input should be greater than 0"),
        (lambda: Token(size=0), "size: input should be greater than or equal to 1"),
        (
            lambda: Target(kind="ranking"),
            "kind: input should be 'classification', 'regression' or 'multi-label'",
        ),
        (lambda: Target(kind="regression", scale=(0.0,)), "scale.0: input should be greater"),
        (lambda: Target(kind="regression", step=-1.0), "step: input should be greater"),
        (lambda: Target(kind="regression", names=("a", "b")), "one entry per output, got 2, 1"),
        (lambda: Target(kind="regression", classes=(0, 1)), "a regression has no classes"),
    ],
)
def test_a_fact_that_contradicts_itself_is_a_config_error(build: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build()
    assert message in str(caught.value)


class Plain(Config):
    size: int = 1


class Needy(Config):
    size: int


def build(event: Event, config: Plain) -> Any:
    return None


@pytest.mark.parametrize("name", ["a", "nice", "spline-coupling", "student-t", "glow2", "2-d"])
def test_names_are_words_joined_by_hyphens(name: str) -> None:
    assert FlowSpec(name, "A flow", Plain, build).name == name


@pytest.mark.parametrize(
    "name",
    ["", "Glow", "two words", "a_b", "-a", "a-", "a--b", "a:b", "a/b", "os.system", "é", "a\n", 3],
)
@pytest.mark.parametrize("spec", [FlowSpec, BaseSpec])
def test_other_names_break_the_contract(spec: Any, name: Any) -> None:
    with pytest.raises(PluginContractError, match="a component's name is made of"):
        spec(name, "A part", Plain, build)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": dict}, "config must be a subclass of hybridflow.Config"),
        ({"config": Plain()}, "config must be a subclass of hybridflow.Config"),
        ({"config": Needy}, "every field of its config needs a default"),
        ({"build": None}, "build must be a function, got None"),
        ({"summary": "two\nlines"}, "summary must be one line"),
        ({"summary": None}, "summary must be one line"),
        ({"inverse": "approximate"}, "inverse is made of 'exact', 'iterative', 'none'"),
        ({"log_det": True}, "log_det is made of 'exact', 'estimated', got True"),
        ({"supports": ("complex",)}, "supports is made of 'real', "),
        ({"supports": ["real"]}, "supports is made of 'real', "),
        ({"supports": ()}, "supports is made of 'real', "),
    ],
    ids=str,
)
def test_a_flow_spec_states_claims_that_exist(change: dict[str, Any], message: str) -> None:
    parts = {"name": "part", "summary": "A flow", "config": Plain, "build": build, **change}
    with pytest.raises(PluginContractError) as caught:
        FlowSpec(**parts)
    assert message in str(caught.value)


@pytest.mark.parametrize("tasks", [(), ("ranking",), ["regression"], ("regression", "ranking")])
def test_a_head_spec_states_tasks_that_exist(tasks: Any) -> None:
    with pytest.raises(PluginContractError, match="tasks is made of"):
        HeadSpec("part", "A head", Plain, tasks, build)
