"""Configs are strict, frozen, JSON-able, and carry their search space."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import pytest
from pydantic import Field
from sklearn.base import clone

from hybridflow.config import Choice, Config, Float, Int
from hybridflow.errors import ConfigError
from hybridflow.registry import Entry, Registry, default_registry


class Inner(Config):
    depth: Annotated[int, Field(ge=0)] = 1


class Stack(Config):
    layers: Annotated[int, Field(ge=1, le=64), Int(2, 8)] = 4
    rate: Annotated[float, Field(gt=0), Float(1e-4, 1e-1, log=True)] = 0.01
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = (64, 64)
    activation: Annotated[Literal["relu", "tanh"], Choice(("relu", "tanh"))] = "relu"
    residual: bool = False
    bound: float | None = None
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": 0}, "Stack: layers: input should be greater than or equal to 1, got 0"),
        ({"layers": -1}, "layers: input should be greater than or equal to 1, got -1"),
        ({"layers": 65}, "layers: input should be less than or equal to 64, got 65"),
        ({"layers": 1.5}, "layers: input should be a valid integer, got 1.5"),
        ({"layers": 4.0}, "layers: input should be a valid integer, got 4.0"),
        ({"layers": "8"}, "layers: input should be a valid integer, got '8'"),
        ({"layers": True}, "layers: input should be a valid integer, got True"),
        ({"layers": None}, "layers: input should be a valid integer, got None"),
        ({"layers": np.float64(4)}, "layers: input should be a valid integer, got 4.0"),
        ({"rate": "0.1"}, "rate: input should be a valid number, got '0.1'"),
        ({"rate": True}, "rate: input should be a valid number, got True"),
        ({"rate": math.nan}, "rate: input should be "),
        ({"rate": math.inf}, "rate: input should be a finite number, got inf"),
        ({"rate": 0.0}, "rate: input should be greater than 0, got 0.0"),
        ({"residual": 1}, "residual: input should be a valid boolean, got 1"),
        ({"activation": "tahn"}, "activation: input should be 'relu' or 'tanh', got 'tahn'"),
        ({"hidden": [64]}, "hidden: input should be a valid tuple, got [64]"),
        ({"hidden": (64, 0)}, "hidden.1: input should be greater than or equal to 1, got 0"),
        ({"inner": {"depth": -1}}, "inner.depth: input should be greater than or equal to 0"),
        ({"layer": 3}, "layer: unknown parameter; known are layers, rate, "),
        ({"layer": 3}, "did you mean 'layers'?"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_a_config_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Stack(**values)
    assert message in str(caught.value)
    assert not isinstance(caught.value, pydantic.ValidationError)
    assert caught.value.__cause__ is None


def test_every_wrong_field_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        Stack(layers=0, rate=-1.0)
    assert len(str(caught.value).splitlines()) == 2


def test_a_missing_field_is_a_config_error() -> None:
    class Needy(Config):
        size: int

    with pytest.raises(ConfigError, match="Needy: size: field required"):
        Needy()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"layers": np.int64(3)}, {"layers": 3}),
        ({"layers": np.uint8(3)}, {"layers": 3}),
        ({"layers": np.array(3)}, {"layers": 3}),
        ({"rate": np.float32(0.5)}, {"rate": 0.5}),
        ({"rate": 1}, {"rate": 1.0}),
        ({"residual": np.bool_(True)}, {"residual": True}),
        ({"activation": np.str_("tanh")}, {"activation": "tanh"}),
        ({"hidden": (np.int64(8), 4)}, {"hidden": (8, 4)}),
    ],
    ids=str,
)
def test_numpy_scalars_become_python_ones(given: dict[str, Any], kept: dict[str, Any]) -> None:
    config = Stack(**given)
    assert config == Stack(**kept)
    for name, value in kept.items():
        assert type(getattr(config, name)) is type(value)


def test_the_search_space_is_what_the_annotations_say() -> None:
    assert Stack.space() == {
        "layers": Int(2, 8),
        "rate": Float(1e-4, 1e-1, log=True),
        "activation": Choice(("relu", "tanh")),
    }
    assert Inner.space() == {}


def test_a_config_cannot_be_changed() -> None:
    config = Stack()
    with pytest.raises(ConfigError, match=r"replace\(layers=6\)"):
        config.layers = 6
    with pytest.raises(ConfigError, match="cannot be changed"):
        config.unknown = 6
    assert config == Stack()


def test_replace_validates_and_leaves_the_original() -> None:
    config = Stack(layers=2)
    assert config.replace(rate=0.5) == Stack(layers=2, rate=0.5)
    assert config == Stack(layers=2)
    with pytest.raises(ConfigError, match="layers"):
        config.replace(layers=0)
    with pytest.raises(ConfigError, match="did you mean 'layers'"):
        config.replace(layrs=3)


def test_equal_configs_hash_alike() -> None:
    assert len({Stack(), Stack(layers=4), Stack(layers=5)}) == 2
    assert Inner() != Stack()


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, clone, lambda config: pickle.loads(pickle.dumps(config))],
    ids=["copy", "deepcopy", "clone", "pickle"],
)
def test_copies_are_equal(copied: Any) -> None:
    config = Stack(layers=7, inner=Inner(depth=3))
    assert copied(config) == config
    assert type(copied(config)) is Stack


def test_get_params_lists_every_field() -> None:
    assert Stack(layers=7).get_params() == {
        "layers": 7,
        "rate": 0.01,
        "hidden": (64, 64),
        "activation": "relu",
        "residual": False,
        "bound": None,
        "inner": Inner(),
    }


def test_json_comes_back_as_it_went() -> None:
    config = Stack(layers=7, hidden=(3,), bound=2.5, inner=Inner(depth=3))
    document = config.model_dump(mode="json")
    assert document["hidden"] == [3]
    assert Stack.from_json(document) == config


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "layers",
        {"layers": "8"},
        {"layers": 4.0},
        {"layers": True},
        {"unknown": 1},
        {"rate": math.nan},
        {"inner": {"depth": "1"}},
        {"inner": {"unknown": 1}},
        {"layers": {1}},
        {"layers": 10**400},
    ],
    ids=str,
)
def test_a_wrong_document_is_a_config_error(document: Any) -> None:
    with pytest.raises(ConfigError, match="Stack"):
        Stack.from_json(document)


def components() -> list[Entry]:
    return Registry(entry_points=False).entries()


@pytest.mark.parametrize("entry", components(), ids=lambda entry: f"{entry.kind}-{entry.name}")
class TestBuiltInConfigs:
    def test_round_trip(self, entry: Entry) -> None:
        _, config = default_registry().resolve(entry.kind, entry.name)
        assert type(config).from_json(config.model_dump(mode="json")) == config
        assert pickle.loads(pickle.dumps(config)) == config
        assert hash(config) == hash(clone(config))

    def test_the_search_space_lies_within_the_bounds(self, entry: Entry) -> None:
        _, config = default_registry().resolve(entry.kind, entry.name)
        for name, search in type(config).space().items():
            ends = search.options if isinstance(search, Choice) else (search.low, search.high)
            for end in ends:
                assert getattr(config.replace(**{name: end}), name) == end

    def test_unknown_parameters_are_refused(self, entry: Entry) -> None:
        _, config = default_registry().resolve(entry.kind, entry.name)
        with pytest.raises(ConfigError, match="unknown parameter"):
            config.replace(no_such_parameter=1)

    def test_the_config_belongs_to_this_component_alone(self, entry: Entry) -> None:
        spec, config = default_registry().resolve(entry.kind, entry.name)
        assert default_registry().resolve(entry.kind, config) == (spec, config)
