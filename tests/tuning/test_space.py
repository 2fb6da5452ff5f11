"""The search space: what the configs say, what a user changes, and what is refused."""

from __future__ import annotations

import optuna
import pytest

from hybridflow import FlowDensity, FlowOutlierDetector, HybridClassifier, HybridRegressor
from hybridflow.config import Choice, Float, Int
from hybridflow.errors import ConfigError
from hybridflow.flows import RealNVP, SplineCoupling
from hybridflow.heads import BasisConfig, CategoricalHead
from hybridflow.training import TrainingConfig
from hybridflow.tuning import space_of
from hybridflow.tuning.parameter import Parameter


def names(space):
    return [item.name for item in space.entries if isinstance(item, Parameter)]


def chosen(space, values):
    """Return what a trial with some fixed values chooses."""
    study = optuna.create_study()
    study.enqueue_trial(values)
    return space.suggest(study.ask())


def test_the_space_is_that_of_the_configs():
    space = space_of(HybridClassifier())
    expected = {f"flow__{name}" for name in SplineCoupling.space()}
    expected |= {f"head__{name}" for name in CategoricalHead.space()}
    expected |= {f"training__{name}" for name in TrainingConfig.space()}
    assert set(names(space)) == expected | {"base__covariance", "likelihood_weight"}


def test_a_density_has_no_head_and_no_likelihood_weight():
    found = names(space_of(FlowDensity()))
    assert not [name for name in found if name.startswith(("head", "likelihood"))]


def test_the_flows_of_a_detector_are_left_alone():
    found = names(space_of(FlowOutlierDetector()))
    assert found
    assert not [name for name in found if name.startswith("flow")]


def test_the_first_trial_has_the_settings_of_the_estimator():
    estimator = HybridRegressor(RealNVP(layers=3), likelihood_weight=0.7)
    start = space_of(estimator).start()
    assert start["flow__layers"] == 3
    assert start["likelihood_weight"] == 0.7
    assert start["head__hidden_units"] == BasisConfig().hidden_units


@pytest.mark.parametrize(
    ("params", "name", "search"),
    [
        ({"flow": SplineCoupling(layers=12)}, "flow__layers", Int(2, 12)),
        ({"likelihood_weight": 50.0}, "likelihood_weight", Float(0.01, 50.0, log=True)),
        (
            {"training": TrainingConfig(batch_size=300)},
            "training__batch_size",
            Choice((128, 256, 512, 1024, 300)),
        ),
    ],
    ids=["int", "float", "choice"],
)
def test_ranges_are_widened_to_hold_the_start(params, name, search):
    entries = {item.name: item for item in space_of(HybridRegressor(**params)).entries}
    assert entries[name].search == search


def test_a_start_that_no_range_can_hold_is_not_searched():
    assert "likelihood_weight" not in names(space_of(HybridRegressor(likelihood_weight=0)))


def test_what_is_set_is_not_searched():
    space = space_of(HybridRegressor("maf"), {"flow__layers": 3, "likelihood_weight": 0.1})
    assert not {"flow__layers", "likelihood_weight"} & set(names(space))
    assert chosen(space, {})["flow__layers"] == 3


def test_any_field_may_be_searched_also_one_without_a_range():
    changes = {"training__steps": Int(100, 200), "quality": Choice(("fast", "default"))}
    found = names(space_of(HybridRegressor("maf"), changes))
    assert {"training__steps", "quality"} <= set(found)


def test_the_start_is_the_nearest_in_a_range_of_the_user():
    space = space_of(HybridRegressor(RealNVP(layers=8)), {"flow__layers": Int(2, 4)})
    assert space.start()["flow__layers"] == 4


def test_a_hidden_layer_matters_only_where_there_is_one():
    space = space_of(HybridRegressor("realnvp"))
    with_layers = chosen(space, {"head__basis": "hidden"})
    without = chosen(space, {"head__basis": "identity"})
    assert with_layers.keys() - without.keys() == {
        "head__hidden_units",
        "head__hidden_layers",
        "head__dropout",
    }
    fixed = space_of(HybridRegressor("realnvp"), {"head__basis": "identity"})
    assert "head__hidden_units" not in chosen(fixed, {})


def test_each_flow_has_its_own_fields():
    changes = {
        "flow": Choice(("maf", "spline-coupling")),
        "flow__layers": Int(2, 3),
        "flow__maf__hidden_units": 16,
    }
    space = space_of(HybridRegressor(), changes)
    maf, spline = (chosen(space, {"flow": flow}) for flow in ("maf", "spline-coupling"))
    assert "flow__bins" in spline
    assert "flow__bins" not in maf
    assert maf["flow__hidden_units"] == 16
    assert {"flow__maf__layers", "flow__spline-coupling__layers"} <= set(names(space))
    assert {item.search for item in space.entries if item.key == "flow__layers"} == {Int(2, 3)}


def test_a_head_that_needs_a_base_gets_it():
    changes = {"head": Choice(("categorical", "bayes")), "base": Choice(("normal", "student-t"))}
    space = space_of(HybridClassifier(), changes)
    assert chosen(space, {"head": "bayes"})["base"] == "class-conditional"
    assert chosen(space, {"head": "categorical", "base": "student-t"})["base"] == "student-t"


def test_a_plugin_brings_its_own_space(registry):
    found = names(space_of(FlowDensity("moody", registry=registry)))
    assert {"flow__mood", "flow__hidden_units"} <= set(found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flow__layer": 3}, "no parameter 'flow__layer'.*did you mean 'flow__layers'"),
        ({"flow__layers": Int(0, 3)}, "layers.*greater than or equal to 1"),
        ({"flow__layers": Int(5, 3)}, "flow__layers: the lower end comes first"),
        ({"flow__layers": 0}, "layers.*greater than or equal to 1"),
        ({"flow": Choice(("maf", "realnvq"))}, "unknown flow 'realnvq'"),
        ({"flow": Int(1, 2)}, "a flow is chosen by name"),
        ({"likelihood_weight": Float(0.0, 1.0, log=True)}, "lower end above 0"),
        ({"training__batch_size": Choice(())}, "at least one option"),
        ({"training": TrainingConfig()}, "training is not searched"),
        ({"callbacks": ()}, "callbacks is not searched"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_change_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        space_of(HybridRegressor("maf"), changes)
